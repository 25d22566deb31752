//! What a mover asks of its connections: one to the shard that gives slots away, one to the shard
//! that gets them.
//!
//! Whatever changes something proves three things in its own statement: that the server is the one
//! to which the work is bound ([`Leader`]), that nobody took the slots over since (`attempt`), and
//! that the slots are in a state in which it may be done. Where one of them does not hold, nothing
//! is changed and `None` is the answer: look again.

use async_trait::async_trait;
use bytes::Bytes;
use freehold_core::{
    Fence, Key, Position, Slot, SlotSet, SlotState,
    moving::{Change, SlotRow, Work},
};

use crate::error::StorageError;

/// The server that leads a shard, and its term: what a move's work is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// `@@server_id`, which the fence names.
    pub server_id: u64,
    /// The fence's failover counter.
    pub term: u64,
}

impl From<Fence> for Leader {
    fn from(fence: Fence) -> Self {
        Self {
            server_id: fence.server_id,
            term: fence.term,
        }
    }
}

/// What a mover holds, and proves whenever it changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Where.
    pub leader: Leader,
    /// The number that the take-over drew.
    pub attempt: u64,
}

/// Rows of these slots behind `after` up to `upto`, in the order of the primary key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Of which slots; so few ranges that one statement names them.
    pub slots: SlotSet,
    /// Not this row and none before it.
    pub after: Option<Key>,
    /// This row and none behind it.
    pub upto: Option<Key>,
}

impl From<SlotSet> for Stretch {
    fn from(slots: SlotSet) -> Self {
        Self {
            slots,
            ..Self::default()
        }
    }
}

/// What a server shows of itself and of some slots, in one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSlots {
    /// The fence.
    pub fence: Fence,
    /// The server that answered.
    pub answered_by: u64,
    /// The shard's name.
    pub name: String,
    /// Its cluster.
    pub cluster_id: u64,
    /// The rows that are there, ordered by slot.
    pub rows: Vec<(Slot, SlotRow<Box<str>>)>,
}

/// A row as it lies in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRow {
    /// Where.
    pub key: Key,
    /// What; `None` if it is longer than what was asked for.
    pub value: Option<Bytes>,
    /// Its length in bytes.
    pub value_bytes: usize,
    /// Unique for the write that stored it.
    pub version: u64,
    /// Unix milliseconds by its master's clock; `i64::MAX` for never.
    pub expires_at: i64,
}

/// An entry of the log of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Which key was written.
    pub key: Key,
    /// How often, since its entry was made.
    pub n: u64,
}

/// What the live rows of a stretch come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checksum {
    /// How many there are.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Of keys, versions, expiries and values.
    pub digest: u64,
    /// The last row, dead or alive, if the stretch had more rows than were asked for.
    pub more_behind: Option<Key>,
}

/// How much is deleted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    /// Rows, or entries: whoever waits for their locks does not wait for more.
    pub rows_max: usize,
    /// Bytes of keys and values: the binlog has them in one transaction, and a group of servers
    /// refuses large ones. A row that is larger goes alone.
    pub bytes_max: usize,
}

/// What was deleted at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Rows, or entries.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// How a move ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveState {
    /// It is under way, or whoever ran it died.
    Running,
    /// It stopped for a reason that somebody has to look at.
    Stopped,
    /// The target owns all its slots.
    Done,
    /// The source has its slots as before it, but for those that had a new owner already.
    Cancelled,
}

impl MoveState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Running, Self::Stopped, Self::Done, Self::Cancelled];

    /// The word in the `state` column.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of a word of that column.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether there is something left to do.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Stopped)
    }
}

/// A move, as both shards keep it for people and for whoever goes on with it. What may be done is
/// never taken from it: that is what the rows of the slots say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveRecord {
    /// Random, the same on both shards.
    pub id: u64,
    /// The shard that gives.
    pub source: String,
    /// The shard that gets.
    pub target: String,
    /// Which slots.
    pub slots: SlotSet,
    /// How far it is.
    pub state: MoveState,
    /// Whether it is being cancelled, or was.
    pub cancels: bool,
    /// Who runs it, or ran it last.
    pub mover: String,
    /// Slots that have a new owner.
    pub slots_done: u64,
    /// Rows that were copied.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// The longest time in which writes to a slot waited, in microseconds.
    pub pause_us_max: u64,
    /// What went wrong last; empty if nothing did.
    pub error: String,
    /// By the server's clock, in Unix milliseconds. Filled in by the server.
    pub started_at: i64,
    /// The last time that it was written. Filled in by the server.
    pub changed_at: i64,
}

impl MoveRecord {
    /// A move of which nothing is done yet, nor written down.
    #[must_use]
    pub fn begin(id: u64, source: &str, target: &str, slots: &SlotSet) -> Self {
        Self {
            id,
            source: source.to_owned(),
            target: target.to_owned(),
            slots: slots.clone(),
            state: MoveState::Running,
            cancels: false,
            mover: String::new(),
            slots_done: 0,
            rows: 0,
            bytes: 0,
            pause_us_max: 0,
            error: String::new(),
            started_at: 0,
            changed_at: 0,
        }
    }
}

