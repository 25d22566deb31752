//! Where everything that happens is written down, on one monotonic clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use freehold_checker::record::{Record, Span};
use tokio::time::{Instant, sleep};

/// A sleep that takes so much longer shows that this machine stood still.
const PAUSE_MIN: Duration = Duration::from_millis(30);

/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The history of one round.
#[derive(Debug)]
pub struct Journal {
    begin: Instant,
    next_id: AtomicU64,
    records: Mutex<Vec<Record>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            next_id: AtomicU64::new(0),
            records: Mutex::default(),
        }
    }
}

impl Journal {
    /// Nanoseconds since the round began.
    pub fn now_ns(&self) -> i64 {
        self.at_ns(Instant::now())
    }

    /// The same for another instant.
    pub fn at_ns(&self, instant: Instant) -> i64 {
        let since = instant.saturating_duration_since(self.begin);
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    /// A number that nothing else in this history has.
    pub fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes a line.
    pub fn note(&self, record: Record) {
        self.note_all([record]);
    }

    /// Writes lines.
    pub fn note_all(&self, records: impl IntoIterator<Item = Record>) {
        let mut all = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(records);
    }

    /// All lines; the journal is empty afterwards.
    pub fn take(&self) -> Vec<Record> {
        let mut all = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *all)
    }

    /// Notes when this machine stands still, for ever.
    pub async fn watch_the_machine(&self) {
        loop {
            let before = Instant::now();
            sleep(LOOK).await;
            let after = Instant::now();
            if after - before >= LOOK + PAUSE_MIN {
                self.note(Record::Pause(Span {
                    start_ns: self.at_ns(before),
                    end_ns: self.at_ns(after),
                    what: "this machine stood still".to_owned(),
                }));
            }
        }
    }
}
