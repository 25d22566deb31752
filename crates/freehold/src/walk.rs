//! A scan that goes on where it was interrupted.
//!
//! Rows come in (slot, key) order, so after an interruption the scan begins again at its last page
//! token, and rows up to the last one that was seen are left out.

use std::time::Duration;

use bytes::Bytes;
use freehold_client::{Client, Entry, Error, Scan, ScanOptions};
use freehold_core::Key;
use tokio::time::{Instant, sleep};

const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(3);

/// A walk over live keys.
pub(crate) struct Walk {
    client: Client,
    options: ScanOptions,
    /// How long a walk that gets no further may go on trying.
    patience: Duration,
    scan: Option<Scan>,
    last: Option<Key>,
    /// Since when it gets no further.
    failing: Option<(Instant, Duration)>,
}

impl Walk {
    pub(crate) fn new(client: Client, options: ScanOptions, patience: Duration) -> Self {
        Self {
            client,
            options,
            patience,
            scan: None,
            last: None,
            failing: None,
        }
    }

    /// The next key, or `None` when all of them, or `rows_max`, were seen.
    pub(crate) async fn next(&mut self) -> Result<Option<(Key, Entry)>, Error> {
        loop {
            match self.step().await {
                Ok(Some((key, entry))) => {
                    self.failing = None;
                    let key = Key::new(key).map_err(|error| broken(&error.to_string()))?;
                    self.check_slot(&key)?;
                    if self.last.as_ref().is_some_and(|last| key <= *last) {
                        continue;
                    }
                    self.last = Some(key.clone());
                    return Ok(Some((key, entry)));
                }
                Ok(None) => {
                    let Some(scan) = self.scan.take() else {
                        return Ok(None);
                    };
                    let moved = *scan.page_token() != self.options.page_token;
                    self.options.page_token = scan.page_token().clone();
                    if scan.is_complete() {
                        self.options.page_token = Bytes::new();
                        return Ok(None);
                    }
                    if self.options.rows_max > 0 {
                        return Ok(None);
                    }
                    if !moved {
                        return Err(broken("the scan ended without a place to go on from"));
                    }
                }
                Err(error) => self.wait_after(error).await?,
            }
        }
    }

    /// A router that does not know ranges of slots would walk all of them each time.
    fn check_slot(&self, key: &Key) -> Result<(), Error> {
        match &self.options.slots {
            Some(slots) if !slots.contains(&key.slot().0) => Err(broken(&format!(
                "a key of slot {} in a scan over slots {} to {}; is it older than this program?",
                key.slot(),
                slots.start(),
                slots.end()
            ))),
            _ => Ok(()),
        }
    }

    /// Where to go on after `rows_max` rows; empty if nothing is left.
    pub(crate) fn page_token(&self) -> &Bytes {
        &self.options.page_token
    }

    async fn step(&mut self) -> Result<Option<(Bytes, Entry)>, Error> {
        if self.scan.is_none() {
            self.scan = Some(self.client.scan(&self.options).await?);
        }
        match &mut self.scan {
            Some(scan) => scan.next().await,
            None => Ok(None),
        }
    }

    /// Waits before the next try, if there is to be one.
    async fn wait_after(&mut self, error: Error) -> Result<(), Error> {
        if let Some(scan) = self.scan.take() {
            if *scan.page_token() != self.options.page_token {
                // It got further.
                self.failing = None;
            }
            self.options.page_token = scan.page_token().clone();
        }
        let Error::NotApplied { retry_after, .. } = &error else {
            return Err(error);
        };
        let (since, delay) = self.failing.unwrap_or((Instant::now(), RETRY_DELAY_MIN));
        if self.options.rows_max > 0 || since.elapsed() >= self.patience {
            return Err(error);
        }
        sleep(retry_after.unwrap_or(delay).max(delay)).await;
        self.failing = Some((since, (delay * 2).min(RETRY_DELAY_MAX)));
        Ok(())
    }
}

fn broken(what: &str) -> Error {
    Error::NotApplied {
        reason: freehold_client::error::NO_ANSWER.to_owned(),
        message: format!("the router's answer makes no sense: {what}"),
        retry_after: None,
    }
}