/// Whoever runs a move: until somebody else has written down that they do, or that it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveRun {
    /// Which move.
    pub id: u64,
    /// Who.
    pub mover: String,
}

/// What is written down of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// That somebody runs it from now on, whoever did so before. A move that has ended does not begin
    /// again, and one that is being cancelled does not go on.
    Begin,
    /// How far it is, and how it ended: by nobody but whoever runs it.
    GoOn,
    /// How it ended, as the other shard has it in writing, whoever ran it here: nothing follows an end.
    End,
}

/// What came of writing a move down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It stands there.
    Written,
    /// Nothing was written: this server does not lead.
    NotLeading,
    /// Nothing was written: the move has ended, or is another one's to run.
    NotTheirs,
}

/// That a move is being run, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveBeat {
    /// Which.
    pub id: u64,
    /// Who runs it.
    pub mover: String,
    /// Slots that have a new owner.
    pub slots_done: u64,
    /// Rows that were copied.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// The longest time in which writes to a slot waited, in microseconds.
    pub pause_us_max: u64,
}

/// One connection for moving slots. As for [`DataConnection`](crate::DataConnection), a future that
/// is dropped before it is done leaves the connection unusable.
///
/// No lock is held when a call returns: a mover that is frozen holds nobody up. Keys of one call are
/// strictly ascending. Reads of rows change nothing and lock nothing.
#[async_trait]
pub trait MoveConnection: Send {
    /// The fence, and the rows of these slots.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn slots(&mut self, slots: &SlotSet) -> Result<SeenSlots, StorageError>;

    /// The rows of all slots that are on their way: neither plainly owned nor gone. Ordered by slot.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn on_their_way(&mut self) -> Result<Vec<(Slot, SlotRow<Box<str>>)>, StorageError>;

    /// Takes slots over: from now on only this attempt counts. Slots without a row get one that
    /// claims nothing. `None` if this server does not lead, or somebody else runs the move here by
    /// now: a mover that was frozen takes nothing from whoever cancelled its move meanwhile.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn take_over(
        &mut self,
        hold: Hold,
        run: &MoveRun,
        slots: &SlotSet,
        peer: &str,
    ) -> Result<Option<()>, StorageError>;

    /// Changes rows of slots, all or none, in one transaction that proves what each change says and
    /// that draws the fence's stamp anew. The exclusive lock on the fence waits for the writes in
    /// flight. All of the changes lead to the same state.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn change(
        &mut self,
        leader: Leader,
        changes: &[(Slot, Change<Box<str>>)],
    ) -> Result<Option<()>, StorageError>;

    /// Up to `rows_max` live rows from the beginning of a stretch. Values that are longer than
    /// `value_bytes_max` stay where they are.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn page(
        &mut self,
        stretch: &Stretch,
        rows_max: usize,
        value_bytes_max: usize,
    ) -> Result<Vec<CopyRow>, StorageError>;

    /// Those of the rows that are live.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn rows(
        &mut self,
        keys: &[Key],
        value_bytes_max: usize,
    ) -> Result<Vec<CopyRow>, StorageError>;

    /// Stores rows, values and all, as they are: [`Work::Copy`].
    ///
    /// # Errors
    /// [`StorageError`]; some may have been stored.
    async fn store(&mut self, hold: Hold, rows: &[CopyRow]) -> Result<Option<()>, StorageError>;

    /// Deletes rows that the source does not have: [`Work::Copy`].
    ///
    /// # Errors
    /// [`StorageError`]; some may have been deleted.
    async fn remove(&mut self, hold: Hold, keys: &[Key]) -> Result<Option<()>, StorageError>;

    /// Up to `keys_max` entries of the log of keys behind `after`.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn logged(
        &mut self,
        slots: &SlotSet,
        after: Option<&Key>,
        keys_max: usize,
    ) -> Result<Vec<Logged>, StorageError>;

    /// Those of the keys that are in the log, in order.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn logged_of(&mut self, keys: &[Key]) -> Result<Vec<Key>, StorageError>;

    /// Deletes those of the entries whose `n` is still the same: [`Work::Forget`].
    ///
    /// # Errors
    /// [`StorageError`]; some may have been deleted.
    async fn forget(&mut self, hold: Hold, entries: &[Logged]) -> Result<Option<()>, StorageError>;

    /// What the rows of a stretch come to that are live at `now_ms`; looks at `rows_max` rows at
    /// most, dead ones included. Servers of one kind come to the same for the same rows.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn checksum(
        &mut self,
        stretch: &Stretch,
        now_ms: i64,
        rows_max: usize,
    ) -> Result<Checksum, StorageError>;

    /// The digest of each row of a stretch that is live at `now_ms`, in order.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn digests(
        &mut self,
        stretch: &Stretch,
        now_ms: i64,
    ) -> Result<Vec<(Key, u64)>, StorageError>;

    /// The digests of those of the rows that are live at `now_ms`, in order.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn digests_of(
        &mut self,
        keys: &[Key],
        now_ms: i64,
    ) -> Result<Vec<(Key, u64)>, StorageError>;

    /// Deletes a portion of the rows of these slots, dead or alive ([`Work::Empty`]), or of the entries
    /// of their log ([`Work::ClearLog`]). Answers how many; none means that none is left. The lengths of
    /// `rows_max` values are read for it, which takes as long as reading them.
    ///
    /// # Errors
    /// [`StorageError`]; they may have been deleted.
    async fn clear(
        &mut self,
        hold: Hold,
        work: Work,
        slots: &SlotSet,
        portion: Portion,
    ) -> Result<Option<Cleared>, StorageError>;

    /// A position that has everything that this connection wrote. `None` where the server numbers
    /// no transactions.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn position(&mut self) -> Result<Option<Position>, StorageError>;

    /// The server's clock in Unix milliseconds.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn now_ms(&mut self) -> Result<i64, StorageError>;

    /// How many prepared statements the server has executed since it started. Lanes send requests as
    /// such, watchers and movers do not: two looks tell whether anybody uses the shard. `None` where
    /// nobody counts them.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn executed(&mut self) -> Result<Option<u64>, StorageError>;

    /// Writes a move down, if this server leads and the entry may be made. Bears repetition. A server
    /// that knows nothing of the move (any more: a failover may have lost it) learns of it. Where one
    /// ends, those that ended before the newest
    /// [`MOVES_KEPT_MAX`](freehold_core::limits::MOVES_KEPT_MAX) are forgotten, if this account may
    /// delete them.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn record(
        &mut self,
        leader: Leader,
        entry: Entry,
        record: &MoveRecord,
    ) -> Result<Recorded, StorageError>;

    /// Shows that somebody runs the move: it changes when it was written down, each time, and how
    /// far it is. `None` if this server does not lead, or the move is not that mover's to run.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn beat(&mut self, leader: Leader, beat: &MoveBeat) -> Result<Option<()>, StorageError>;

    /// The move of this id, if it was written down here.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn record_of(&mut self, id: u64) -> Result<Option<MoveRecord>, StorageError>;

    /// The newest moves that were written down, newest first.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn records(&mut self, records_max: usize) -> Result<Vec<MoveRecord>, StorageError>;

    /// The oldest of the moves that are open ([`MoveState::is_open`]), oldest first.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn open_records(&mut self, records_max: usize) -> Result<Vec<MoveRecord>, StorageError>;
}

