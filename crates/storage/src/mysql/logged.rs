//! Writes to slots that are on their way to another shard: the write and the log of its keys in one
//! transaction, which the server begins, ends, and rolls back by itself.
//!
//! **A procedure, not a packet.** `BEGIN; INSERT INTO moved_keys ...; the write; COMMIT` as one packet
//! stops at the first statement that fails, and leaves its transaction open: with the fence locked,
//! until the router has read the answer and has sent ROLLBACK. A router that is frozen just then
//! would keep everybody from changing the fence. `write_logged`, in the schema, has a handler that
//! rolls back first and tells afterwards; it runs with the rights of whoever calls it. (MariaDB's
//! anonymous blocks would do, too; MySQL has none.)
//!
//! **The order.** The log comes first, and proves the fence in the way of a PUT (see [`super::put`]):
//! where it disagrees, nothing has been written yet. The write proves it once more, since its text
//! is the same as everywhere.
//!
//! **Large values.** Everything goes as text, in which a value has two digits for each byte. One that
//! makes its row too large for a packet so goes ahead, as the parameter of a statement that locks
//! nothing, into a variable of the session.

use std::fmt::Write as _;

use freehold_core::{Fence, Key};
use mysql_async::{Params, Value, prelude::Queryable as _};

use super::{
    change,
    error::OUT_OF_RANGE,
    put,
    session::{Failure, Session, query},
    statements::{NEVER, fence_row, hex},
    write::{Form, Sent, WriteFailure},
};
use crate::row::Write;

/// The variable of the session that holds a large value.
const VALUE: &str = "@freehold_value";

/// Bytes of a packet besides its rows, rounded up: both texts, and three copies of a long key.
const ALONE_OVERHEAD_BYTES: usize = 16 << 10;

/// Bytes that row `index` adds to the packet, at most.
pub(super) fn row_bytes(rows: &Write<'_>, index: usize) -> usize {
    let (key, row) = match rows {
        Write::Put(rows) => (&rows[index].key, put::row_bytes(&rows[index], Form::Text)),
        Write::Delete(keys) => (&keys[index], change::delete_bytes(&keys[index])),
        Write::Expire(rows) => (&rows[index].key, change::expire_bytes(&rows[index])),
    };
    // Its entry of the log, and quotes that stand there twice.
    row + 2 * key.bytes().len() + 64
}

/// Bytes of the largest packet that takes the only row.
pub(super) fn row_bytes_alone(rows: &Write<'_>) -> usize {
    let value = match rows {
        Write::Put([row, ..]) => row.value.len(),
        _ => 0,
    };
    value + ALONE_OVERHEAD_BYTES
}

pub(super) async fn send(session: &mut Session, fence: &Fence, rows: Write<'_>) -> Sent {
    match rows {
        Write::Put(rows) => {
            let keys = rows.iter().map(|row| &row.key);
            let (log, count) = (log_text(fence, keys), rows.len());
            let as_text = row_bytes(&Write::Put(rows), 0) + ALONE_OVERHEAD_BYTES;
            let is_large = count == 1 && as_text > session.packet_bytes_max;
            let write = if is_large {
                set_value(session, &rows[0].value).await?;
                put::literal(fence, rows, |_| VALUE.to_owned())
            } else {
                put::literal(fence, rows, hex)
            };
            match query(&mut session.conn, call(&log, &write)).await {
                Ok(_) => Ok(Some(vec![true; count])),
                Err(failure) if failure.refused_at(0) == Some(OUT_OF_RANGE) => Ok(None),
                Err(failure) => Err(WriteFailure::at(0, &failure)),
            }
        }
        Write::Delete(keys) => {
            let text = call(&log_text(fence, keys), &change::delete_text(fence, keys));
            change::change(session, fence, keys, text).await
        }
        Write::Expire(rows) => {
            let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
            let write = change::expire_text(fence, rows, &keys);
            let text = call(&log_text(fence, &keys), &write);
            change::change(session, fence, &keys, text).await
        }
    }
}

/// The statement that counts the keys, if the fence agrees.
fn log_text<'a>(fence: &Fence, keys: impl IntoIterator<Item = &'a Key>) -> String {
    let proof = fence_row(fence.stamp, fence.server_id);
    let mut text = "INSERT INTO moved_keys (slot, `key`, n) VALUES ".to_owned();
    for (index, key) in keys.into_iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = match index {
            0 => write!(
                text,
                "(COALESCE((SELECT 0 {proof}), {NEVER}) * 2 + {}",
                key.slot()
            ),
            _ => write!(text, ", ({}", key.slot()),
        };
        let _ = write!(text, ", {}, 1)", hex(key.bytes()));
    }
    text + " ON DUPLICATE KEY UPDATE n = n + 1"
}

fn call(log: &str, write: &str) -> String {
    format!("CALL write_logged({}, {})", quoted(log), quoted(write))
}

/// A text as a literal: there are no backslashes in it, whatever they would mean.
fn quoted(text: &str) -> String {
    debug_assert!(!text.contains('\\'), "no statement has backslashes");
    format!("'{}'", text.replace('\'', "''"))
}

/// Brings a value to the server. Nothing is written or locked.
async fn set_value(session: &mut Session, value: &[u8]) -> Result<(), WriteFailure> {
    let failed = |error| {
        WriteFailure::at(
            0,
            &Failure {
                error,
                answered: None,
            },
        )
    };
    let conn = &mut session.conn;
    let statement = conn
        .prep(format!("SET {VALUE} = ?"))
        .await
        .map_err(failed)?;
    let params = Params::Positional(vec![Value::Bytes(value.to_vec())]);
    let set = conn.exec_drop(&statement, params).await;
    let closed = conn.close(statement).await;
    set.and(closed).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_proves_the_fence_once_and_names_each_key() {
        let fence = Fence {
            server_id: 3,
            stamp: 7,
            term: 1,
            epoch: 1,
        };
        let keys = ["a", "{a"].map(|key| Key::new(key).unwrap());
        let text = log_text(&fence, &keys);
        assert_eq!(text.matches("LOCK IN SHARE MODE").count(), 1);
        assert!(
            text.contains("* 2 + 59078, x'61', 1), (58537, x'7b61', 1) ON"),
            "{text}"
        );
        let call = call(&text, "DELETE");
        assert!(
            call.contains("x''61''") && call.ends_with(", 'DELETE')"),
            "{call}"
        );
    }
}
