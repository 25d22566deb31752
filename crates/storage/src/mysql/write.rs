//! The three fenced writes, and what is done about contention.
//!
//! A deadlock was rolled back, so the same statement is sent again, a bounded number of times. A
//! batch that waited too long for one lock goes row by row: the row that is locked fails, the
//! others do not. What does not fit one packet goes in parts.
//!
//! All of it ends within the time that the caller waits for an answer, because then the caller
//! gives the connection up, and with it what became of every row: nothing more is sent when what is
//! left of the time may be too short for an answer, and those rows are not applied.

use std::{ops::Range, time::Duration};

use freehold_core::{
    Fence,
    limits::{LOCK_WAIT_MARGIN, LOCK_WAIT_MAX, STATEMENT_KEYS_MAX},
    planted::{self, Bug},
};
use rand::RngExt as _;
use tokio::time::{Instant, sleep};

use super::{
    change, error,
    error::{DEADLOCK, LOCK_WAIT_TIMEOUT, NO_ROOM_TO_PREPARE, PACKET_TOO_LARGE},
    logged, put,
    session::{Failure, Session, query},
};
use crate::{
    error::{Outcome, Refusal, StorageError},
    row::Write,
};

/// How often a statement is sent again after a deadlock.
const DEADLOCK_REPEATS_MAX: u32 = 8;

/// The longest pause before a repeat, in microseconds. The other transaction of the deadlock goes
/// on at once; two that were both rolled back part ways by chance.
const REPEAT_PAUSE_US_MAX: u64 = 2_000;

/// How long a call may go on sending; what is left is then given up as not applied. With a lock
/// wait of 2 s each, 128 rows behind one stuck lock would take four minutes.
pub(super) const SENDING_MAX: Duration = Duration::from_secs(5);

/// How long a call may go on sending whose caller waits so long for its answer. Less than
/// `STATEMENT_TIMEOUT_MIN` may let the first statement go out, and no second one.
pub(super) fn sending_max(answer_within: Duration) -> Duration {
    let left = answer_within.saturating_sub(LOCK_WAIT_MAX + LOCK_WAIT_MARGIN);
    left.min(SENDING_MAX)
}

impl Write<'_> {
    fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::Put(rows) => Self::Put(&rows[range]),
            Self::Delete(keys) => Self::Delete(&keys[range]),
            Self::Expire(rows) => Self::Expire(&rows[range]),
        }
    }

    /// Bytes that row `index` adds to a packet, at most.
    fn row_bytes(&self, index: usize, form: Form) -> usize {
        if form == Form::Logged {
            return logged::row_bytes(self, index);
        }
        match self {
            Self::Put(rows) => put::row_bytes(&rows[index], form),
            Self::Delete(keys) => change::delete_bytes(&keys[index]),
            Self::Expire(rows) => change::expire_bytes(&rows[index]),
        }
    }

    /// How many rows from `first` on go into one statement; at least one.
    fn at_once(&self, first: usize, packet_bytes_max: usize, form: Form) -> usize {
        let mut bytes = PACKET_OVERHEAD_BYTES;
        let mut count = 0;
        for index in first..self.len().min(first + STATEMENT_KEYS_MAX) {
            let with_row = bytes + self.row_bytes(index, form);
            if with_row > packet_bytes_max && count > 0 {
                break;
            }
            (bytes, count) = (with_row, count + 1);
        }
        match self {
            Self::Put(rows) if form == Form::Prepared => {
                put::rows_at_once(&rows[first..first + count], bytes, packet_bytes_max)
            }
            _ => count,
        }
    }

    async fn send(&self, session: &mut Session, fence: &Fence, form: Form) -> Sent {
        if planted::is(Bug::FenceReadApart) {
            let look = format!("SELECT 0 FROM shard WHERE stamp = {}", fence.stamp);
            let looked = query(&mut session.conn, look).await;
            let looked = looked.map_err(|failure| WriteFailure::at(1, &failure))?;
            if looked.rows.is_empty() {
                return Ok(None);
            }
        }
        match self {
            _ if form == Form::Logged => logged::send(session, fence, *self).await,
            Self::Put(rows) => put::send(session, fence, rows).await,
            Self::Delete(keys) => change::send_delete(session, fence, keys).await,
            Self::Expire(rows) => change::send_expire(session, fence, rows).await,
        }
    }
}

/// How the rows of a PUT reach the server. (The other writes always go as text.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As the parameters of a prepared statement.
    Prepared,
    /// As literals, which have two digits for each byte.
    Text,
    /// As literals in a text that the server runs together with the log of keys; all writes do so.
    Logged,
}

/// What a packet holds besides its rows, rounded up.
const PACKET_OVERHEAD_BYTES: usize = 2_048;

/// One statement's end: whether a live row was there for each row (always true for a PUT), or
/// nothing at all because the fence disagreed.
pub(super) type Sent = Result<Option<Vec<bool>>, WriteFailure>;

/// Why a write was not answered in order.
#[derive(Debug)]
pub(super) struct WriteFailure {
    /// The error number, if the server refused the write itself.
    code: Option<u16>,
    error: StorageError,
}

impl WriteFailure {
    /// The failure of a packet whose statement `index` is the write.
    pub(super) fn at(index: usize, failure: &Failure) -> Self {
        Self {
            code: failure.refused_at(index),
            error: failure.of_write_at(index),
        }
    }

