//! DELETE and EXPIRE: one UPDATE that looks at the clock after it has the row's lock, and notes in
//! a user variable which live rows it met.
//!
//! **One statement, no transaction.** `SYSDATE()` is read row by row, after the lock was waited for,
//! on both servers: an UPDATE with `NOW()` revived a key that had expired during the wait, this one
//! does not. So nothing is held across a round trip, and after a lock wait timeout (1205) nothing is
//! held at all; inside BEGIN it would leave the transaction open with the fence locked, on both.
//!
//! **The note.** Looking first and changing afterwards would answer *not there* for a row that a PUT
//! brought in between. `@h` is written by the very evaluation that changes the row. It holds at most
//! 263 kB (128 keys of 1,024 bytes in hex). PERSIST of a row without expiry changes nothing, so the
//! number of changed rows would not do. MySQL calls assignments to user variables in expressions
//! deprecated (warning 1287; 9.7 runs them). Should a release refuse them, the way that works on
//! both is `BEGIN`, the UPDATE with a fresh version, a SELECT of the rows that show it, `COMMIT`, in
//! one packet: twice as slow (2.8 ms instead of 1.4 for 192 keys on MariaDB, 2.9 instead of 1.8 on
//! MySQL), and with a ROLLBACK to be sent after a refusal.
//!
//! **The value of a deleted row** goes at once. Kept, a deleted value of 1 MiB is logged three times
//! with binlog_row_image=FULL, twice by the DELETE and once by the sweeper; so it is logged once
//! (2,097,368 + 1,048,766 bytes against 1,048,792 + 190 on MariaDB, the same on MySQL). With NOBLOB
//! it is not logged either way.

use std::{collections::BTreeSet, fmt::Write as _};

use freehold_core::{Fence, Key};

use super::{
    decode::{ShownFence, column},
    error::{OUT_OF_RANGE, unexpected},
    session::{Answer, Session, packet},
    statements::{FENCE, NEVER, NOW_LOCKED, fence_holds, hex, keys_are, unhex},
    write::{Sent, WriteFailure},
};
use crate::{error::StorageError, row::ExpireRow};

/// Adds the row at hand to the note; always true.
const NOTE: &str = "LENGTH(@h := CONCAT(@h, ',', slot, ':', HEX(`key`))) > 0";

/// Where in the packet the write stands: behind `SET @h`.
const WRITE_INDEX: usize = 1;

/// Bytes that a key adds to the packet of a DELETE, at most.
pub(super) fn delete_bytes(key: &Key) -> usize {
    2 * key.bytes().len() + 16
}

/// Bytes that a row adds to the packet of an EXPIRE, at most: its key stands there twice.
pub(super) fn expire_bytes(row: &ExpireRow) -> usize {
    4 * row.key.bytes().len() + 64
}

pub(super) async fn send_delete(session: &mut Session, fence: &Fence, keys: &[Key]) -> Sent {
    debug_assert!(keys.is_sorted_by(|a, b| a < b), "each key once, in order");
    change(session, fence, keys, delete_text(fence, keys)).await
}

/// The statement that marks rows as deleted.
pub(super) fn delete_text(fence: &Fence, keys: &[Key]) -> String {
    let set = format!("expires_at = IF({NOTE}, -1, -1), value = x''");
    update(fence, keys, &set)
}

pub(super) async fn send_expire(session: &mut Session, fence: &Fence, rows: &[ExpireRow]) -> Sent {
    debug_assert!(
        rows.is_sorted_by(|a, b| a.key < b.key),
        "each key once, in order"
    );
    let keys: Vec<Key> = rows.iter().map(|row| row.key.clone()).collect();
    let text = expire_text(fence, rows, &keys);
    change(session, fence, &keys, text).await
}

/// The statement that gives rows, whose keys these are, another expiry.
pub(super) fn expire_text(fence: &Fence, rows: &[ExpireRow], keys: &[Key]) -> String {
    let set = format!("expires_at = IF({NOTE}, {}, NULL)", expires_at(rows));
    update(fence, keys, &set)
}

fn update(fence: &Fence, keys: &[Key], set: &str) -> String {
    format!(
        "UPDATE store FORCE INDEX (PRIMARY) SET {set} WHERE {} AND expires_at > {NOW_LOCKED} AND {}",
        keys_are("", keys),
        fence_holds(fence)
    )
}

