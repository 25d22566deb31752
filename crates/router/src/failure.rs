//! Why a request was not answered as asked. `status` turns each into what callers see.

use std::sync::Arc;

use freehold_core::{KeyError, Slot};
use freehold_storage::{Refusal, StorageError};

/// Every way in which a request can end without its answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Bad input: `field` says where, the words say what is allowed.
    #[error("{problem}")]
    Invalid {
        /// The field of the request message.
        field: &'static str,
        /// The field again, what it holds and what it may hold.
        problem: String,
    },
    /// The lane's queue is full.
    #[error("too busy: {what} of shard {shard} is full ({limit})")]
    Full {
        /// Whose.
        shard: Arc<str>,
        /// Which queue.
        what: &'static str,
        /// The limit that was reached, with its unit.
        limit: String,
    },
    /// The whole router is at one of its limits.
    #[error("too busy: this router is at its limit {limit} = {max}: not applied")]
    Overloaded {
        /// What the config calls it.
        limit: &'static str,
        /// What the config says.
        max: usize,
    },
    /// So much else is under way that takes long.
    #[error(
        "{max} {what} are under way in this router, as many as may at once: wait until one has ended, \
         or ask another router"
    )]
    Occupied {
        /// With what.
        what: &'static str,
        /// As many as may.
        max: usize,
    },
    /// The deadline passed before anything was sent.
    #[error("deadline passed before the request was sent to shard {shard}: not applied")]
    DeadlineBeforeSending {
        /// Where it waited.
        shard: Arc<str>,
    },
    /// The write was sent and its answer did not come in time, or was lost.
    #[error("outcome unknown: {reason}")]
    OutcomeUnknown {
        /// What broke.
        reason: Arc<str>,
    },
    /// A read was sent and its answer did not come in time.
    #[error("deadline passed while shard {shard} was reading")]
    ReadTimedOut {
        /// Where.
        shard: Arc<str>,
    },
    /// Not applied; worth another try.
    #[error("shard {shard} is unavailable: {reason}")]
    Unavailable {
        /// Which shard, or the ones that were not reached yet.
        shard: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// Not applied, and another try will not help before somebody mends something.
    #[error("{0}")]
    Misconfigured(Arc<str>),
    /// The write that a token names was lost in a failover.
    #[error(
        "session_token names a write to shard {shard} that a failover lost, or that cannot be told \
         from one: read what is there, without the token"
    )]
    SessionLost {
        /// Whose.
        shard: Arc<str>,
    },
    /// The database turned the statement down; not applied.
    #[error("shard {shard} refused: {reason}")]
    Refused {
        /// Which.
        shard: Arc<str>,
        /// Why.
        refusal: Refusal,
        /// The server's words.
        reason: Arc<str>,
    },
    /// The response is full; ask for the rest again.
    #[error("the response is full: ask for this key again")]
    AskAgain,
    /// The router is shutting down.
    #[error("the router is shutting down: not applied")]
    ShuttingDown,
    /// The slot left the shard while the request waited. A walk routes again; a write for which newer
    /// ones did not wait any longer is told so.
    #[error("slot {0} is no longer served where it was")]
    Moved(Slot),
}

impl Failure {
    /// What a statement's error means for one request that was in it.
    #[must_use]
    pub fn of_storage(shard: &Arc<str>, error: &StorageError, write: bool) -> Self {
        match error {
            StorageError::Lost { reason } if write => Self::OutcomeUnknown {
                reason: reason.clone(),
            },
            StorageError::Lost { reason } | StorageError::Unreachable { reason } => {
                Self::Unavailable {
                    shard: shard.clone(),
                    reason: reason.clone(),
                }
            }
            StorageError::Refused {
                refusal,
                message,
                code,
            } => Self::Refused {
                shard: shard.clone(),
                refusal: *refusal,
                reason: format!("{message} (error {code})").into(),
            },
        }
    }

    /// A field that breaks a limit.
    pub fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            problem: problem.into(),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::invalid("key", error.to_string())
    }
}
