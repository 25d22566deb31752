//! Rows as they lie in the file, in the order of their keys.

use bytes::Bytes;
use freehold_core::{Key, Slot, SlotSet};
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};
use twox_hash::XxHash3_64;

use super::super::decode::key;
use crate::moves::{CopyRow, Stretch};

const ROW: &str = "SELECT key, length(value), version, expires_at, value FROM store \
                   WHERE slot = ?1 AND key = ?2 AND expires_at > ?3";

/// Slots side by side, from a key on.
const ROWS: &str = "SELECT key, length(value), version, expires_at, value FROM store \
                    WHERE (slot, key) > (?1, ?3) AND slot <= ?2 ORDER BY slot, key";

/// Where to look: slots side by side, and the key in the first of them behind which to begin.
pub(super) fn pieces(slots: &SlotSet, after: Option<&Key>) -> Vec<(u16, u16, Vec<u8>)> {
    // No key is empty, so all are behind the empty one.
    let whole = |slots: &SlotSet| -> Vec<(u16, u16, Vec<u8>)> {
        let ranges = slots.ranges().iter();
        ranges
            .map(|range| (*range.start(), *range.end(), Vec::new()))
            .collect()
    };
    let Some(after) = after else {
        return whole(slots);
    };
    let slot = after.slot();
    let mut pieces = Vec::new();
    if slots.contains(slot) {
        pieces.push((slot.0, slot.0, after.bytes().to_vec()));
    }
    if let Some(next) = slot.0.checked_add(1) {
        pieces.extend(whole(&slots.at_or_above(Slot(next))));
    }
    pieces
}

/// Shows the rows of a stretch, in order, until it was enough.
pub(super) fn walk(
    connection: &Connection,
    stretch: &Stretch,
    mut show: impl FnMut(&SqlRow<'_>) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(ROWS)?;
    for (first, last, behind) in pieces(&stretch.slots, stretch.after.as_ref()) {
        let mut rows = statement.query(params![first, last, behind])?;
        while let Some(row) = rows.next()? {
            let past = match &stretch.upto {
                Some(upto) => key(row, 0)? > *upto,
                None => false,
            };
            if past || !show(row)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

pub(super) fn row<T>(
    connection: &Connection,
    key: &Key,
    now_ms: i64,
    read: impl FnOnce(&SqlRow<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let bytes: &[u8] = key.bytes();
    let mut statement = connection.prepare_cached(ROW)?;
    statement
        .query_row(params![key.slot().0, bytes, now_ms], read)
        .optional()
}

pub(super) fn copy_row(row: &SqlRow<'_>, value_bytes_max: usize) -> rusqlite::Result<CopyRow> {
    let value_bytes = usize::try_from(row.get::<_, i64>(1)?).unwrap_or(usize::MAX);
    let value = match value_bytes <= value_bytes_max {
        true => Some(Bytes::from(row.get::<_, Vec<u8>>(4)?)),
        false => None,
    };
    Ok(CopyRow {
        key: key(row, 0)?,
        value,
        value_bytes,
        version: row.get::<_, i64>(2)?.cast_unsigned(),
        expires_at: row.get(3)?,
    })
}

pub(super) fn digest(row: &SqlRow<'_>) -> rusqlite::Result<u64> {
    let (key, value) = (row.get_ref(0)?.as_bytes()?, row.get_ref(4)?.as_bytes()?);
    let mut bytes = Vec::with_capacity(key.len() + value.len() + 24);
    for number in [key.len() as i64, row.get(2)?, row.get(3)?] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    Ok(XxHash3_64::oneshot(&bytes))
}
