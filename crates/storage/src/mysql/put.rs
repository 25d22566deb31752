//! PUT: one REPLACE of many rows, prepared, that carries the fence in its first row.
//!
//! **The shape.** The first row's slot is `COALESCE((SELECT 0 <the fence>), 2^63 - 1) * 2 + slot`:
//! the slot itself if the fence agrees, else a number out of range, error 1690, which no sql_mode
//! turns into a warning and nothing else in the statement can raise (times are DECIMAL until LEAST
//! has cut them). A plain `(SELECT ...) + slot` would be NULL, which without a strict sql_mode was
//! stored as slot 0. Rows from a derived table (`REPLACE ... SELECT ... UNION ALL ... JOIN shard`)
//! are out: without an error or a warning, values of 64 KiB and more came back empty on MariaDB and
//! cut to 65,535 bytes on MySQL.
//!
//! **The lock.** Both servers lock what a subquery of `REPLACE ... VALUES` reads even without
//! `LOCK IN SHARE MODE`, under READ COMMITTED too. The clause stands there because neither promises
//! it: in UPDATE and `REPLACE ... SELECT` it is what keeps a change of ownership from overtaking.
//!
//! **Sizes.** Statements are prepared for powers of two of rows, eight per connection, and a batch
//! is padded to the next one by repeating its shortest row. The repeats are looked up, found equal
//! and neither stored nor logged: 3 rows and 3 rows padded to 8 made 1,213 bytes of binlog each.
//! Measured against one statement per power of two (split), a text with literals, and a statement
//! prepared for exactly that size; microseconds of server CPU per row, values of 100 bytes, one
//! connection, synced commits, on two cores that other work shared (±25 %):
//!
//! | rows | MariaDB 10.11: padded, split, text, exact | MySQL 9.7: padded, split, text, exact |
//! |---|---|---|
//! | 3 | 109, 110, 93, 193 | 164, 235, 154, 204 |
//! | 9 | 55, 59, 68, 58 | 84, 119, 85, 77 |
//! | 33 | 25, 29, 28, 27 | 40, 48, 36, 34 |
//! | 65 | 22, 19, 22, 15 | 31, 29, 27, 26 |
//! | 100 | 14, 20, 15, 14 | 24, 34, 28, 19 |
//! | 127 | 13, 39, 16, 13 | 18, 50, 21, 20 |
//!
//! So padding costs nearly nothing except just above a power of two, where it costs what a text
//! does, and the full batches of a busy lane go unpadded. Splitting pays a commit per part: 127 rows
//! went at 2.9 thousand rows/s instead of 12.5 (MariaDB), 1.6 instead of 10.5 (MySQL). With large
//! values it is the other way round (65 rows of 1,000 bytes: padded 40 and 44, split 26 and 33), so
//! a batch whose padding would be larger than [`PADDING_BYTES_MAX`] is split.

use std::fmt::{Display, Write as _};

use freehold_core::Fence;
use mysql_async::{Params, Value};

use super::{
    error::OUT_OF_RANGE,
    session::{Session, execute, kept, query},
    statements::{NEVER, NOW, fence_row, hex, prepared_size},
    write::{Sent, WriteFailure},
};
use crate::row::PutRow;

/// The statement for so many rows.
fn text(rows: usize) -> String {
    let rows = std::iter::repeat_n(["?", "?", "?", "?", "?"], rows);
    statement(["?", "?"], rows)
}

/// The same as text, where it cannot be prepared.
fn literal(fence: &Fence, rows: &[PutRow]) -> String {
    let row = |row: &PutRow| {
        [
            row.key.slot().to_string(),
            hex(row.key.bytes()),
            hex(&row.value),
            row.version.to_string(),
            ttl_ms(row).to_string(),
        ]
    };
    let fence = [fence.stamp, fence.server_id].map(|number| number.to_string());
    statement(fence, rows.iter().map(row))
}

