//! A session and what can be asked of it: one prepared statement, or one packet of several.
//!
//! A [`Session`] is taken out of its connection for the length of a call, and put back only when
//! the call ended in order. The driver does not protect itself here: after a future was dropped,
//! the same connection gave the old query's answer to the next one.

use std::time::Duration;

use mysql_async::{Conn, Error, Params, Row, Statement, prelude::Queryable as _};
use rand::rngs::StdRng;

use super::{
    error::{Doing, NO_ROOM_TO_PREPARE, storage_error},
    statements::SIZES,
};
use crate::error::StorageError;

/// An open session, set up and checked.
pub(super) struct Session {
    pub(super) conn: Conn,
    /// The server's `max_allowed_packet`, in bytes.
    pub(super) packet_bytes_max: usize,
    /// How long a call that writes may go on sending.
    pub(super) sending_max: Duration,
    pub(super) random: StdRng,
    /// Whether the server is MariaDB; else it is MySQL.
    pub(super) is_mariadb: bool,
    /// Whether the last write that was sent changed a row, as far as its answer came.
    pub(super) last_write_changed: bool,
    pub(super) prepared: Prepared,
}

/// The statements a session keeps prepared, by their sizes: up to 26 in a session that reads, 13 under a
/// known fence and 13 without, 24 in one that writes, 2 in one that scans.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) put: [Option<Statement>; SIZES],
    /// Where a row of the batch expires.
    pub(super) put_expiring: [Option<Statement>; SIZES],
    pub(super) read: [Option<Statement>; SIZES],
    /// Where the fence is known.
    pub(super) read_under: [Option<Statement>; SIZES],
    /// For any number of keys.
    pub(super) read_numbered: Option<Statement>,
    pub(super) read_numbered_under: Option<Statement>,
    /// In one slot under a known fence, by where it begins.
    pub(super) scan_under: [Option<Statement>; 2],
}

/// What the server sent for one statement of a packet.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    pub(super) affected: u64,
}

/// Why an exchange failed, with what is needed to tell what became of a write in it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// How many statements of the packet had answered; `None` if nothing was sent.
    pub(super) answered: Option<usize>,
}

impl Failure {
    /// The server's error number, if it answered one instead of doing statement `index`.
    pub(super) fn refused_at(&self, index: usize) -> Option<u16> {
        match (&self.error, self.answered) {
            (Error::Server(server), None) => Some(server.code),
            (Error::Server(server), Some(answered)) if answered <= index => Some(server.code),
            _ => None,
        }
    }

    /// What it means for a write that is statement `index` of its packet.
    pub(super) fn of_write_at(&self, index: usize) -> StorageError {
        let doing = match self.answered {
            None => Doing::Preparing,
            Some(answered) if answered <= index => Doing::Writing,
            Some(_) => Doing::Reporting,
        };
        storage_error(&self.error, doing)
    }

    /// What it means for a read.
    pub(super) fn of_read(&self) -> StorageError {
        let doing = match self.answered {
            None => Doing::Preparing,
            Some(_) => Doing::Reading,
        };
        storage_error(&self.error, doing)
    }
}

/// The statement kept in `place`, prepared if it is not there yet. `None` if the server has no room
/// for another one: the same has to go as text then.
pub(super) async fn kept<'a>(
    conn: &mut Conn,
    place: &'a mut Option<Statement>,
    text: impl FnOnce() -> String,
) -> Result<Option<&'a Statement>, Failure> {
    if place.is_none() {
        match conn.prep(text()).await {
            Ok(statement) => *place = Some(statement),
            Err(Error::Server(server)) if server.code == NO_ROOM_TO_PREPARE => {}
            Err(error) => {
                return Err(Failure {
                    error,
                    answered: None,
                });
            }
        }
    }
    Ok(place.as_ref())
}

/// Runs a prepared statement.
pub(super) async fn execute(
    conn: &mut Conn,
    statement: &Statement,
    params: Params,
) -> Result<Answer, Failure> {
    let rows = conn.exec(statement, params).await;
    Ok(Answer {
        rows: rows.map_err(|error| Failure {
            error,
            answered: Some(0),
        })?,
        affected: conn.affected_rows(),
    })
}

/// Sends statements as one packet and brings back an answer for each. The first that fails ends
/// it: the server does not begin those behind it.
pub(super) async fn packet(conn: &mut Conn, statements: &[String]) -> Result<Vec<Answer>, Failure> {
    let failed = |answered| {
        move |error| Failure {
            error,
            answered: Some(answered),
        }
    };
    let text = statements.join("; ");
    let mut result = conn.query_iter(text).await.map_err(failed(0))?;
    let mut answers = Vec::with_capacity(statements.len());
    // Counted, not asked: behind a failed statement the driver says that nothing is left, and
    // gives the error to the next query instead.
    for index in 0..statements.len() {
        let affected = result.affected_rows();
        let rows = result.collect().await.map_err(failed(index))?;
        answers.push(Answer { rows, affected });
    }
    Ok(answers)
}

/// Sends one statement as text and hands its rows over one by one: for answers that are large.
pub(super) async fn query_each(
    conn: &mut Conn,
    statement: &str,
    mut take: impl FnMut(Row) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let failed = |error| {
        let answered = Some(0);
        Failure { error, answered }.of_read()
    };
    let mut result = conn.query_iter(statement).await.map_err(failed)?;
    let mut taken = Ok(());
    // To the end in any case: the next query would get what is left.
    while let Some(row) = result.next().await.map_err(failed)? {
        if taken.is_ok() {
            taken = take(row);
        }
    }
    taken
}

/// Sends one statement as text.
pub(super) async fn query(conn: &mut Conn, statement: String) -> Result<Answer, Failure> {
    let mut answers = packet(conn, &[statement]).await?;
    Ok(answers.pop().unwrap_or_default())
}