    /// Nothing was sent: there is no room to prepare the statement, and as text it fits no packet.
    pub(super) fn too_long_as_text() -> Self {
        let message = "the statement fits no packet as text, and the server has no room to prepare \
                       it: raise max_prepared_stmt_count";
        Self {
            code: Some(NO_ROOM_TO_PREPARE),
            error: error::refused(Refusal::Busy, NO_ROOM_TO_PREPARE, message),
        }
    }

    /// A failure that the server did not number.
    pub(super) fn unnumbered(error: StorageError) -> Self {
        Self { code: None, error }
    }
}

/// Writes rows, first in this form, and says what became of each.
pub(super) async fn write(
    session: &mut Session,
    fence: &Fence,
    rows: Write<'_>,
    mut form: Form,
) -> Vec<Outcome<bool>> {
    let until = Instant::now() + session.sending_max;
    let mut outcomes = Vec::with_capacity(rows.len());
    while outcomes.len() < rows.len() {
        let first = outcomes.len();
        let count = rows.at_once(first, session.packet_bytes_max, form);
        let part = rows.part(first..first + count);
        let Some(written) = write_part(session, fence, part, form, until).await else {
            form = Form::Text;
            continue;
        };
        outcomes.extend(written);
        if let Some(rest) = outcomes.last().and_then(|last| rest_after(last, until)) {
            outcomes.resize(rows.len(), rest);
        }
    }
    outcomes
}

/// What becomes of the rows behind one with this outcome, if they need not be sent any more.
fn rest_after(last: &Outcome<bool>, until: Instant) -> Option<Outcome<bool>> {
    match last {
        // It will not agree again: a stamp never comes back.
        Outcome::FenceDisagrees => Some(Outcome::FenceDisagrees),
        Outcome::Failed(error) if error.breaks_connection() => Some(Outcome::Failed(
            error::unreachable("the connection broke before"),
        )),
        _ if Instant::now() >= until => {
            let message = "not sent: rows before it waited for locks too long";
            let error = error::refused(Refusal::Busy, LOCK_WAIT_TIMEOUT, message);
            Some(Outcome::Failed(error))
        }
        _ => None,
    }
}

/// Writes what one statement holds; `None`, and nothing sent, if these rows can only go as text and
/// do not fit one packet so.
async fn write_part(
    session: &mut Session,
    fence: &Fence,
    rows: Write<'_>,
    form: Form,
    until: Instant,
) -> Option<Vec<Outcome<bool>>> {
    let row_bytes = || match form {
        Form::Logged => logged::row_bytes_alone(&rows),
        form => rows.row_bytes(0, form) + PACKET_OVERHEAD_BYTES,
    };
    if rows.len() == 1 && row_bytes() > session.packet_bytes_max {
        return Some(vec![Outcome::Failed(fits_no_packet(session, form))]);
    }
    match send_repeatedly(session, fence, rows, form, until).await {
        Err(failure) if failure.code == Some(NO_ROOM_TO_PREPARE) && form == Form::Prepared => None,
        Err(failure)
            if failure.code == Some(LOCK_WAIT_TIMEOUT)
                && rows.len() > 1
                && Instant::now() < until =>
        {
            Some(write_singly(session, fence, rows, form, until).await)
        }
        sent => Some(outcomes(rows.len(), sent)),
    }
}

fn fits_no_packet(session: &Session, form: Form) -> StorageError {
    let packet_bytes_max = session.packet_bytes_max;
    let message = match form {
        Form::Prepared | Form::Logged => {
            format!("the row does not fit max_allowed_packet, {packet_bytes_max} bytes")
        }
        Form::Text => format!(
            "the row as text does not fit max_allowed_packet, {packet_bytes_max} bytes, and the \
             server has no room to prepare its statement: raise max_prepared_stmt_count"
        ),
    };
    error::refused(Refusal::TooLarge, PACKET_TOO_LARGE, &message)
}

/// Sends until it is no deadlock.
async fn send_repeatedly(
    session: &mut Session,
    fence: &Fence,
    rows: Write<'_>,
    form: Form,
    until: Instant,
) -> Sent {
    let mut repeats = 0;
    loop {
        match rows.send(session, fence, form).await {
            Err(failure)
                if failure.code == Some(DEADLOCK)
                    && repeats < DEADLOCK_REPEATS_MAX
                    && Instant::now() < until =>
            {
                repeats += 1;
                let pause_us = session.random.random_range(0..=REPEAT_PAUSE_US_MAX);
                sleep(Duration::from_micros(pause_us)).await;
            }
            sent => return sent,
        }
    }
}

async fn write_singly(
    session: &mut Session,
    fence: &Fence,
    rows: Write<'_>,
    form: Form,
    until: Instant,
) -> Vec<Outcome<bool>> {
    let mut done = Vec::with_capacity(rows.len());
    while done.len() < rows.len() {
        let row = rows.part(done.len()..done.len() + 1);
        done.extend(outcomes(
            1,
            send_repeatedly(session, fence, row, form, until).await,
        ));
        if let Some(rest) = done.last().and_then(|last| rest_after(last, until)) {
            done.resize(rows.len(), rest);
        }
    }
    done
}

fn outcomes(count: usize, sent: Sent) -> Vec<Outcome<bool>> {
    match sent {
        Ok(Some(existed)) => existed.into_iter().map(Outcome::Applied).collect(),
        Ok(None) => vec![Outcome::FenceDisagrees; count],
        Err(failure) => vec![Outcome::Failed(failure.error); count],
    }
}
