//! Why a run stopped. A benchmark that read something wrong has no result.

use std::{io, path::PathBuf};

/// Every way in which a run can fail.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A server or the router did not start.
    #[error("{0:?}")]
    Fixture(#[from] freehold_tests::Error),
    /// A direct call failed.
    #[error("direct: {0}")]
    Direct(#[from] mysql_async::Error),
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
    /// A value that nobody wrote.
    #[error("{target} read a wrong value for key {number}: the run counts for nothing")]
    WrongValue {
        /// Which target.
        target: &'static str,
        /// Which key.
        number: u64,
    },
    /// The report could not be written, or the system not be read.
    #[error("{path}: {error}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A caller's task broke.
    #[error("a caller stopped: {0}")]
    Caller(#[from] tokio::task::JoinError),
}
