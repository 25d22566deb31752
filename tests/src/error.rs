//! What can go wrong while a fixture is put up.

use std::fmt;
use std::path::{Path, PathBuf};

/// A fixture could not do what was asked of it.
///
/// `Debug` is the same text as `Display`: a test that returns `Err` prints `Debug`, and a person
/// has to read it.
#[derive(thiserror::Error)]
pub enum Error {
    /// Something the tests need is not on this machine.
    #[error("{what} is missing: {remedy}")]
    Missing {
        /// What is not there, with the path that was looked at.
        what: String,
        /// How to get it.
        remedy: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program could not be started, ended too early, or failed.
    #[error("{program}: {message}")]
    Process {
        /// Its name.
        program: String,
        /// What happened, and the end of its log.
        message: String,
    },
    /// Something did not happen in time.
    #[error("waited {waited_s} s for {what}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long, in seconds.
        waited_s: u64,
    },
    /// The database said no.
    #[error("{doing}: {source}")]
    Sql {
        /// The statement, or what was being done.
        doing: String,
        /// The driver's error.
        source: mysql_async::Error,
    },
    /// Making a certificate failed.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// What fixtures return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn sql(doing: impl Into<String>) -> impl FnOnce(mysql_async::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Sql { doing, source }
    }
}
