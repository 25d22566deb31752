//! Writing batches, one after another, and trying again what was certainly not applied.

use std::{collections::BTreeMap, time::Duration};

use freehold_client::{Client, Error, Write, error::NOT_SENT};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    reader::{self, Batch, Item},
    report::{Event, Outcome},
};
use crate::ndjson::Record;

const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);

/// A task that writes.
pub(super) struct Writer {
    client: Client,
    patience: Duration,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    /// False since a batch was given up, until one goes through whole: lines of a shard that stays
    /// down must not wait one after another.
    patient: bool,
}

/// What a try left behind.
#[derive(Default)]
struct Tried {
    stored: u64,
    /// Not applied, with the last error.
    left: Vec<Item>,
    last_error: Option<Error>,
    failed: BTreeMap<(Outcome, String), Vec<u64>>,
}

impl Writer {
    pub(super) fn new(
        client: Client,
        patience: Duration,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            client,
            patience,
            events,
            stop,
            patient: true,
        }
    }

    pub(super) async fn run(mut self, mut batches: mpsc::Receiver<Batch>) {
        loop {
            let batch = tokio::select! {
                batch = batches.recv() => batch,
                // The reader may wait for input that never comes.
                () = self.stop.cancelled() => {
                    batches.close();
                    batches.recv().await
                }
            };
            let Some(batch) = batch else { return };
            let input_bytes = batch.input_bytes;
            self.write(batch.items).await;
            self.tell(Event::Read(input_bytes)).await;
        }
    }

    async fn write(&mut self, mut items: Vec<Item>) {
        let started = Instant::now();
        let mut delay = RETRY_DELAY_MIN;
        loop {
            if self.stop.is_cancelled() {
                return self.give_up(items, reader::NOT_SENT.to_owned()).await;
            }
            let tried = self.attempt(items).await;
            self.tell(Event::Stored(tried.stored)).await;
            for ((outcome, error), lines) in tried.failed {
                self.tell(Event::Failed {
                    lines,
                    outcome,
                    error,
                })
                .await;
            }
            items = tried.left;
            let Some(error) = tried.last_error else {
                self.patient = true;
                return;
            };
            if !self.patient || started.elapsed() >= self.patience {
                self.patient = false;
                if matches!(&error, Error::NotApplied { reason, .. } if reason == NOT_SENT) {
                    let waited = humantime::format_duration(self.patience);
                    let why = format!("no router answered for {waited}: {error}");
                    self.tell(Event::Stopped(why)).await;
                    self.stop.cancel();
                }
                return self.give_up(items, error.to_string()).await;
            }
            let asked = match &error {
                Error::NotApplied { retry_after, .. } => retry_after.unwrap_or_default(),
                _ => Duration::ZERO,
            };
            tokio::select! {
                () = sleep(asked.max(delay)) => delay = (delay * 2).min(RETRY_DELAY_MAX),
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn attempt(&self, items: Vec<Item>) -> Tried {
        let mut tried = Tried::default();
        if let [item] = items.as_slice() {
            // Alone a value may be larger than any batch.
            let result = self.write_alone(item).await;
            tried.sort(items, vec![result]);
            return tried;
        }
        let results = match self.client.batch_write(items.iter().map(put)).await {
            Ok(results) => results.into_iter().map(|result| result.map(drop)).collect(),
            // One of them breaks a limit: each gets its own verdict.
            Err(Error::InvalidArgument { .. }) => {
                let mut results = Vec::with_capacity(items.len());
                for item in &items {
                    results.push(self.write_alone(item).await);
                }
                results
            }
            Err(error) => vec![Err(error); items.len()],
        };
        tried.sort(items, results);
        tried
    }

    async fn write_alone(&self, item: &Item) -> Result<(), Error> {
        let Record { key, value, ttl } = &item.record;
        self.client
            .put(key.bytes().clone(), value.clone())
            .ttl(*ttl)
            .await
            .map(drop)
    }

    async fn give_up(&self, items: Vec<Item>, error: String) {
        let lines = items.iter().map(|item| item.line).collect();
        self.tell(Event::Failed {
            lines,
            outcome: Outcome::NotApplied,
            error,
        })
        .await;
    }

    async fn tell(&self, event: Event) {
        // Nobody listens only when the command is over.
        let _ = self.events.send(event).await;
    }
}

impl Tried {
    fn sort(&mut self, items: Vec<Item>, results: Vec<Result<(), Error>>) {
        debug_assert_eq!(items.len(), results.len());
        for (item, result) in items.into_iter().zip(results) {
            let (outcome, error) = match result {
                Ok(()) => {
                    self.stored += 1;
                    continue;
                }
                Err(error @ Error::NotApplied { .. }) => {
                    self.left.push(item);
                    self.last_error = Some(error);
                    continue;
                }
                Err(error @ Error::OutcomeUnknown { .. }) => (Outcome::Unknown, error),
                Err(error @ Error::InvalidArgument { .. }) => (Outcome::Bad, error),
                Err(error @ Error::Refused { .. }) => (Outcome::NotApplied, error),
            };
            self.failed
                .entry((outcome, error.to_string()))
                .or_default()
                .push(item.line);
        }
    }
}

fn put(item: &Item) -> Write {
    let Record { key, value, ttl } = &item.record;
    Write::Put {
        key: key.bytes().clone(),
        value: value.clone(),
        ttl: *ttl,
    }
}

#[cfg(test)]
mod tests {
    use freehold_core::Key;

    use super::*;

    fn item(line: u64) -> Item {
        let record = Record {
            key: Key::new(line.to_string()).unwrap(),
            value: "".into(),
            ttl: None,
        };
        Item { line, record }
    }

    #[test]
    fn only_what_was_certainly_not_applied_is_tried_again() {
        let message = || "words".to_owned();
        let not_applied = Error::NotApplied {
            reason: "QUEUE_FULL".into(),
            message: message(),
            retry_after: None,
        };
        let results = vec![
            Ok(()),
            Err(not_applied.clone()),
            Err(Error::OutcomeUnknown { message: message() }),
            Err(Error::InvalidArgument {
                field: "value".into(),
                message: message(),
            }),
            Err(Error::OutcomeUnknown { message: message() }),
        ];
        let mut tried = Tried::default();
        tried.sort((1..=5).map(item).collect(), results);
        assert_eq!(tried.stored, 1);
        assert_eq!(
            tried.left.iter().map(|item| item.line).collect::<Vec<_>>(),
            [2]
        );
        assert_eq!(tried.last_error, Some(not_applied));
        assert_eq!(tried.failed[&(Outcome::Unknown, message())], [3, 5]);
        assert_eq!(tried.failed[&(Outcome::Bad, message())], [4]);
    }
}
