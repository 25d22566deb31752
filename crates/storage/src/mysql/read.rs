//! GET and TTL: one SELECT of many keys, with the fence in the same snapshot.
//!
//! It reads one row per key and the fence, for 1 to 128 keys, hits and misses, prepared or not. The
//! fence costs nothing that can be measured (64 keys, two connections, microseconds of server CPU
//! per key without and with it: 7.1 and 7.2 on MariaDB, 7.0 and 8.6 on MySQL, ±25 %). Statements are
//! prepared for twelve sizes; a batch is padded by repeating its last key, which both servers read
//! and return once. Padding is not free (70 keys, two connections, MariaDB: 12.3 microseconds of
//! server CPU per key padded to 128, 9.2 with a statement of that size), so above 16 there is a size
//! for each multiple of 16. The columns are few because each costs about a tenth of a microsecond
//! per row, and the clock, which both servers work out again for every row, more than one. A value
//! that is too large is skipped cheaply: 128 values of 64 KiB cost 100 (MariaDB) and 47 (MySQL)
//! microseconds each when fetched, 8 and 12 when refused.

use freehold_core::Key;
use mysql_async::{Params, Row as SqlRow, Value};

use super::{
    decode::{ShownFence, column, live_row},
    error::unexpected,
    session::{Answer, Failure, Session, execute, kept, query},
    statements::{FENCE, NEVER, NOW, keys_are, prepared_size, size_index, version_and_ttl},
};
use crate::{
    error::{Refusal, StorageError},
    row::{Columns, Inspected, RawRow, Read},
};

/// `FORCE INDEX` is a precaution: the index of expiries was never taken without it, but a scan
/// under load would be dear.
fn text(value: &str, keys: &str) -> String {
    format!(
        "SELECT {FENCE}, s.`key`, {value}, {} FROM shard f LEFT JOIN store s \
         FORCE INDEX (PRIMARY) ON {keys} AND s.expires_at > {NOW} WHERE f.id = 1",
        version_and_ttl()
    )
}

/// The prepared statement for so many keys, whose first parameter is the longest value to bring.
fn value_text(keys: usize) -> String {
    let places = vec!["(?,?)"; keys].join(",");
    text(
        "IF(LENGTH(s.value) <= ?, s.value, NULL), LENGTH(s.value)",
        &format!("(s.slot, s.`key`) IN ({places})"),
    )
}

/// The same as text, where it cannot be prepared.
fn value_literal(keys: &[Key], bytes_max: usize) -> String {
    text(
        &format!("IF(LENGTH(s.value) <= {bytes_max}, s.value, NULL), LENGTH(s.value)"),
        &keys_are("s.", keys),
    )
}

/// The statement that touches no value. As text: TTL is asked for too seldom to keep a statement of
/// each size prepared on every connection.
fn expiry_literal(keys: &[Key]) -> String {
    text("NULL, 0", &keys_are("s.", keys))
}

pub(super) async fn read(
    session: &mut Session,
    keys: &[Key],
    columns: Columns,
) -> Result<Read, StorageError> {
    debug_assert!(keys.is_sorted_by(|a, b| a < b), "each key once, in order");
    let answer = match columns {
        Columns::Value { bytes_max } if !keys.is_empty() => {
            read_values(session, keys, bytes_max).await
        }
        _ => query(&mut session.conn, expiry_literal(keys)).await,
    };
    decode(keys, columns, answer.map_err(|failure| failure.of_read())?)
}

async fn read_values(
    session: &mut Session,
    keys: &[Key],
    bytes_max: usize,
) -> Result<Answer, Failure> {
    let size = prepared_size(keys.len());
    let place = &mut session.prepared.read[size_index(size)];
    let Some(statement) = kept(&mut session.conn, place, || value_text(size)).await? else {
        return query(&mut session.conn, value_literal(keys, bytes_max)).await;
    };
    let mut params = Vec::with_capacity(1 + size * 2);
    params.push(Value::UInt(bytes_max as u64));
    // A key that stands there twice is read once.
    let padding = keys.last().into_iter().cycle().take(size - keys.len());
    for key in keys.iter().chain(padding) {
        params.push(Value::UInt(key.slot().0.into()));
        params.push(Value::Bytes(key.bytes().to_vec()));
    }
    execute(&mut session.conn, statement, Params::Positional(params)).await
}

fn decode(keys: &[Key], columns: Columns, answer: Answer) -> Result<Read, StorageError> {
    let mut shown = None;
    let mut rows = vec![None; keys.len()];
    let mut next = 0;
    for mut row in answer.rows {
        if shown.is_none() {
            shown = Some(ShownFence::decode(&mut row, 0)?);
        }
        let key: Option<Vec<u8>> = column(&mut row, 5, "a key")?;
        // Only the fence: no key was found.
        let Some(key) = key else { continue };
        // Rows come in the order of the index on both servers, though SQL does not promise it.
        let index = (next..keys.len())
            .chain(0..next)
            .find(|index| *keys[*index].bytes() == key);
        let index = index.ok_or_else(|| unexpected("a key"))?;
        next = index + 1;
        rows[index] = Some(live_row(&mut row, 6, columns)?);
    }
    let ShownFence { fence, answered_by } = shown.ok_or_else(no_fence)?;
    Ok(Read {
        fence,
        answered_by,
        rows,
    })
}

/// The `shard` table is empty.
pub(super) fn no_fence() -> StorageError {
    StorageError::Refused {
        refusal: Refusal::Schema,
        code: 0,
        message: "the fence row is missing: run freehold init".into(),
    }
}

pub(super) async fn inspect(session: &mut Session, key: &Key) -> Result<Inspected, StorageError> {
    let text = format!(
        "SELECT {FENCE}, {NOW}, s.version, s.expires_at, LENGTH(s.value) FROM shard f \
         LEFT JOIN store s FORCE INDEX (PRIMARY) ON {} WHERE f.id = 1",
        keys_are("s.", std::slice::from_ref(key))
    );
    let answer = query(&mut session.conn, text)
        .await
        .map_err(|failure| failure.of_read())?;
    let mut row = answer.rows.into_iter().next().ok_or_else(no_fence)?;
    let ShownFence { fence, answered_by } = ShownFence::decode(&mut row, 0)?;
    Ok(Inspected {
        fence,
        answered_by,
        row: raw_row(&mut row, 5)?,
    })
}

/// A row as it lies there, if there is one: clock, version, expiry and length, from column `first`
/// on.
fn raw_row(row: &mut SqlRow, first: usize) -> Result<Option<RawRow>, StorageError> {
    let now_ms: i64 = column(row, first, "the clock")?;
    let version: Option<u64> = column(row, first + 1, "a version")?;
    let Some(version) = version else {
        return Ok(None);
    };
    let expires_at: i64 = column(row, first + 2, "an expiry")?;
    let live = expires_at > now_ms;
    let expires = live && expires_at != NEVER;
    Ok(Some(RawRow {
        live,
        version,
        ttl_ms: expires.then(|| (expires_at - now_ms).cast_unsigned()),
        value_bytes: column(row, first + 3, "a value's length")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_its_parameters() {
        for size in [1, 2, 128] {
            assert_eq!(value_text(size).matches('?').count(), 1 + 2 * size);
        }
        let keys = [Key::new("?").unwrap()];
        assert_eq!(expiry_literal(&keys).matches('?').count(), 0);
    }
}
