//! GET and TTL: one SELECT of many keys, with the fence in the same snapshot.
//!
//! It reads one row per key and the fence, for 1 to 128 keys, hits and misses, prepared or not; a
//! large one a row of `numbers` for each key besides ([`numbered`]). The fence costs nothing that can
//! be measured (64 keys, two connections, microseconds of server CPU per key without and with it: 7.1
//! and 7.2 on MariaDB, 7.0 and 8.6 on MySQL, ±25 %). A list of keys is prepared for twelve sizes and
//! padded by repeating its last key, which both servers read and return once. The columns are few
//! because each costs about a tenth of a microsecond per row, and the clock, which both servers work
//! out again for every row, more than one; so whoever knows which fence it wants to read under has it
//! compared there, not brought back. A value that is too large is skipped cheaply: 128 values of
//! 64 KiB cost 100 (MariaDB) and 47 (MySQL) microseconds each when fetched, 8 and 12 when refused.

use std::fmt::Display;

use freehold_core::{
    Fence, Key,
    planted::{self, Bug},
};
use mysql_async::{Params, Row as SqlRow, Value};

use super::{
    decode::{ShownFence, column, live_row},
    error::unexpected,
    numbered,
    session::{Answer, Failure, Session, execute, kept, query},
    statements::{
        FENCE, NEVER, NOW, fence_agrees, keys_are, now_anywhere, prepared_size, size_index,
        version_and_ttl,
    },
    watch::beat,
};
use crate::{
    error::{Refusal, StorageError},
    row::{Columns, Inspected, RawRow, Read, Row},
};

/// How a statement goes about the fence.
struct Shape<'a> {
    /// Whether each row shows it.
    shows: bool,
    /// What must be true of it for rows to come at all.
    fence: &'a str,
}

/// Any fence, which is shown: for those who must see it.
const SHOWN: Shape<'_> = Shape {
    shows: true,
    fence: "f.id = 1",
};

/// Columns of [`SHOWN`] ahead of the key.
const SHOWN_COLUMNS: usize = 7;

/// `FORCE INDEX` is a precaution: the index of expiries was never taken without it, but a scan
/// under load would be dear.
///
/// Where the fence is shown the heartbeat is as well: it says how old can be what a replica brings.
fn text(shape: &Shape<'_>, value: &str, keys: &str) -> String {
    select(shape, "s.`key`", value, "", keys)
}

/// `name` says whose row it is, `numbers` and `keys` pick the rows.
fn select(shape: &Shape<'_>, name: &str, value: &str, numbers: &str, keys: &str) -> String {
    let (shown, heartbeat) = match shape.shows {
        true => (
            format!("{FENCE}, h.term, h.seq, "),
            "LEFT JOIN heartbeat h ON h.id = 1 ",
        ),
        false => (String::new(), ""),
    };
    let now = if planted::is(Bug::RouterClock) {
        format!("({NOW} - 2000)")
    } else if shape.shows {
        now_anywhere("h.written_at")
    } else {
        NOW.to_owned()
    };
    format!(
        "SELECT {shown}{name}, {value}, {} FROM shard f {heartbeat}{numbers}LEFT JOIN store s \
         FORCE INDEX (PRIMARY) ON {keys} AND s.expires_at > {now} WHERE {}",
        version_and_ttl(&now),
        shape.fence
    )
}

/// A value that is not too long, and else its length.
fn value(bytes_max: impl Display) -> String {
    let fits = format!("LENGTH(s.value) <= {bytes_max}");
    format!("IF({fits}, s.value, NULL), LENGTH(s.value)")
}

/// The prepared statement for so many keys, whose first parameter is the longest value to bring.
fn value_text(shape: &Shape<'_>, keys: usize) -> String {
    let keys = match keys {
        1 => "s.slot = ? AND s.`key` = ?".to_owned(),
        _ => format!("(s.slot, s.`key`) IN ({})", vec!["(?,?)"; keys].join(",")),
    };
    text(shape, &value("?"), &keys)
}

/// The prepared statement for any number of keys, with the same first parameter.
fn numbered_text(shape: &Shape<'_>) -> String {
    let (numbers, keys) = (numbered::NUMBERS, numbered::key_is());
    select(shape, "q.n", &value("?"), numbers, &keys)
}

/// The same as text, where it cannot be prepared.
fn value_literal(shape: &Shape<'_>, keys: &[Key], bytes_max: usize) -> String {
    text(shape, &value(bytes_max), &keys_are("s.", keys))
}

