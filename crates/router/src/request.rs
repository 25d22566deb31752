//! What goes through a lane's queue: the operation, the way to answer, and its times.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use freehold_core::{Key, Slot, limits::VALUE_BYTES_MAX};
use freehold_storage::{ExpireRow, PutRow, RawRow, Row, ScanPage, ScanRange, Value};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::Instant,
};

use crate::{
    budget::{Budget, Held},
    failure::Failure,
    metrics::OperationMetrics,
};

/// One operation on one key, or on one stretch of a shard.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Reads a live row with its value.
    Get(Key),
    /// Reads a live row's expiry.
    Ttl(Key),
    /// Stores a row.
    Put(PutRow),
    /// Removes a row.
    Delete(Key),
    /// Changes a row's expiry.
    Expire(ExpireRow),
    /// Reads a stretch of rows.
    Scan(ScanRange),
    /// Reads a row as it lies in the table.
    Inspect(Key),
}

/// Which statement an operation needs; a batch holds one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Get,
    Ttl,
    Put,
    Delete,
    Expire,
    Scan,
    Inspect,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Get,
        Self::Ttl,
        Self::Put,
        Self::Delete,
        Self::Expire,
        Self::Scan,
        Self::Inspect,
    ];

    /// Whether it changes rows.
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Put | Self::Delete | Self::Expire)
    }

    /// Whether several operations on one key may share one row of a statement: reads see the same
    /// row, and of several PUTs the last is stored. A second DELETE or EXPIRE has another answer.
    #[must_use]
    pub const fn joins_equal_keys(self) -> bool {
        matches!(self, Self::Get | Self::Ttl | Self::Put)
    }

    /// How many rows of this kind one statement takes at most.
    #[must_use]
    pub const fn rows_max(self) -> usize {
        match self {
            Self::Scan | Self::Inspect => 1,
            _ => freehold_core::limits::STATEMENT_KEYS_MAX,
        }
    }

    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Ttl => "ttl",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Expire => "expire",
            Self::Scan => "scan",
            Self::Inspect => "inspect",
        }
    }
}

impl Operation {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Get(_) => Kind::Get,
            Self::Ttl(_) => Kind::Ttl,
            Self::Put(_) => Kind::Put,
            Self::Delete(_) => Kind::Delete,
            Self::Expire(_) => Kind::Expire,
            Self::Scan(_) => Kind::Scan,
            Self::Inspect(_) => Kind::Inspect,
        }
    }

    /// The key; a scan has none.
    #[must_use]
    pub const fn key(&self) -> Option<&Key> {
        match self {
            Self::Get(key) | Self::Ttl(key) | Self::Delete(key) | Self::Inspect(key) => Some(key),
            Self::Put(row) => Some(&row.key),
            Self::Expire(row) => Some(&row.key),
            Self::Scan(_) => None,
        }
    }

    /// The slots it touches: all of them must be served where it is sent.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let (one, many) = match self {
            Self::Scan(range) => (None, range.slots.as_slice()),
            other => (other.key().map(Key::slot), &[][..]),
        };
        one.into_iter().chain(many.iter().copied())
    }

    /// Bytes of keys and values that it holds while it waits.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put(row) => row.key.bytes().len() + row.value.len(),
            Self::Scan(range) => range.prefix.len() + range.slots.len() * size_of::<Slot>(),
            other => other.key().map_or(0, |key| key.bytes().len()),
        }
    }
}

/// What a read of one row brings back, with who served it.
#[derive(Debug, Clone)]
pub struct ReadAnswer {
    /// The live row, if there is one.
    pub row: Option<Row>,
    /// The shard that answered.
    pub shard: Arc<str>,
    /// Whether one of its replicas did.
    pub from_replica: bool,
    /// What the value takes of the router's room.
    pub room: Room,
}

/// The part of the router's room for answers that an answer takes until it was sent; none if it has
/// no value. (Answers can be copied, and share it then.)
pub type Room = Option<Arc<Held>>;