/// The new `expires_at` as an expression. A key's slot follows from the key, so the key alone
/// tells the rows apart.
fn expires_at(rows: &[ExpireRow]) -> String {
    let ttl_ms = |row: &ExpireRow| {
        let ttl_ms = row.ttl_ms.and_then(|ttl_ms| i64::try_from(ttl_ms).ok());
        ttl_ms.unwrap_or(NEVER)
    };
    let mut ttls: BTreeSet<i64> = rows.iter().map(ttl_ms).collect();
    let ttl = match (ttls.pop_first(), ttls.is_empty()) {
        (Some(ttl_ms), true) => ttl_ms.to_string(),
        _ => {
            let mut cases = "CASE `key`".to_owned();
            for row in rows {
                let _ = write!(cases, " WHEN {} THEN {}", hex(row.key.bytes()), ttl_ms(row));
            }
            cases + " END"
        }
    };
    // Never NULL for never: MySQL makes that a DOUBLE, and out of range.
    format!("LEAST({NOW_LOCKED} + {ttl}, {NEVER})")
}

/// Runs the statement that changes these rows.
pub(super) async fn change(
    session: &mut Session,
    fence: &Fence,
    keys: &[Key],
    text: String,
) -> Sent {
    let shown = format!("SELECT {FENCE}, @h, @c OR @@read_only FROM shard f WHERE f.id = 1");
    let statements = ["SET @h = '', @c = @@read_only".to_owned(), text, shown];
    session.last_write_changed = false;
    let answers = match packet(&mut session.conn, &statements).await {
        Ok(answers) => answers,
        // The log of keys answers so.
        Err(failure) if failure.refused_at(WRITE_INDEX) == Some(OUT_OF_RANGE) => return Ok(None),
        Err(failure) => return Err(WriteFailure::at(WRITE_INDEX, &failure)),
    };
    session.last_write_changed = answers
        .get(WRITE_INDEX)
        .is_some_and(|write| write.affected > 0);
    // The write was answered: what cannot be read of the note leaves its outcome unknown.
    existed(fence, keys, answers).map_err(|error| {
        WriteFailure::unnumbered(StorageError::Lost {
            reason: error.to_string().into(),
        })
    })
}

/// For each key whether a live row was met; `None` if the fence disagreed.
///
/// A note proves that the fence agreed. Without one the fence shown afterwards decides: a stamp
/// never comes back, so if it is the one that was asked for, it was there before, and no row was
/// live, if the server was open: one that is closed changes nothing whatever its fence is, for an
/// account, too, that may write there.
fn existed(
    fence: &Fence,
    keys: &[Key],
    mut answers: Vec<Answer>,
) -> Result<Option<Vec<bool>>, StorageError> {
    let row = answers.pop().and_then(|mut shown| shown.rows.pop());
    // No fence row: nothing can have been written.
    let Some(mut row) = row else { return Ok(None) };
    let note: Vec<u8> = column(&mut row, 5, "the note of a write")?;
    let mut existed = vec![false; keys.len()];
    if note.is_empty() {
        let shown = ShownFence::decode(&mut row, 0)?;
        let is_closed: bool = column(&mut row, 6, "whether the server is closed")?;
        return Ok((shown.lets_through(fence) && !is_closed).then_some(existed));
    }
    for entry in note.split(|byte| *byte == b',').skip(1) {
        let index = noted(entry).and_then(|key| keys.binary_search(&key).ok());
        existed[index.ok_or_else(|| unexpected("the note of a write"))?] = true;
    }
    Ok(Some(existed))
}

/// The key of `slot:HEX`.
fn noted(entry: &[u8]) -> Option<Key> {
    let colon = entry.iter().position(|byte| *byte == b':')?;
    Key::new(unhex(&entry[colon + 1..])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &'static str, ttl_ms: Option<u64>) -> ExpireRow {
        ExpireRow {
            key: Key::new(key).unwrap(),
            ttl_ms,
        }
    }

    #[test]
    fn one_expiry_for_all_needs_no_cases() {
        let text = expires_at(&[row("a", Some(5)), row("b", Some(5))]);
        assert!(text.contains("+ 5, 9223372036854775807)"), "{text}");
        let text = expires_at(&[row("a", Some(5)), row("b", None)]);
        let cases = "CASE `key` WHEN x'61' THEN 5 WHEN x'62' THEN 9223372036854775807 END";
        assert!(text.contains(cases), "{text}");
    }

    #[test]
    fn a_note_names_a_key() {
        assert_eq!(noted(b"59078:61"), Key::new("a").ok());
        assert_eq!(noted(b"59078"), None);
        assert_eq!(noted(b"59078:6"), None);
    }
}
