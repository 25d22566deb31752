//! What goes through a lane's queue: the operation, the way to answer, and its times.

mod operation;
mod reply;

use std::{sync::Arc, time::Duration};

use freehold_core::{
    Term, Token,
    limits::VALUE_BYTES_MAX,
    planted::{self, Bug},
};
use tokio::time::Instant;

pub use self::{
    operation::{Kind, Operation},
    reply::{Answer, AnswerBudget, Answers, Ending, Numbered, ReadAnswer, Reply, Room},
};
use crate::{failure::Failure, metrics::OperationMetrics};

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing of it has left the router.
    Waiting,
    /// It is in a statement whose answer is outstanding.
    Sent,
}

/// What a request needs of the server that takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// That it leads its shard and takes writes.
    Writes,
    /// That it leads its shard.
    Leader,
    /// Only the slot's rows.
    Anyone,
}

/// By what a SESSION read's server was chosen: what was judged then holds no longer than this.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Judged {
    /// The shard's term, in which what the token names was known to be there.
    pub term: Option<Term>,
    /// The generation of a replica's connections on which it was known to find that.
    pub generation: Option<u64>,
}

/// Which servers may answer a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Level {
    /// The server that leads the shard.
    Strong,
    /// Any replica, else the master.
    Eventual,
    /// A replica whose answer itself proves that it is at most so old, else the master.
    Bounded(Duration),
    /// A replica that has everything that these tokens name, else the master.
    Session(Arc<[Token]>),
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
    /// Whether no replica could answer it: the server that leads is to.
    pub leader_only: bool,
    /// Whether it waited for what its token names, as long as it may.
    pub has_waited: bool,
    /// By what its server was chosen.
    pub judged: Judged,
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
            leader_only: false,
            has_waited: false,
            judged: Judged::default(),
            reply,
        }
    }

    /// What it needs of the server that takes it.
    #[must_use]
    pub fn needs(&self) -> Needs {
        match self.level {
            _ if self.operation.kind().is_write() => Needs::Writes,
            Level::Strong if planted::is(Bug::ReplicaAsMaster) => Needs::Anyone,
            Level::Strong => Needs::Leader,
            _ if self.leader_only => Needs::Leader,
            Level::Eventual | Level::Bounded(_) | Level::Session(_) => Needs::Anyone,
        }
    }

    /// Ends the request; only the first ending counts.
    pub fn end(&mut self, ending: Ending) {
        self.end_at(Instant::now(), ending);
    }

    /// [`Self::end`] for one of many that end together.
    pub fn end_at(&mut self, now: Instant, ending: Ending) {
        if let Some(reply) = self.reply.take() {
            // Before it is counted: what does not fit is refused.
            let ending = reply.fitted(ending);
            if let Some(metrics) = &self.counted_by {
                let took = now.saturating_duration_since(self.received);
                metrics.ended(self.operation.kind(), took, &ending);
            }
            reply.send(Some(self.operation.kind()), ending);
        }
    }

    /// Ends it without a word: nobody waits for one, so none is counted.
    pub fn forget(mut self) {
        self.reply = None;
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

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