/// What an operation brings back.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Of Get and Ttl.
    Read(ReadAnswer),
    /// Of Put: the version that is stored.
    Stored(u64),
    /// Of Delete and Expire: whether a live row was there.
    Existed(bool),
    /// Of Scan, with what its values take of the router's room.
    Page(ScanPage, Room),
    /// Of Inspect.
    Raw(Option<RawRow>),
}

impl Answer {
    /// Bytes of values that it holds while it waits to be sent.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of_row = |row: &Row| match &row.value {
            Value::Bytes(value) => value.len(),
            Value::NotRead | Value::TooLarge { .. } => 0,
        };
        match self {
            Self::Read(ReadAnswer { row, .. }) => row.as_ref().map_or(0, of_row),
            Self::Page(page, _) => page.rows.iter().map(|(_, row)| of_row(row)).sum(),
            Self::Stored(_) | Self::Existed(_) | Self::Raw(_) => 0,
        }
    }

    /// Takes room for its values.
    ///
    /// # Errors
    /// If the router has none left.
    pub fn within(mut self, budget: &Arc<Budget>) -> Ending {
        let bytes = self.bytes();
        if let Self::Read(ReadAnswer { room, .. }) | Self::Page(_, room) = &mut self
            && bytes > 0
        {
            let held = budget.hold(bytes).ok_or_else(|| budget.used_up())?;
            *room = Some(Arc::new(held));
        }
        Ok(self)
    }

    /// Leaves the room to whoever sends the answer on.
    pub fn take_room(&mut self) -> Room {
        match self {
            Self::Read(ReadAnswer { room, .. }) | Self::Page(_, room) => room.take(),
            Self::Stored(_) | Self::Existed(_) | Self::Raw(_) => None,
        }
    }
}

/// An answer or why there is none.
pub type Ending = Result<Answer, Failure>;

/// One of many answers on one channel.
#[derive(Debug)]
pub struct Numbered {
    /// The number that was given with the request.
    pub id: u64,
    /// What kind of operation it was; `None` if it never became one.
    pub kind: Option<Kind>,
    /// What became of it.
    pub ending: Ending,
    /// The request's place among those in flight, free again when this is dropped.
    pub place: Option<OwnedSemaphorePermit>,
}

/// Bytes of answers that wait on one channel, with their limit.
#[derive(Debug)]
pub struct AnswerBudget {
    /// Bytes waiting now.
    pub waiting: AtomicUsize,
    /// Bytes that may wait.
    pub bytes_max: usize,
}

impl AnswerBudget {
    /// Nothing waits yet.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            bytes_max,
        }
    }
}

/// Where an ending goes.
#[derive(Debug)]
pub enum Reply {
    /// To one caller.
    One(oneshot::Sender<Ending>),
    /// To a channel with room for every request that may be in flight on it.
    Numbered {
        /// Comes back with the ending.
        id: u64,
        /// Has room: its capacity is the number of places.
        channel: mpsc::Sender<Numbered>,
        /// The request's place.
        place: Option<OwnedSemaphorePermit>,
        /// Bounds what waits to be sent.
        budget: Arc<AnswerBudget>,
    },
}

impl Reply {
    /// Whether nobody waits any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_closed(),
            Self::Numbered { channel, .. } => channel.is_closed(),
        }
    }

    /// Whether an answer of so many bytes would be kept just now: what would not need not be read.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        match self {
            Self::One(_) => true,
            Self::Numbered { budget, .. } => {
                let waiting = budget.waiting.load(Ordering::Relaxed);
                waiting == 0 || waiting + bytes <= budget.bytes_max
            }
        }
    }

    /// Answers what never became an operation.
    pub fn refuse(self, failure: Failure) {
        self.send(None, Err(failure));
    }

    fn send(self, kind: Option<Kind>, ending: Ending) {
        match self {
            // Whoever stopped waiting does not want to know.
            Self::One(sender) => drop(sender.send(ending)),
            Self::Numbered {
                id,
                channel,
                place,
                budget,
            } => {
                let ending = within_budget(ending, &budget);
                let sent = channel.try_send(Numbered {
                    id,
                    kind,
                    ending,
                    place,
                });
                debug_assert!(
                    !matches!(sent, Err(mpsc::error::TrySendError::Full(_))),
                    "the channel has room for every place"
                );
            }
        }
    }
}

