//! The order of writes over a session and its successors.
//!
//! A lane that gives a statement up opens another session. The server may still run the statement:
//! once the row lock that it waits for is free, or once the network lets go of its bytes. Were that
//! after a later write to the same key was acknowledged on the other session, the older value would
//! stand. A fence does not help: both writes are of the same router and prove the same moment.
//!
//! So a session that writes for a lane holds the server's user-level lock of its name
//! ([`WriterName`], by `GET_LOCK`), from before its first write to its end. Whoever finds the lock
//! held ends the session that holds it (`KILL`, which needs no right for a session of one's own
//! account) and waits for the lock. A statement that has not reached the server by then finds no
//! session.
//!
//! **The lock comes free after the last write.** Both servers give a session's user-level locks
//! back at its end, on its own thread: what it was running has committed or was rolled back, what
//! it left open is rolled back, and only then are the locks released (`THD::cleanup` in
//! `sql/sql_class.cc`: `trans_rollback` stands before `mysql_ull_cleanup`, in the sources of
//! MariaDB and of MySQL 8). Seen on MariaDB 10.11 and MySQL 9.7, too: a killed session with 100,000
//! uncommitted rows kept its lock until the last of them was gone. `KILL QUERY`, a timeout or a
//! rollback leave the lock where it is, and nobody else can release it. A session whose commit waits
//! for a replica's acknowledgement keeps it as well, and so keeps its successor, and the keys of
//! that write, waiting.

use std::time::Duration;

use mysql_async::Error;
use tokio::time::timeout;

use super::{
    decode::column,
    error::{Doing, NO_SUCH_SESSION, storage_error, unreachable},
    session::{Failure, Session, query},
};
use crate::{error::StorageError, server::WriterName};

/// How long the end of the session before is waited for, after it was killed. MySQL counts it in
/// whole seconds.
const END_WAIT_S: u64 = 1;

/// How long all of it may take.
const TAKE_OVER_MAX: Duration = Duration::from_millis(1_500);

/// What an attempt to take the lock showed.
struct Look {
    had: bool,
    /// The session that holds it.
    holder: Option<u64>,
}

/// Makes this the only session that writes under the name.
pub(super) async fn take_over(
    session: &mut Session,
    name: &WriterName,
) -> Result<(), StorageError> {
    let taken = timeout(TAKE_OVER_MAX, take_over_in_any_time(session, name)).await;
    taken.unwrap_or_else(|_| {
        Err(unreachable(format!(
            "the lock of this lane was not had within {TAKE_OVER_MAX:?}"
        )))
    })
}

async fn take_over_in_any_time(
    session: &mut Session,
    name: &WriterName,
) -> Result<(), StorageError> {
    let before = match look(session, name, 0).await? {
        Look { had: true, .. } => return Ok(()),
        Look { holder, .. } => holder,
    };
    if let Some(holder) = before {
        kill(session, holder).await?;
    }
    let Look { had, holder } = look(session, name, END_WAIT_S).await?;
    if had {
        tracing::debug!(session = before, "ended the session before");
        return Ok(());
    }
    let holder = holder
        .or(before)
        .map_or_else(String::new, |id| format!(" {id}"));
    Err(unreachable(format!(
        "session{holder}, which this lane gave up, still runs {END_WAIT_S} s after it was killed: \
         it may still write"
    )))
}

/// Tries to take the lock for so many seconds.
async fn look(session: &mut Session, name: &WriterName, wait_s: u64) -> Result<Look, StorageError> {
    let text = format!("SELECT GET_LOCK('{name}', {wait_s}), IS_USED_LOCK('{name}')");
    let answer = query(&mut session.conn, text).await.map_err(not_had)?;
    let row = answer.rows.into_iter().next();
    let mut row = row.ok_or_else(|| unreachable("the server does not answer queries"))?;
    // NULL, where it says that something broke the attempt off.
    let had: Option<bool> = column(&mut row, 0, "a lock")?;
    Ok(Look {
        had: had == Some(true),
        holder: column(&mut row, 1, "the holder of a lock")?,
    })
}

async fn kill(session: &mut Session, holder: u64) -> Result<(), StorageError> {
    match query(&mut session.conn, format!("KILL CONNECTION {holder}")).await {
        Ok(_) => Ok(()),
        Err(Failure {
            error: Error::Server(server),
            ..
        }) if server.code == NO_SUCH_SESSION => Ok(()),
        Err(Failure {
            error: Error::Server(server),
            ..
        }) => Err(unreachable(format!(
            "session {holder}, which this lane gave up, cannot be ended: {} (error {})",
            server.message, server.code
        ))),
        Err(failure) => Err(not_had(failure)),
    }
}

/// Nothing that anybody asked for was sent yet.
fn not_had(failure: Failure) -> StorageError {
    storage_error(&failure.error, Doing::Preparing)
}
