//! Why a run stopped. A benchmark that read something wrong has no result.

use std::{io, path::PathBuf};

/// Every way in which a run can fail.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A server or the router did not start.
    #[error("{0}")]
    Fixture(#[from] freehold_tests::Error),
    /// A peer is not there: its targets are missing from the report.
    #[error("{reason}")]
    Peer {
        /// And how to get it.
        reason: String,
    },
    /// A call in SQL failed.
    #[error("sql: {0}")]
    Sql(#[from] mysql_async::Error),
    /// A call through Freehold failed.
    #[error("freehold: {0}")]
    Client(#[from] freehold_client::Error),
    /// A unary call through the router.
    #[error("unary call: {0}")]
    Unary(#[from] Box<tonic::Status>),
    /// A connection for unary calls.
    #[error("unary connection: {0}")]
    UnaryConnect(#[from] tonic::transport::Error),
    /// The router could not be reached.
    #[error("freehold: {0}")]
    Connect(#[from] freehold_client::ConnectError),
    /// A call to Redis.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// Redis' answer to a plain command.
    #[error("redis answered '{answer}'")]
    RedisAnswer {
        /// Its first line.
        answer: String,
    },
    /// A value that nobody wrote.
    #[error("{target} read a wrong value for key {number}: the run counts for nothing")]
    WrongValue {
        /// Which target.
        target: &'static str,
        /// Which key, or tag.
        number: u64,
    },
    /// A target that did not do what was counted.
    #[error(
        "{target} counted {operations} operations, and the database {statements} statements: the \
         round counts for nothing"
    )]
    Miscounted {
        /// Which target.
        target: &'static str,
        /// What callers counted.
        operations: u64,
        /// What the database counted in the same time.
        statements: u64,
    },
    /// The report could not be written, or the system not be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A chart could not be drawn.
    #[error("{}: {reason}", path.display())]
    Chart {
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A caller's task broke.
    #[error("a caller stopped: {0}")]
    Caller(#[from] tokio::task::JoinError),
}

impl Error {
    /// Whether no figure of the run can be trusted, and not only this round failed.
    pub(crate) const fn ends_the_run(&self) -> bool {
        matches!(self, Self::WrongValue { .. })
    }

    /// What the system said of a file.
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }
}
