//! What is answered, and where to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use freehold_storage::{RawRow, Row, ScanPage, Value};
use tokio::sync::{mpsc, oneshot};

use super::Kind;
use crate::{
    budget::{Budget, Held},
    failure::Failure,
};

/// What a read of one row brings back, with who served it.
#[derive(Debug, Clone)]
pub struct ReadAnswer {
    /// The live row, if there is one.
    pub row: Option<Row>,
    /// The shard that answered.
    pub shard: Arc<str>,
    /// Whether one of its replicas did.
    pub from_replica: bool,
    /// How old it can be at most; `None` if that is not known.
    pub staleness: Option<Duration>,
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
    /// Of Put: the version that is stored, and the session token.
    Stored(u64, Bytes),
    /// Of Delete and Expire: whether a live row was there, and the session token.
    Existed(bool, Bytes),
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
            Self::Stored(..) | Self::Existed(..) | Self::Raw(_) => 0,
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
            Self::Stored(..) | Self::Existed(..) | Self::Raw(_) => None,
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

/// Where the answers of many requests go. The requests share it: each holds one pointer.
#[derive(Debug)]
pub struct Answers {
    /// Has room for every request that may be in flight.
    pub channel: mpsc::Sender<Numbered>,
    /// Bounds what waits to be sent.
    pub budget: Arc<AnswerBudget>,
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
        /// The channel.
        answers: Arc<Answers>,
    },
}

impl Reply {
    /// Whether nobody waits any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_closed(),
            Self::Numbered { answers, .. } => answers.channel.is_closed(),
        }
    }

    /// Whether an answer of so many bytes would be kept just now: what would not need not be read.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        match self {
            Self::One(_) => true,
            Self::Numbered { answers, .. } => {
                let budget = &answers.budget;
                let waiting = budget.waiting.load(Ordering::Relaxed);
                waiting == 0 || waiting + bytes <= budget.bytes_max
            }
        }
    }

    /// The ending as it is sent: an answer that there is no room for is refused. What this returns
    /// is sent, and counts until it was.
    pub(super) fn fitted(&self, ending: Ending) -> Ending {
        match self {
            Self::One(_) => ending,
            Self::Numbered { answers, .. } => within_budget(ending, &answers.budget),
        }
    }

    /// Answers what never became an operation.
    pub fn refuse(self, failure: Failure) {
        self.send(None, Err(failure));
    }

    pub(super) fn send(self, kind: Option<Kind>, ending: Ending) {
        match self {
            // Whoever stopped waiting does not want to know.
            Self::One(sender) => drop(sender.send(ending)),
            Self::Numbered { id, answers } => {
                let sent = answers.channel.try_send(Numbered { id, kind, ending });
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
