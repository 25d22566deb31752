//! Walking keys as a stream.

use std::{ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use freehold_proto::v1;
use tonic::Streaming;

use crate::{
    client::Client,
    error::{CallKind, Error},
    types::{Consistency, Entry},
    unary,
};

/// What to walk.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// Only keys that begin with it; empty means all.
    pub prefix: Bytes,
    /// Only keys of these slots; `None` means all. Walks over ranges that do not overlap read a
    /// store at once.
    pub slots: Option<RangeInclusive<u16>>,
    /// Where to go on: [`Scan::page_token`] of a walk with the same prefix and slots. Empty: at the
    /// start.
    pub page_token: Bytes,
    /// The stream ends after so many rows, 1 to 1,000; 0 means that it goes on to the end.
    pub rows_max: u32,
    /// How fresh the rows must be.
    pub consistency: Consistency,
}

/// A walk under way.
#[derive(Debug)]
pub struct Scan {
    stream: Streaming<v1::ScanResponse>,
    /// For each message.
    timeout: Duration,
    page_token: Bytes,
    complete: bool,
}

impl Scan {
    pub(crate) async fn open(
        client: &Client,
        options: &ScanOptions,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let request = v1::ScanRequest {
            prefix: options.prefix.clone(),
            page_token: options.page_token.clone(),
            page_size: options.rows_max,
            read: options.consistency.to_wire(),
            slots: options.slots.as_ref().map(|slots| v1::SlotRange {
                first: (*slots.start()).into(),
                last: (*slots.end()).into(),
            }),
        };
        // No deadline travels with the call: it would end a long walk in the middle.
        let response = unary::call(client, CallKind::Read, timeout, |mut stub, _left| {
            let request = request.clone();
            async move { stub.scan(request).await }
        })
        .await?;
        Ok(Self {
            stream: response,
            timeout,
            page_token: options.page_token.clone(),
            complete: false,
        })
    }

    /// The next live key, or `None` at the end of the stream.
    ///
    /// # Errors
    /// [`Error`]; go on from [`Self::page_token`], and leave out the rows that came after it.
    pub async fn next(&mut self) -> Result<Option<(Bytes, Entry)>, Error> {
        loop {
            let message = tokio::time::timeout(self.timeout, self.stream.message())
                .await
                .map_err(|_| late(self.timeout))?
                .map_err(|status| Error::from_status(&status, CallKind::Read))?;
            let Some(message) = message else {
                return Ok(None);
            };
            if !message.page_token.is_empty() {
                self.page_token = message.page_token;
            } else if message.entry.is_none() {
                self.complete = true;
            }
            if let Some(entry) = message.entry {
                return Ok(Some((message.key, entry.into())));
            }
        }
    }

    /// Where to go on after an error, or after a stream that ended before the walk was complete.
    /// Every row before this place was returned.
    #[must_use]
    pub fn page_token(&self) -> &Bytes {
        &self.page_token
    }

    /// Whether nothing is left to walk.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }
}

fn late(timeout: Duration) -> Error {
    Error::no_answer(
        format!("no row arrived in {} ms", timeout.as_millis()),
        CallKind::Read,
    )
}
