//! PUT: one REPLACE of many rows, prepared, that carries the fence in its first row.
//!
//! **The shape.** The first row's slot is `COALESCE((SELECT 0 <the fence>), 2^63 - 1) * 2 + slot`:
//! the slot itself if the fence agrees, else a number out of range, error 1690, which no sql_mode
//! turns into a warning and nothing else in the statement can raise (a time to live is at most a
//! hundred years). A plain `(SELECT ...) + slot` would be NULL, which without a strict sql_mode was
//! stored as slot 0. Rows from a derived table (`REPLACE ... SELECT ... UNION ALL ... JOIN shard`)
//! are out: without an error or a warning, values of 64 KiB and more came back empty on MariaDB and
//! cut to 65,535 bytes on MySQL.
//!
//! **Two texts.** Rows that never expire are most of many stores, and a constant costs less than the
//! clock: 20 microseconds of server CPU per row instead of 24 (MariaDB, 128 rows, two connections).
//! A batch in which some row expires works out `base + clock * n` for each, with n = 0 for never:
//! whole numbers, one statement for any mix.
//!
//! **The lock.** Both servers lock what a subquery of `REPLACE ... VALUES` reads even without
//! `LOCK IN SHARE MODE`, under READ COMMITTED too. The clause stands there because neither promises
//! it: in UPDATE and `REPLACE ... SELECT` it is what keeps a change of ownership from overtaking.
//!
//! **Sizes.** Statements are prepared for twelve sizes (powers of two, from 16 on multiples of 16),
//! and a batch is padded to the next one by repeating its shortest row. The repeats are looked up,
//! found equal and neither stored nor logged: 3 rows and 3 rows padded to 8 made 1,213 bytes of
//! binlog each.
//! Measured against one statement per power of two (split), a text with literals, and a statement
//! prepared for exactly that size; microseconds of server CPU per row, values of 100 bytes, one
//! connection, synced commits, on two cores that other work shared (±25 %):
//!
//! | rows (padded to) | MariaDB: padded, split, text, exact | MySQL: padded, split, text, exact |
//! |---|---|---|
//! | 3 (4) | 109, 110, 93, 193 | 164, 235, 154, 204 |
//! | 9 (16) | 55, 59, 68, 58 | 84, 119, 85, 77 |
//! | 33 (64) | 25, 29, 28, 27 | 40, 48, 36, 34 |
//! | 65 (128) | 22, 19, 22, 15 | 31, 29, 27, 26 |
//! | 100 (128) | 14, 20, 15, 14 | 24, 34, 28, 19 |
//! | 127 (128) | 13, 39, 16, 13 | 18, 50, 21, 20 |
//!
//! That was measured on MariaDB 10.11 and MySQL 9.7 with sizes that are powers of two: padding costs
//! nearly nothing except just above one, where it costs what a text does. With the sizes between, it
//! is 15 rows at most. Splitting pays a commit per part: 127 rows went at 2.9 thousand rows/s
//! instead of 12.5 (MariaDB), 1.6 instead of 10.5 (MySQL). With large values it is the other way
//! round (65 rows of 1,000 bytes: padded 40 and 44, split 26 and 33), so a batch whose padding would
//! be larger than [`PADDING_BYTES_MAX`] is split.

use std::fmt::{Display, Write as _};

use freehold_core::{
    Fence,
    planted::{self, Bug},
};
use mysql_async::{Params, Value};

use super::{
    error::OUT_OF_RANGE,
    session::{Session, execute, kept, query},
    statements::{NEVER, NOW, fence_row, filled_size, hex, prepared_size, size_index},
    write::{Form, Sent, WriteFailure},
};
use crate::row::PutRow;

/// The statement for so many rows that all expire, or never do.
fn text(rows: usize, expiring: bool) -> String {
    let never = NEVER.to_string();
    let expires_at = if expiring {
        expires_at("?", "?")
    } else {
        never
    };
    let row = ["?", "?", "?", "?", &expires_at];
    statement(["?", "?"], std::iter::repeat_n(row, rows))
}

