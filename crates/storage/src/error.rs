//! What can become of a statement. The three endings of a write never share a variant.

use std::sync::Arc;

/// Why a statement did not do what it was asked. Messages hold no key, value or password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// It was never sent: no connection could be made, or the connection was found broken before.
    /// Nothing was applied. Drop the connection.
    #[error("server not reachable: {reason}")]
    Unreachable {
        /// What was tried and what came back.
        reason: Arc<str>,
    },
    /// It was sent, and the answer did not come. A write may or may not have been applied. Drop the
    /// connection.
    #[error("connection lost after sending: {reason}")]
    Lost {
        /// What broke.
        reason: Arc<str>,
    },
    /// The server answered with an error and rolled the statement back: nothing was applied. The
    /// connection stays good.
    #[error("server refused: {message} (error {code})")]
    Refused {
        /// What kind of refusal, for whoever decides what to do next.
        refusal: Refusal,
        /// The server's error number.
        code: u32,
        /// The server's words, without the statement.
        message: Arc<str>,
    },
}

/// Kinds of refusals, by what the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Contention that outlasted the repeats inside, or a limit of connections: try again.
    Busy,
    /// The server takes no writes: it is not, or no longer, the master.
    ReadOnly,
    /// Tables are missing, or of a version that this code does not know.
    Schema,
    /// The account lacks a right.
    Denied,
    /// A row is larger than the server accepts.
    TooLarge,
    /// No room on the server's disk.
    Full,
    /// Anything else.
    Other,
}

impl StorageError {
    /// Whether the connection it came from must be dropped.
    #[must_use]
    pub fn breaks_connection(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }
}

/// What became of one row of a fenced write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Applied and durable.
    Applied(T),
    /// The fence shows something else than the router believes. Not applied.
    FenceDisagrees,
    /// See [`StorageError`] for whether it may have been applied.
    Failed(StorageError),
}
