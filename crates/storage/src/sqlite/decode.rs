//! What the columns of a row mean.

use bytes::Bytes;
use freehold_core::{Key, ShardIdentity, Slot, SlotClaim, SlotState};
use rusqlite::{Connection, Row as SqlRow, types::Type};

use super::session::Moment;
use crate::row::{Columns, RawRow, Row, Value};

/// `expires_at` of a row that never expires.
const NEVER: i64 = i64::MAX;

const IDENTITY: &str = "SELECT name, cluster_id, schema_version FROM shard WHERE id = 1";

impl Moment {
    /// `expires_at` of a row that is given so long to live now.
    pub(super) fn expiry(&self, ttl_ms: Option<u64>) -> i64 {
        ttl_ms.map_or(NEVER, |ttl_ms| self.now_ms.saturating_add_unsigned(ttl_ms))
    }

    /// How long a live row has left; `None` for ever.
    fn ttl_ms(&self, expires_at: i64) -> Option<u64> {
        (expires_at != NEVER).then(|| {
            expires_at
                .saturating_sub(self.now_ms)
                .max(0)
                .cast_unsigned()
        })
    }

    /// Version, expiry, length and value, from the column `first` on.
    pub(super) fn live_row(
        &self,
        row: &SqlRow<'_>,
        first: usize,
        columns: Columns,
    ) -> rusqlite::Result<Row> {
        let fetched: Option<Vec<u8>> = row.get(first + 3)?;
        let value = match (columns, fetched) {
            (Columns::Expiry, _) => Value::NotRead,
            (Columns::Value { .. }, Some(bytes)) => Value::Bytes(Bytes::from(bytes)),
            (Columns::Value { .. }, None) => Value::TooLarge {
                bytes: length(row, first + 2)?,
            },
        };
        Ok(Row {
            version: row.get::<_, i64>(first)?.cast_unsigned(),
            ttl_ms: self.ttl_ms(row.get(first + 1)?),
            value,
        })
    }
}

/// The longest value to bring back; no value has so few bytes as are asked for without one.
pub(super) fn value_bytes_max(columns: Columns) -> i64 {
    match columns {
        Columns::Expiry => -1,
        Columns::Value { bytes_max } => i64::try_from(bytes_max).unwrap_or(i64::MAX),
    }
}

/// Who the file says it belongs to.
pub(super) fn identity(connection: &Connection) -> rusqlite::Result<ShardIdentity> {
    connection.prepare_cached(IDENTITY)?.query_row((), |row| {
        Ok(ShardIdentity {
            name: row.get(0)?,
            cluster_id: row.get::<_, i64>(1)?.cast_unsigned(),
            schema_version: row.get(2)?,
        })
    })
}

/// A key that a row holds.
pub(super) fn key(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Key> {
    let bytes: Vec<u8> = row.get(column)?;
    Key::new(bytes).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error))
    })
}

/// What `length()` says.
fn length(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<usize> {
    let length: i64 = row.get(column)?;
    usize::try_from(length).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, length))
}

/// A row of `slots`.
pub(super) fn claim(row: &SqlRow<'_>) -> rusqlite::Result<SlotClaim> {
    let state: String = row.get(1)?;
    Ok(SlotClaim {
        slot: Slot(row.get(0)?),
        state: SlotState::parse(&state).ok_or_else(unknown_state)?,
        slot_epoch: row.get::<_, i64>(2)?.cast_unsigned(),
        peer: row.get::<_, Option<String>>(3)?.map(Into::into),
        since_epoch: row.get::<_, i64>(4)?.cast_unsigned(),
    })
}

/// A row as it lies in the table: version, expiry and length.
pub(super) fn raw_row(moment: &Moment, row: &SqlRow<'_>) -> rusqlite::Result<RawRow> {
    let expires_at: i64 = row.get(1)?;
    let live = expires_at > moment.now_ms;
    Ok(RawRow {
        live,
        version: row.get::<_, i64>(0)?.cast_unsigned(),
        ttl_ms: moment.ttl_ms(expires_at).filter(|_| live),
        value_bytes: length(row, 2)?,
    })
}

fn unknown_state() -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(1, "state".to_owned(), Type::Text)
}