/// `fence` is stamp and server_id; a row is slot, key, value, version and milliseconds to live.
fn statement<S: Display>([stamp, server_id]: [S; 2], rows: impl Iterator<Item = [S; 5]>) -> String {
    let fence = fence_row(stamp, server_id);
    let mut text =
        "REPLACE INTO store (slot, `key`, value, version, expires_at) VALUES ".to_owned();
    for (index, [slot, key, value, version, ttl_ms]) in rows.enumerate() {
        // Writing to a string cannot fail.
        let _ = match index {
            0 => write!(text, "(COALESCE((SELECT 0 {fence}), {NEVER}) * 2 + {slot}"),
            _ => write!(text, ", ({slot}"),
        };
        let _ = write!(
            text,
            ", {key}, {value}, {version}, LEAST({NOW} + {ttl_ms}, {NEVER}))"
        );
    }
    text
}

fn ttl_ms(row: &PutRow) -> i64 {
    let ttl_ms = row.ttl_ms.and_then(|ttl_ms| i64::try_from(ttl_ms).ok());
    ttl_ms.unwrap_or(NEVER)
}

/// Bytes that a row adds to the packet, at most.
pub(super) fn row_bytes(row: &PutRow) -> usize {
    // Five types of two bytes, three numbers of eight, two lengths of at most nine.
    row.key.bytes().len() + row.value.len() + 64
}

/// What repeated rows may add to a statement, in bytes; a batch that would need more is split.
const PADDING_BYTES_MAX: usize = 64 << 10;

/// How many of these rows, which have so many bytes and fit one packet without padding, go into
/// one statement: all, or the largest power of two.
pub(super) fn rows_at_once(rows: &[PutRow], bytes: usize, packet_bytes_max: usize) -> usize {
    let repeats = prepared_size(rows.len()) - rows.len();
    let padding = shortest(rows).map_or(0, |row| row_bytes(row) * repeats);
    if padding <= PADDING_BYTES_MAX && bytes + padding <= packet_bytes_max {
        return rows.len();
    }
    1 << rows.len().ilog2()
}

fn shortest(rows: &[PutRow]) -> Option<&PutRow> {
    rows.iter().min_by_key(|row| row.value.len())
}

pub(super) async fn send(session: &mut Session, fence: &Fence, rows: &[PutRow]) -> Sent {
    debug_assert!(
        rows.is_sorted_by(|a, b| a.key < b.key),
        "each key once, in order"
    );
    let size = prepared_size(rows.len());
    let place = &mut session.prepared.put[size.ilog2() as usize];
    let statement = kept(&mut session.conn, place, || text(size)).await;
    let sent = match statement.map_err(|failure| WriteFailure::at(0, &failure))? {
        Some(statement) => execute(&mut session.conn, statement, params(fence, rows, size)).await,
        None => query(&mut session.conn, literal(fence, rows)).await,
    };
    match sent {
        Ok(_) => Ok(Some(vec![true; rows.len()])),
        Err(failure) if failure.refused_at(0) == Some(OUT_OF_RANGE) => Ok(None),
        Err(failure) => Err(WriteFailure::at(0, &failure)),
    }
}

fn params(fence: &Fence, rows: &[PutRow], size: usize) -> Params {
    let mut params = Vec::with_capacity(2 + size * 5);
    params.extend([Value::UInt(fence.stamp), Value::UInt(fence.server_id)]);
    let padding = shortest(rows).into_iter().cycle().take(size - rows.len());
    for row in rows.iter().chain(padding) {
        params.extend([
            Value::UInt(row.key.slot().0.into()),
            Value::Bytes(row.key.bytes().to_vec()),
            Value::Bytes(row.value.to_vec()),
            Value::UInt(row.version),
            Value::Int(ttl_ms(row)),
        ]);
    }
    Params::Positional(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_stands_in_the_first_row_and_every_row_has_its_parameters() {
        for rows in [1, 2, 128] {
            let text = text(rows);
            assert_eq!(text.matches("LOCK IN SHARE MODE").count(), 1);
            assert_eq!(text.matches('?').count(), 2 + rows * 5);
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
        let at_once = |values: &[usize], packet| {
            let rows = rows(values);
            rows_at_once(&rows, rows.iter().map(row_bytes).sum(), packet)
        };
        let large = 1 << 26;
        assert_eq!(at_once(&[100; 65], large), 65);
        assert_eq!(at_once(&[2_000; 65], large), 64);
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