/// The states in which a kind of work may be done, as a list for a statement.
pub(crate) fn states(work: Work) -> String {
    let words = work
        .states()
        .iter()
        .map(|state| format!("'{}'", state.as_str()));
    words.collect::<Vec<_>>().join(",")
}

/// The states of slots that are on their way, as a list for a statement.
pub(crate) fn unsettled() -> String {
    let unsettled = [SlotState::Outgoing, SlotState::Fenced, SlotState::Incoming];
    let words = unsettled.map(|state| format!("'{}'", state.as_str()));
    words.join(",")
}

/// The last of the rows that a portion has room for, of which these are the first, with their lengths
/// in bytes; and what they come to.
pub(crate) fn that_fit(rows: &[(Key, usize)], portion: Portion) -> (Option<&Key>, Cleared) {
    let (mut last, mut fit) = (None, Cleared::default());
    for (key, value_bytes) in rows.iter().take(portion.rows_max) {
        let bytes = fit.bytes + (key.bytes().len() + value_bytes) as u64;
        if last.is_some() && bytes > portion.bytes_max as u64 {
            break;
        }
        last = Some(key);
        fit = Cleared {
            rows: fit.rows + 1,
            bytes,
        };
    }
    (last, fit)
}

/// The slots of keys.
pub(crate) fn slots_of<'a>(keys: impl IntoIterator<Item = &'a Key>) -> SlotSet {
    keys.into_iter().map(Key::slot).collect()
}

/// Changes that say the same of several slots, by what they say.
pub(crate) fn alike(changes: &[(Slot, Change<Box<str>>)]) -> Vec<(SlotSet, Change<Box<str>>)> {
    let mut groups: Vec<(Vec<Slot>, &Change<Box<str>>)> = Vec::new();
    for (slot, change) in changes {
        match groups.iter_mut().find(|(_, other)| *other == change) {
            Some((slots, _)) => slots.push(*slot),
            None => groups.push((vec![*slot], change)),
        }
    }
    let groups = groups.into_iter();
    groups
        .map(|(slots, change)| (slots.into_iter().collect(), change.clone()))
        .collect()
}