/// Large answers that nobody reads are refused rather than kept.
fn within_budget(ending: Ending, budget: &AnswerBudget) -> Ending {
    let bytes = ending.as_ref().map_or(0, Answer::bytes);
    if bytes == 0 {
        return ending;
    }
    let before = budget.waiting.fetch_add(bytes, Ordering::Relaxed);
    // One value may always wait, however large.
    if before == 0 || before + bytes <= budget.bytes_max {
        return ending;
    }
    budget.waiting.fetch_sub(bytes, Ordering::Relaxed);
    Err(Failure::AskAgain)
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing of it has left the router.
    Waiting,
    /// It is in a statement whose answer is outstanding.
    Sent,
}

/// Which servers may answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The master.
    Strong,
    /// Any replica, else the master.
    Eventual,
}

/// An operation on its way.
///
/// Dropping one that was not answered answers it, with the truth for its stage: so a lane that dies
/// leaves no caller without an ending.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// Who may answer it.
    pub level: Level,
    /// When the caller must have an ending.
    pub deadline: Instant,
    /// When it came in.
    pub received: Instant,
    /// Its place in the order of arrival, from the first queue it was in; 0 before.
    pub number: u64,
    /// How far it is.
    pub stage: Stage,
    /// How often it went back to waiting because a connection broke before or while it was read.
    pub repeats: u8,
    /// Bytes that the value had when a statement found it too large for its share; 0 before.
    pub value_bytes: usize,
    /// Where its ending is counted: under the shard it was routed to last.
    pub counted_by: Option<Arc<OperationMetrics>>,
    reply: Option<Reply>,
}

impl Request {
    /// A request that waits to be sent.
    #[must_use]
    pub fn new(
        operation: Operation,
        level: Level,
        received: Instant,
        deadline: Instant,
        reply: Reply,
    ) -> Self {
        let (stage, repeats, reply) = (Stage::Waiting, 0, Some(reply));
        Self {
            operation,
            level,
            deadline,
            received,
            number: 0,
            stage,
            repeats,
            value_bytes: 0,
            counted_by: None,
            reply,
        }
    }

    /// Ends the request; only the first ending counts.
    pub fn end(&mut self, ending: Ending) {
        if let Some(reply) = self.reply.take() {
            if let Some(metrics) = &self.counted_by {
                let took = self.received.elapsed();
                metrics.ended(self.operation.kind(), took, &ending);
            }
            reply.send(Some(self.operation.kind()), ending);
        }
    }

    /// Sends it back to waiting: its value has so many bytes, more than its statement had room for.
    pub fn read_again(&mut self, value_bytes: usize) {
        self.stage = Stage::Waiting;
        // One that grew between two looks is read alone the third time, whatever its size is then.
        let grew = self.value_bytes > 0;
        self.value_bytes = if grew { VALUE_BYTES_MAX } else { value_bytes };
    }

    /// Whether its caller would be given an answer of so many bytes.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        let reply = self.reply.as_ref();
        reply.is_none_or(|reply| reply.has_room(bytes))
    }

    /// Whether it has ended, or nobody waits for its ending.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.reply.as_ref().is_none_or(Reply::is_closed)
    }

    /// Ends a request whose deadline has passed, with the truth for its stage.
    pub fn end_late(&mut self, shard: &Arc<str>) {
        let failure = match (self.stage, self.operation.kind().is_write()) {
            (Stage::Waiting, _) => Failure::DeadlineBeforeSending {
                shard: shard.clone(),
            },
            (Stage::Sent, true) => Failure::OutcomeUnknown {
                reason: "the deadline passed before the database answered".into(),
            },
            (Stage::Sent, false) => Failure::ReadTimedOut {
                shard: shard.clone(),
            },
        };
        self.end(Err(failure));
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.reply.is_none() {
            return;
        }
        let write = self.operation.kind().is_write();
        let failure = match self.stage {
            Stage::Sent if write => Failure::OutcomeUnknown {
                reason: "the lane stopped before the answer".into(),
            },
            _ => Failure::ShuttingDown,
        };
        self.end(Err(failure));
    }
}