/// `expires_at` of a row: `base` and no `clocks` for never, milliseconds to live and one clock else.
fn expires_at(base: impl Display, clocks: impl Display) -> String {
    format!("{base} + {NOW} * {clocks}")
}

/// See [`expires_at`]. What would be out of range together with the clock never expires.
fn base_and_clocks(row: &PutRow) -> (i64, i64) {
    let ttl_ms = row.ttl_ms.and_then(|ttl_ms| i64::try_from(ttl_ms).ok());
    match ttl_ms.filter(|ttl_ms| *ttl_ms < NEVER / 2) {
        Some(ttl_ms) => (ttl_ms, 1),
        None => (NEVER, 0),
    }
}

/// The same as text, where it cannot be prepared. `value` makes a literal of a value.
pub(super) fn literal(fence: &Fence, rows: &[PutRow], value: impl Fn(&[u8]) -> String) -> String {
    let row = |row: &PutRow| {
        [
            row.key.slot().to_string(),
            hex(row.key.bytes()),
            value(&row.value),
            row.version.to_string(),
            match base_and_clocks(row) {
                (never, 0) => never.to_string(),
                (ttl_ms, clocks) => expires_at(ttl_ms, clocks),
            },
        ]
    };
    let fence = [fence.stamp, fence.server_id].map(|number| number.to_string());
    statement(fence, rows.iter().map(row))
}

/// `fence` is stamp and server_id; a row is slot, key, value, version and expiry.
fn statement<S: Display>([stamp, server_id]: [S; 2], rows: impl Iterator<Item = [S; 5]>) -> String {
    let fence = fence_row(stamp, server_id);
    let mut text =
        "REPLACE INTO store (slot, `key`, value, version, expires_at) VALUES ".to_owned();
    for (index, [slot, key, value, version, expires_at]) in rows.enumerate() {
        // Writing to a string cannot fail.
        let _ = match index {
            0 => write!(text, "(COALESCE((SELECT 0 {fence}), {NEVER}) * 2 + {slot}"),
            _ => write!(text, ", ({slot}"),
        };
        let _ = write!(text, ", {key}, {value}, {version}, {expires_at})");
    }
    text
}

/// Bytes that a row adds to the packet, at most.
pub(super) fn row_bytes(row: &PutRow, form: Form) -> usize {
    let bytes = row.key.bytes().len() + row.value.len();
    match form {
        // Six types of two bytes, four numbers of eight, two lengths of at most nine.
        Form::Prepared => bytes + 64,
        // Two digits for each byte; four numbers of at most twenty, the clock, and what stands
        // between them.
        Form::Text | Form::Logged => 2 * bytes + 192,
    }
}

/// What repeated rows may add to a statement, in bytes; a batch that would need more is split.
const PADDING_BYTES_MAX: usize = 64 << 10;

/// How many of these rows, which have so many bytes and fit one packet without padding, go into
/// one statement: all, or as many as fill a statement.
pub(super) fn rows_at_once(rows: &[PutRow], bytes: usize, packet_bytes_max: usize) -> usize {
    let repeats = prepared_size(rows.len()) - rows.len();
    let padding = shortest(rows).map_or(0, |row| row_bytes(row, Form::Prepared) * repeats);
    if padding <= PADDING_BYTES_MAX && bytes + padding <= packet_bytes_max {
        return rows.len();
    }
    filled_size(rows.len())
}

fn shortest(rows: &[PutRow]) -> Option<&PutRow> {
    rows.iter().min_by_key(|row| row.value.len())
}

