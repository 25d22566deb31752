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
    /// Rows that may be seen in all; `None` has no bound.
    rows_left: Option<u32>,
    /// The place to go on from, and rows that were seen behind it: they come again.
    place: Bytes,
    rows_ahead: u32,
    last: Option<Key>,
    /// Since when it gets no further.
    failing: Option<(Instant, Duration)>,
}

impl Walk {
    pub(crate) fn new(client: Client, options: ScanOptions, patience: Duration) -> Self {
        Self {
            client,
            rows_left: (options.rows_max > 0).then_some(options.rows_max),
            options,
            patience,
            scan: None,
            place: Bytes::new(),
            rows_ahead: 0,
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
                    let is_new = self.last.as_ref().is_none_or(|last| key > *last);
                    self.count(is_new);
                    if !is_new {
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
                Err(error) => {
                    if self.go_on_after(error).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Counts a row against the bound, unless it came before.
    fn count(&mut self, is_new: bool) {
        if is_new {
            self.rows_left = self.rows_left.map(|left| left.saturating_sub(1));
        }
        let place = self.scan.as_ref().map(Scan::page_token);
        match place.filter(|place| **place != self.place) {
            Some(place) => (self.place, self.rows_ahead) = (place.clone(), 0),
            None => self.rows_ahead += 1,
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

    /// Waits before the next try, if there is to be one. True if none is needed: the last row was seen.
    async fn go_on_after(&mut self, error: Error) -> Result<bool, Error> {
        if let Some(scan) = self.scan.take() {
            if *scan.page_token() != self.options.page_token {
                // It got further.
                self.failing = None;
            }
            self.options.page_token = scan.page_token().clone();
            if *scan.page_token() != self.place {
                (self.place, self.rows_ahead) = (scan.page_token().clone(), 0);
            }
        }
        let Error::NotApplied { retry_after, .. } = &error else {
            return Err(error);
        };
        let (since, delay) = self.failing.unwrap_or((Instant::now(), RETRY_DELAY_MIN));
        if since.elapsed() >= self.patience {
            return Err(error);
        }
        if let Some(left) = self.rows_left {
            self.options.rows_max = left + std::mem::take(&mut self.rows_ahead);
            if self.options.rows_max == 0 {
                return Ok(true);
            }
        }
        sleep(retry_after.unwrap_or(delay).max(delay)).await;
        self.failing = Some((since, (delay * 2).min(RETRY_DELAY_MAX)));
        Ok(false)
    }
}

fn broken(what: &str) -> Error {
    Error::NotApplied {
        reason: freehold_client::error::NO_ANSWER.to_owned(),
        message: format!("the router's answer makes no sense: {what}"),
        retry_after: None,
    }
}
