//! What a connection's thread works with: an open file, and how its transactions begin and end.

use std::path::Path;

use freehold_core::{Fence, limits::LOCK_WAIT_MAX};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::error::{commit_failed, refused, unreachable};
use crate::error::{Outcome, StorageError};

/// SQLite's clock in milliseconds. It shows seconds, as a floating point number, whose product may
/// end just below the whole number that is meant.
pub(super) const NOW: &str = "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)";

/// Statements a connection keeps prepared; there are fewer than these.
const STATEMENTS_KEPT_MAX: usize = 32;

/// An open file.
pub(super) struct Session {
    connection: Connection,
}

/// What a transaction sees first: every statement in it goes by this time and this fence.
pub(super) struct Moment {
    pub(super) now_ms: i64,
    pub(super) fence: Fence,
}

impl Session {
    /// Opens the file, or makes an empty one.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            // Only this thread will ever use it.
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(LOCK_WAIT_MAX)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT_MAX);
            // FULL: each commit is on disk before it is acknowledged. On macOS that takes more
            // than fsync; elsewhere the second setting does nothing.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "fullfsync", "ON")?;
            Ok(Self { connection })
        };
        open().map_err(|error: rusqlite::Error| unreachable(path, &error))
    }

    /// The connection itself, for what needs no snapshot and no fence.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Reads in one snapshot.
    pub(super) fn read<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &Moment) -> rusqlite::Result<T>,
    ) -> Result<T, StorageError> {
        let read = || {
            let transaction = self.connection.transaction()?;
            let moment = Moment::of(&transaction)?;
            work(&transaction, &moment)
        };
        read().map_err(|error| refused(&error))
    }

    /// Writes in one transaction, if the fence agrees once the write lock is had.
    pub(super) fn write_fenced<T>(
        &mut self,
        fence: &Fence,
        work: impl FnOnce(&Transaction<'_>, &Moment) -> rusqlite::Result<T>,
    ) -> Outcome<T> {
        let written = self.write(|transaction| {
            let moment = Moment::of(transaction)?;
            if !moment.fence.agrees_with(fence) {
                return Ok(None);
            }
            work(transaction, &moment).map(Some)
        });
        match written {
            Ok(Some(applied)) => Outcome::Applied(applied),
            Ok(None) => Outcome::FenceDisagrees,
            Err(error) => Outcome::Failed(error),
        }
    }

    /// Writes in one transaction, whatever the fence shows.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StorageError> {
        let transaction = self
            .connection
            // The write lock first, then the look at clock and fence: neither can change between
            // the look and the commit.
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| refused(&error))?;
        let done = work(&transaction).map_err(|error| refused(&error))?;
        transaction
            .commit()
            .map_err(|error| commit_failed(&error))?;
        Ok(done)
    }
}

impl Moment {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = format!("SELECT {NOW}, server_id, stamp, term, epoch FROM shard WHERE id = 1");
        connection.prepare_cached(&sql)?.query_row((), |row| {
            Ok(Self {
                now_ms: row.get(0)?,
                fence: Fence {
                    server_id: row.get::<_, i64>(1)?.cast_unsigned(),
                    stamp: row.get::<_, i64>(2)?.cast_unsigned(),
                    term: row.get::<_, i64>(3)?.cast_unsigned(),
                    epoch: row.get::<_, i64>(4)?.cast_unsigned(),
                },
            })
        })
    }

    /// Who answers: the server that the fence names. A file has no other id, and is never a copy
    /// that somebody made of another one.
    pub(super) fn answered_by(&self) -> u64 {
        self.fence.server_id
    }
}