pub(super) async fn send(session: &mut Session, fence: &Fence, rows: &[PutRow]) -> Sent {
    debug_assert!(
        rows.is_sorted_by(|a, b| a.key < b.key),
        "each key once, in order"
    );
    if planted::is(Bug::OpenTransaction) && rows[0].version.is_multiple_of(64) {
        drop(query(&mut session.conn, "BEGIN".to_owned()).await);
    }
    session.last_write_changed = false;
    let size = prepared_size(rows.len());
    let expiring = rows.iter().any(|row| row.ttl_ms.is_some());
    let prepared = &mut session.prepared;
    let places = if expiring {
        &mut prepared.put_expiring
    } else {
        &mut prepared.put
    };
    let place = &mut places[size_index(size)];
    let statement = kept(&mut session.conn, place, || text(size, expiring)).await;
    let sent = match statement.map_err(|failure| WriteFailure::at(0, &failure))? {
        Some(statement) => {
            let params = params(fence, rows, size, expiring);
            execute(&mut session.conn, statement, params).await
        }
        None => {
            let text = literal(fence, rows, hex);
            // One byte more says what kind of packet it is.
            if text.len() >= session.packet_bytes_max {
                return Err(WriteFailure::too_long_as_text());
            }
            query(&mut session.conn, text).await
        }
    };
    match sent {
        Ok(_) => {
            // A version that was never there before is a change.
            session.last_write_changed = true;
            Ok(Some(vec![true; rows.len()]))
        }
        Err(failure) if failure.refused_at(0) == Some(OUT_OF_RANGE) => Ok(None),
        Err(failure) => Err(WriteFailure::at(0, &failure)),
    }
}

fn params(fence: &Fence, rows: &[PutRow], size: usize, expiring: bool) -> Params {
    let mut params = Vec::with_capacity(2 + size * 6);
    params.extend([Value::UInt(fence.stamp), Value::UInt(fence.server_id)]);
    let padding = shortest(rows).into_iter().cycle().take(size - rows.len());
    for row in rows.iter().chain(padding) {
        params.extend([
            Value::UInt(row.key.slot().0.into()),
            Value::Bytes(row.key.bytes().to_vec()),
            Value::Bytes(row.value.to_vec()),
            Value::UInt(row.version),
        ]);
        if expiring {
            let (base, clocks) = base_and_clocks(row);
            params.extend([Value::Int(base), Value::Int(clocks)]);
        }
    }
    Params::Positional(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_stands_in_the_first_row_and_every_row_has_its_parameters() {
        for rows in [1, 2, 128] {
            for (expiring, parameters) in [(false, 4), (true, 6)] {
                let text = text(rows, expiring);
                assert_eq!(text.matches("LOCK IN SHARE MODE").count(), 1);
                assert_eq!(text.matches('?').count(), 2 + rows * parameters);
            }
        }
    }

    fn rows(values: &[usize]) -> Vec<PutRow> {
        let row = |bytes: &usize| PutRow {
            key: freehold_core::Key::new("k").unwrap(),
            value: vec![0; *bytes].into(),
            version: 1,
            ttl_ms: None,
        };
        values.iter().map(row).collect()
    }

    #[test]
    fn a_batch_is_padded_with_its_shortest_row_unless_that_is_long() {
        let bytes = |rows: &[PutRow]| {
            let bytes = rows.iter().map(|row| row_bytes(row, Form::Prepared));
            bytes.sum()
        };
        let at_once = |values: &[usize], packet| {
            let rows = rows(values);
            rows_at_once(&rows, bytes(&rows), packet)
        };
        let large = 1 << 26;
        assert_eq!(at_once(&[100; 65], large), 65);
        assert_eq!(at_once(&[2_000; 65], large), 65);
        assert_eq!(at_once(&[8_000; 65], large), 64);
        assert_eq!(at_once(&[2_000; 64], large), 64);
        assert_eq!(at_once(&[1 << 20; 3], large), 2);
        assert_eq!(at_once(&[1 << 20, 0, 1 << 20], large), 3);
        assert_eq!(
            at_once(&[1_000; 3], 4_000),
            2,
            "the packet has no room for the repeat"
        );
        assert_eq!(at_once(&[1 << 20], large), 1);
    }
}
