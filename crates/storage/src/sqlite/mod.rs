//! Embedded shards: one SQLite file each, in this process.
//!
//! A [`SqliteServer`] names a file; a [`SqliteConnection`] has it open on a `worker` thread,
//! which runs each call as one transaction of a `session`. `data`, `sweep`, `schema` and
//! `moves` are the sets of calls, and `error` says what SQLite's errors mean.
//!
//! A transaction takes SQLite's one write lock first and looks at fence and clock then, so nothing
//! changes between the look and the commit. Commits are synced to disk. 64-bit unsigned numbers lie
//! in the file as the signed ones of the same bits.
//!
//! A call whose future is dropped is done nevertheless, and keeps its turn to write until it is: a
//! later call, on whichever connection of the process, comes after it.

mod audit;
mod data;
mod decode;
mod error;
mod moves;
mod promotion;
mod scan;
mod schema;
mod session;
mod sweep;
mod worker;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use freehold_core::{Fence, limits::LOCK_WAIT_MAX};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rusqlite::Transaction;
use tokio::{sync::Semaphore, time::timeout};

use self::{
    session::{Moment, Session},
    worker::Worker,
};
use crate::{
    error::{Outcome, Refusal, StorageError},
    server::ConnectOptions,
};

/// A SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteServer {
    path: PathBuf,
    address: Arc<str>,
    shared: Arc<Shared>,
}

/// What all connections of one [`SqliteServer`] share.
#[derive(Debug)]
struct Shared {
    /// One permit. Connections of one process line up here, in order; SQLite's own lock would let
    /// them poll.
    writer: Arc<Semaphore>,
    /// One source for all connections: two of one seed would draw the same stamps.
    stamps: Mutex<StdRng>,
}

impl SqliteServer {
    /// Prepares a file without opening it.
    #[must_use]
    pub fn new(path: PathBuf, options: ConnectOptions) -> Self {
        Self {
            address: path.display().to_string().into(),
            path,
            shared: Arc::new(Shared {
                writer: Arc::new(Semaphore::new(1)),
                stamps: Mutex::new(StdRng::seed_from_u64(options.seed)),
            }),
        }
    }

    /// The file.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Opens the file; an empty one is made if it is missing.
    ///
    /// # Errors
    /// [`StorageError::Unreachable`].
    pub async fn connect(&self) -> Result<SqliteConnection, StorageError> {
        let worker = Worker::start(self.path.clone()).await?;
        Ok(SqliteConnection {
            worker,
            shared: Arc::clone(&self.shared),
        })
    }
}

/// One open file and its thread.
pub struct SqliteConnection {
    worker: Worker,
    shared: Arc<Shared>,
}

impl fmt::Debug for SqliteConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteConnection").finish_non_exhaustive()
    }
}

impl SqliteConnection {
    /// Reads in one snapshot.
    async fn snapshot<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Moment) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.worker.call(move |session| session.read(work)).await?
    }

    /// Writes in one transaction, whatever the fence shows.
    async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.in_turn(move |session| session.write(work)).await?
    }

    /// Writes in one transaction, if the fence agrees.
    async fn transact_fenced<T: Send + 'static>(
        &self,
        fence: &Fence,
        work: impl FnOnce(&Transaction<'_>, &Moment) -> rusqlite::Result<T> + Send + 'static,
    ) -> Outcome<T> {
        let fence = *fence;
        let written = self.in_turn(move |session| session.write_fenced(&fence, work));
        written.await.unwrap_or_else(Outcome::Failed)
    }

    /// Does a job on the thread when it is this connection's turn to write.
    async fn in_turn<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Session) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let turn = timeout(
            LOCK_WAIT_MAX,
            Arc::clone(&self.shared.writer).acquire_owned(),
        )
        .await;
        let Ok(Ok(turn)) = turn else {
            return Err(StorageError::Refused {
                refusal: Refusal::Busy,
                code: rusqlite::ffi::SQLITE_BUSY.cast_unsigned(),
                message: format!("no turn to write within {LOCK_WAIT_MAX:?}").into(),
            });
        };
        self.worker
            .call(move |session| {
                let done = job(session);
                // The turn ends with the transaction, also when nobody waits for it any more.
                drop(turn);
                done
            })
            .await
    }

    /// A random number for a stamp.
    fn draw(&self) -> u64 {
        self.shared
            .stamps
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64()
    }
}

#[cfg(test)]
mod tests;