/// The statement that touches no value. As text: TTL is asked for too seldom to keep a statement of
/// each size prepared on every connection.
fn expiry_literal(shape: &Shape<'_>, keys: &[Key]) -> String {
    text(shape, "NULL, 0", &keys_are("s.", keys))
}

/// Rows, and the fence that they were read under.
pub(super) async fn read(
    session: &mut Session,
    keys: &[Key],
    columns: Columns,
) -> Result<Read, StorageError> {
    let mut asked = ask(session, None, keys, columns).await?;
    let first = asked.answer.rows.first_mut().ok_or_else(no_fence)?;
    let ShownFence { fence, answered_by } = ShownFence::decode(first, 0)?;
    Ok(Read {
        fence,
        answered_by,
        beat: Some(beat(first, 5)?),
        rows: decode(keys, columns, asked, SHOWN_COLUMNS)?,
    })
}

/// Rows, if they were read under this fence. It costs no column of any row, and a server that shows
/// another one reads no row at all.
pub(super) async fn read_under(
    session: &mut Session,
    fence: &Fence,
    keys: &[Key],
    columns: Columns,
) -> Result<Option<Vec<Option<Row>>>, StorageError> {
    let asked = ask(session, Some(fence), keys, columns).await?;
    if asked.answer.rows.is_empty() {
        return Ok(None);
    }
    decode(keys, columns, asked, 0).map(Some)
}

/// How a row says whose it is.
enum Named {
    ByKey,
    ByNumber,
}

/// What the server sent.
struct Asked {
    named: Named,
    answer: Answer,
}

impl Asked {
    fn by_key(answer: Answer) -> Self {
        let named = Named::ByKey;
        Self { named, answer }
    }
}

async fn ask(
    session: &mut Session,
    fence: Option<&Fence>,
    keys: &[Key],
    columns: Columns,
) -> Result<Asked, StorageError> {
    debug_assert!(keys.is_sorted_by(|a, b| a < b), "each key once, in order");
    let asked = match columns {
        Columns::Value { bytes_max } if !keys.is_empty() => {
            ask_for_values(session, fence, keys, bytes_max).await
        }
        _ => {
            let statement = with_shape(fence, |shape| expiry_literal(shape, keys));
            let answer = query(&mut session.conn, statement).await;
            answer.map(Asked::by_key)
        }
    };
    asked.map_err(|failure| failure.of_read())
}

async fn ask_for_values(
    session: &mut Session,
    fence: Option<&Fence>,
    keys: &[Key],
    bytes_max: usize,
) -> Result<Asked, Failure> {
    if let Some(answer) = ask_by_number(session, fence, keys, bytes_max).await? {
        let named = Named::ByNumber;
        return Ok(Asked { named, answer });
    }
    let answer = ask_by_key(session, fence, keys, bytes_max).await;
    answer.map(Asked::by_key)
}

/// `None` where a list of the keys is better, or the server has no room for another statement.
async fn ask_by_number(
    session: &mut Session,
    fence: Option<&Fence>,
    keys: &[Key],
    bytes_max: usize,
) -> Result<Option<Answer>, Failure> {
    let Some(keys) = numbered::params(keys) else {
        return Ok(None);
    };
    let agrees = fence_agrees("?", "?");
    let (place, shape) = match fence {
        None => (&mut session.prepared.read_numbered, SHOWN),
        Some(_) => (
            &mut session.prepared.read_numbered_under,
            Shape {
                shows: false,
                fence: &agrees,
            },
        ),
    };
    let make = || numbered_text(&shape);
    let Some(statement) = kept(&mut session.conn, place, make).await? else {
        return Ok(None);
    };
    let params = std::iter::once(Value::UInt(bytes_max as u64))
        .chain(keys)
        .chain(fence_params(fence))
        .collect();
    execute(&mut session.conn, statement, Params::Positional(params))
        .await
        .map(Some)
}

/// The parameters of a known fence.
fn fence_params(fence: Option<&Fence>) -> impl Iterator<Item = Value> {
    fence
        .into_iter()
        .flat_map(|fence| [fence.stamp, fence.server_id].map(Value::UInt))
}

