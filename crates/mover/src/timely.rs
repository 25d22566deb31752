//! A connection on which nothing takes for ever: a master that was cut off, or hangs, must not keep a
//! mover whose slots others wait for.

use async_trait::async_trait;
use freehold_core::{
    Key, Position, Slot, SlotSet,
    moving::{Change, SlotRow, Work},
};
use freehold_storage::{
    MoveConnection, StorageError,
    moves::{
        Checksum, Cleared, CopyRow, Entry, Hold, Leader, Logged, MoveBeat, MoveRecord, MoveRun,
        Portion, Recorded, SeenSlots, Stretch,
    },
};
use tokio::time::{Duration, timeout};

/// How long one call may take: a page of megabytes on a busy disk takes a second or two. What was
/// sent may still be done, which changes nothing for whoever takes the slots over again.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Gives a call up that takes too long, and with it the connection.
pub(crate) struct Timely(pub(crate) Box<dyn MoveConnection>);

/// A call with its limit.
macro_rules! timely {
    ($call:expr) => {
        match timeout(CALL_TIME_MAX, $call).await {
            Ok(done) => done,
            Err(_) => Err(StorageError::Lost {
                reason: format!("no answer within {CALL_TIME_MAX:?}").into(),
            }),
        }
    };
}

#[async_trait]
impl MoveConnection for Timely {
    async fn slots(&mut self, slots: &SlotSet) -> Result<SeenSlots, StorageError> {
        timely!(self.0.slots(slots))
    }

    async fn on_their_way(&mut self) -> Result<Vec<(Slot, SlotRow<Box<str>>)>, StorageError> {
        timely!(self.0.on_their_way())
    }

    async fn take_over(
        &mut self,
        hold: Hold,
        run: &MoveRun,
        slots: &SlotSet,
        peer: &str,
    ) -> Result<Option<()>, StorageError> {
        timely!(self.0.take_over(hold, run, slots, peer))
    }

    async fn change(
        &mut self,
        leader: Leader,
        changes: &[(Slot, Change<Box<str>>)],
    ) -> Result<Option<()>, StorageError> {
        timely!(self.0.change(leader, changes))
    }

    async fn page(
        &mut self,
        stretch: &Stretch,
        rows_max: usize,
        value_bytes_max: usize,
    ) -> Result<Vec<CopyRow>, StorageError> {
        timely!(self.0.page(stretch, rows_max, value_bytes_max))
    }

    async fn rows(
        &mut self,
        keys: &[Key],
        value_bytes_max: usize,
    ) -> Result<Vec<CopyRow>, StorageError> {
        timely!(self.0.rows(keys, value_bytes_max))
    }

    async fn store(&mut self, hold: Hold, rows: &[CopyRow]) -> Result<Option<()>, StorageError> {
        timely!(self.0.store(hold, rows))
    }

    async fn remove(&mut self, hold: Hold, keys: &[Key]) -> Result<Option<()>, StorageError> {
        timely!(self.0.remove(hold, keys))
    }

    async fn logged(
        &mut self,
        slots: &SlotSet,
        after: Option<&Key>,
        keys_max: usize,
    ) -> Result<Vec<Logged>, StorageError> {
        timely!(self.0.logged(slots, after, keys_max))
    }

    async fn logged_of(&mut self, keys: &[Key]) -> Result<Vec<Key>, StorageError> {
        timely!(self.0.logged_of(keys))
    }

    async fn forget(&mut self, hold: Hold, entries: &[Logged]) -> Result<Option<()>, StorageError> {
        timely!(self.0.forget(hold, entries))
    }

    async fn checksum(
        &mut self,
        stretch: &Stretch,
        now_ms: i64,
        rows_max: usize,
    ) -> Result<Checksum, StorageError> {
        timely!(self.0.checksum(stretch, now_ms, rows_max))
    }

    async fn digests(
        &mut self,
        stretch: &Stretch,
        now_ms: i64,
    ) -> Result<Vec<(Key, u64)>, StorageError> {
        timely!(self.0.digests(stretch, now_ms))
    }

    async fn digests_of(
        &mut self,
        keys: &[Key],
        now_ms: i64,
    ) -> Result<Vec<(Key, u64)>, StorageError> {
        timely!(self.0.digests_of(keys, now_ms))
    }

    async fn clear(
        &mut self,
        hold: Hold,
        work: Work,
        slots: &SlotSet,
        portion: Portion,
    ) -> Result<Option<Cleared>, StorageError> {
        timely!(self.0.clear(hold, work, slots, portion))
    }

    async fn position(&mut self) -> Result<Option<Position>, StorageError> {
        timely!(self.0.position())
    }

    async fn now_ms(&mut self) -> Result<i64, StorageError> {
        timely!(self.0.now_ms())
    }

    async fn executed(&mut self) -> Result<Option<u64>, StorageError> {
        timely!(self.0.executed())
    }

    async fn record(
        &mut self,
        leader: Leader,
        entry: Entry,
        record: &MoveRecord,
    ) -> Result<Recorded, StorageError> {
        timely!(self.0.record(leader, entry, record))
    }

    async fn beat(&mut self, leader: Leader, beat: &MoveBeat) -> Result<Option<()>, StorageError> {
        timely!(self.0.beat(leader, beat))
    }

    async fn record_of(&mut self, id: u64) -> Result<Option<MoveRecord>, StorageError> {
        timely!(self.0.record_of(id))
    }

    async fn records(&mut self, records_max: usize) -> Result<Vec<MoveRecord>, StorageError> {
        timely!(self.0.records(records_max))
    }

    async fn open_records(&mut self, records_max: usize) -> Result<Vec<MoveRecord>, StorageError> {
        timely!(self.0.open_records(records_max))
    }
}
