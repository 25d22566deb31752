//! PUT: one REPLACE of many rows, prepared, that carries the fence in its first row.

use std::fmt::Write as _;

use freehold_core::Fence;
use mysql_async::{Params, Value};

use super::{
    error::OUT_OF_RANGE,
    session::{Session, execute, prepare},
    statements::{NEVER, NOW, fence_row, prepared_size},
    write::{Sent, WriteFailure},
};
use crate::row::PutRow;

/// The statement for so many rows.
pub(super) fn text(rows: usize) -> String {
    let fence = fence_row("?", "?");
    let mut text = format!(
        "REPLACE INTO store (slot, `key`, value, version, expires_at) VALUES \
         (COALESCE((SELECT 0 {fence}), {NEVER}) * 2 + ?, \
         ?, ?, ?, LEAST({NOW} + ?, {NEVER}))"
    );
    for _ in 1..rows {
        let _ = write!(text, ", (?, ?, ?, ?, LEAST({NOW} + ?, {NEVER}))");
    }
    text
}

/// Bytes that a row adds to the packet, at most.
pub(super) fn row_bytes(row: &PutRow) -> usize {
    // Five types of two bytes, three numbers of eight, two lengths of at most nine.
    row.key.bytes().len() + row.value.len() + 64
}

pub(super) async fn send(session: &mut Session, fence: &Fence, rows: &[PutRow]) -> Sent {
    debug_assert!(
        rows.is_sorted_by(|a, b| a.key < b.key),
        "each key once, in order"
    );
    let size = prepared_size(rows.len());
    let kept = &mut session.prepared.put[size.ilog2() as usize];
    let statement = match kept {
        Some(statement) => statement,
        None => {
            let made = prepare(&mut session.conn, text(size)).await;
            kept.insert(made.map_err(|failure| WriteFailure::at(0, &failure))?)
        }
    };
    let params = params(fence, rows, size);
    match execute(&mut session.conn, statement, params).await {
        Ok(_) => Ok(Some(vec![true; rows.len()])),
        Err(failure) if failure.refused_at(0) == Some(OUT_OF_RANGE) => Ok(None),
        Err(failure) => Err(WriteFailure::at(0, &failure)),
    }
}

fn params(fence: &Fence, rows: &[PutRow], size: usize) -> Params {
    let mut params = Vec::with_capacity(2 + size * 5);
    params.extend([Value::UInt(fence.stamp), Value::UInt(fence.server_id)]);
    let shortest = rows.iter().min_by_key(|row| row.value.len());
    let padding = shortest.into_iter().cycle().take(size - rows.len());
    for row in rows.iter().chain(padding) {
        let ttl_ms = row.ttl_ms.and_then(|ttl_ms| i64::try_from(ttl_ms).ok());
        params.extend([
            Value::UInt(row.key.slot().0.into()),
            Value::Bytes(row.key.bytes().to_vec()),
            Value::Bytes(row.value.to_vec()),
            Value::UInt(row.version),
            Value::Int(ttl_ms.unwrap_or(NEVER)),
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
}
