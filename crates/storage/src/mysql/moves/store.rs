//! Storing copied rows.

use freehold_core::moving::Work;
use mysql_async::{Params, Value, prelude::Queryable as _};

use super::{
    super::{
        error::unexpected,
        session::{Failure, Session},
    },
    proof,
};
use crate::{
    error::{Refusal, StorageError},
    moves::{CopyRow, Hold, slots_of},
};

/// Bytes of a row's text besides key and value, rounded up.
const ROW_OVERHEAD_BYTES: usize = 128;

/// Stores rows in as few statements as packets allow; each proves everything.
pub(super) async fn store(
    session: &mut Session,
    hold: Hold,
    rows: &[CopyRow],
) -> Result<Option<()>, StorageError> {
    // A quoted value may be twice as long.
    let room = session.packet_bytes_max.saturating_sub(ROW_OVERHEAD_BYTES) / 2;
    let mut rest = rows;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest
            .iter()
            .take_while(|row| {
                bytes += row.key.bytes().len() + row.value_bytes + ROW_OVERHEAD_BYTES;
                bytes <= room
            })
            .count();
        let (now, later) = rest.split_at(fits.max(1));
        let stored = if fits == 0 {
            store_alone(session, hold, &now[0]).await?
        } else {
            store_some(session, hold, now).await?
        };
        if stored.is_none() {
            return Ok(None);
        }
        rest = later;
    }
    Ok(Some(()))
}

const REPLACE: &str = "REPLACE INTO store (slot, `key`, value, version, expires_at) VALUES ";

async fn store_some(
    session: &mut Session,
    hold: Hold,
    rows: &[CopyRow],
) -> Result<Option<()>, StorageError> {
    let slots = slots_of(rows.iter().map(|row| &row.key));
    let proof = proof::may(hold, Work::Copy, &slots, proof::LOCK);
    let mut text = REPLACE.as_bytes().to_vec();
    for (index, row) in rows.iter().enumerate() {
        let slot = match index {
            0 => format!("({}, ", proof::proven(&proof, row.key.slot().0)),
            _ => format!(", ({}, ", row.key.slot()),
        };
        text.extend_from_slice(slot.as_bytes());
        quote(&mut text, row.key.bytes());
        text.extend_from_slice(b", ");
        quote(&mut text, row.value.as_deref().ok_or_else(no_value)?);
        let rest = format!(", {}, {})", row.version, row.expires_at);
        text.extend_from_slice(rest.as_bytes());
    }
    for attempt in 0.. {
        let stored = session.conn.query_drop(text.as_slice()).await;
        match outcome(stored) {
            Err(StorageError::Refused {
                refusal: Refusal::Busy,
                ..
            }) if attempt < super::BUSY_REPEATS_MAX => {}
            stored => return stored,
        }
    }
    Ok(None)
}

/// A row that is too long for a text goes as parameters.
async fn store_alone(
    session: &mut Session,
    hold: Hold,
    row: &CopyRow,
) -> Result<Option<()>, StorageError> {
    let proof = proof::may(hold, Work::Copy, &slots_of([&row.key]), proof::LOCK);
    let slot = proof::proven(&proof, row.key.slot().0);
    let text = format!("{REPLACE}({slot}, ?, ?, ?, ?)");
    let failed = |error| {
        let answered = None;
        Failure { error, answered }.of_write_at(0)
    };
    let statement = session.conn.prep(text).await.map_err(failed)?;
    let params = Params::Positional(vec![
        Value::Bytes(row.key.bytes().to_vec()),
        Value::Bytes(row.value.as_deref().ok_or_else(no_value)?.to_vec()),
        Value::UInt(row.version),
        Value::Int(row.expires_at),
    ]);
    let stored = outcome(session.conn.exec_drop(&statement, params).await);
    let closed = session.conn.close(statement).await.map_err(failed);
    stored.and_then(|stored| closed.map(|()| stored))
}

fn outcome(stored: Result<(), mysql_async::Error>) -> Result<Option<()>, StorageError> {
    match stored {
        Ok(()) => Ok(Some(())),
        Err(error) => {
            let answered = Some(0);
            let failure = Failure { error, answered };
            match failure.refused_at(0).is_some_and(proof::is_disproof) {
                true => Ok(None),
                false => Err(failure.of_write_at(0)),
            }
        }
    }
}

fn no_value() -> StorageError {
    unexpected("a row to copy without its value")
}

/// Bytes as a quoted literal, which is half as long as their digits. Sessions are binary, and their
/// sql_mode leaves backslashes their meaning.
fn quote(text: &mut Vec<u8>, bytes: &[u8]) {
    text.extend_from_slice(b"_binary'");
    for byte in bytes {
        match byte {
            0 => text.extend_from_slice(b"\\0"),
            b'\'' | b'\\' => text.extend_from_slice(&[b'\\', *byte]),
            26 => text.extend_from_slice(b"\\Z"),
            _ => text.push(*byte),
        }
    }
    text.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_bytes_are_as_long_as_they_are_but_for_four_of_them() {
        let mut text = Vec::new();
        quote(&mut text, b"a'b\\c\0\x1a\xff\n");
        assert_eq!(text, b"_binary'a\\'b\\\\c\\0\\Z\xff\n'");
    }
}