/// Makes a statement as text.
fn with_shape(fence: Option<&Fence>, make: impl FnOnce(&Shape<'_>) -> String) -> String {
    match fence {
        None => make(&SHOWN),
        Some(fence) => make(&Shape {
            shows: false,
            fence: &fence_agrees(fence.stamp, fence.server_id),
        }),
    }
}

async fn ask_by_key(
    session: &mut Session,
    fence: Option<&Fence>,
    keys: &[Key],
    bytes_max: usize,
) -> Result<Answer, Failure> {
    let size = prepared_size(keys.len());
    let prepared = match fence {
        None => &mut session.prepared.read,
        Some(_) => &mut session.prepared.read_under,
    };
    let make = || match fence {
        None => value_text(&SHOWN, size),
        Some(_) => {
            let (shows, fence) = (false, &*fence_agrees("?", "?"));
            value_text(&Shape { shows, fence }, size)
        }
    };
    let place = &mut prepared[size_index(size)];
    let Some(statement) = kept(&mut session.conn, place, make).await? else {
        let statement = with_shape(fence, |shape| value_literal(shape, keys, bytes_max));
        return query(&mut session.conn, statement).await;
    };
    let mut params = Vec::with_capacity(3 + size * 2);
    params.push(Value::UInt(bytes_max as u64));
    // A key that stands there twice is read once.
    let padding = keys.last().into_iter().cycle().take(size - keys.len());
    for key in keys.iter().chain(padding) {
        params.push(Value::UInt(key.slot().0.into()));
        params.push(Value::Bytes(key.bytes().to_vec()));
    }
    params.extend(fence_params(fence));
    execute(&mut session.conn, statement, Params::Positional(params)).await
}

/// One row per key, from what was found of them. Column `first` says which key it is.
fn decode(
    keys: &[Key],
    columns: Columns,
    asked: Asked,
    first: usize,
) -> Result<Vec<Option<Row>>, StorageError> {
    match asked.named {
        Named::ByKey => decode_found(keys, columns, asked.answer, first),
        Named::ByNumber => decode_all(keys, columns, asked.answer, first),
    }
}

/// Rows that bear their keys, without those that were not there.
fn decode_found(
    keys: &[Key],
    columns: Columns,
    answer: Answer,
    first: usize,
) -> Result<Vec<Option<Row>>, StorageError> {
    let mut rows = vec![None; keys.len()];
    let mut next = 0;
    for mut row in answer.rows {
        let key: Option<Vec<u8>> = column(&mut row, first, "a key")?;
        // Only the fence: no key was found.
        let Some(key) = key else { continue };
        // Rows come in the order of the index on both servers, though SQL does not promise it.
        let index = (next..keys.len())
            .chain(0..next)
            .find(|index| *keys[*index].bytes() == key);
        let index = index.ok_or_else(|| unexpected("a key"))?;
        next = index + 1;
        rows[index] = Some(live_row(&mut row, first + 1, columns)?);
    }
    Ok(rows)
}

/// A row for each key, also for those that were not there, in any order.
fn decode_all(
    keys: &[Key],
    columns: Columns,
    answer: Answer,
    first: usize,
) -> Result<Vec<Option<Row>>, StorageError> {
    if answer.rows.len() != keys.len() {
        return Err(no_numbers());
    }
    let mut rows = vec![None; keys.len()];
    for mut row in answer.rows {
        let number: Option<usize> = column(&mut row, first, "a number")?;
        let number = number.ok_or_else(no_numbers)?;
        let place = rows.get_mut(number).ok_or_else(|| unexpected("a number"))?;
        // Its version: no row is without one.
        if row.as_ref(first + 3) != Some(&Value::NULL) {
            *place = Some(live_row(&mut row, first + 1, columns)?);
        }
    }
    Ok(rows)
}

/// A key would not be found although it is there.
fn no_numbers() -> StorageError {
    StorageError::Refused {
        refusal: Refusal::Schema,
        code: 0,
        message: "rows of the table numbers are missing: INSERT IGNORE INTO numbers WITH RECURSIVE \
                  all_of_them (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM all_of_them WHERE n < 127) \
                  SELECT n FROM all_of_them"
            .into(),
    }
}

/// The `shard` table is empty.
pub(super) fn no_fence() -> StorageError {
    StorageError::Refused {
        refusal: Refusal::Schema,
        code: 0,
        message: "the fence row is missing: run freehold init on an empty database, or restore it"
            .into(),
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
            let places = |shape| value_text(shape, size).matches('?').count();
            assert_eq!(places(&SHOWN), 1 + 2 * size);
            let fence = &*fence_agrees("?", "?");
            let shows = false;
            assert_eq!(places(&Shape { shows, fence }), 3 + 2 * size);
        }
        let numbered = numbered_text(&SHOWN).matches('?').count();
        assert_eq!(numbered, 1 + numbered::PARAMS);
        let keys = [Key::new("?").unwrap()];
        assert_eq!(expiry_literal(&SHOWN, &keys).matches('?').count(), 0);
    }
}
