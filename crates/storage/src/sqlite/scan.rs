//! Pages of a scan.

use freehold_core::{Key, Slot, limits::KEY_BYTES_MAX};
use rusqlite::{Connection, params};

use super::{
    decode::{key, value_bytes_max},
    session::Moment,
};
use crate::{
    range::{ScanStart, prefix_end},
    row::{Row, ScanPage, ScanRange},
};

pub(super) const SCAN: &str = "SELECT key, version, expires_at, length(value), \
                           CASE WHEN length(value) <= ?5 THEN value END \
                    FROM store \
                    WHERE slot = ?1 AND key >= ?2 AND key < ?3 AND expires_at > ?4 \
                    ORDER BY key LIMIT ?6";

/// The beginning of the range, slot by slot, and whether that is all of it.
pub(super) fn scan(
    snapshot: &Connection,
    moment: &Moment,
    range: &ScanRange,
) -> rusqlite::Result<ScanPage> {
    debug_assert!(
        range.slots.is_sorted_by(|a, b| a < b),
        "each slot once, in order"
    );
    let mut page = ScanPage {
        fence: moment.fence,
        rows: Vec::new(),
        complete: true,
    };
    let below = prefix_end(&range.prefix).unwrap_or_else(above_all_keys);
    for (index, slot) in range.slots.iter().enumerate() {
        let after = range.after.as_deref().filter(|_| index == 0);
        let from = match ScanStart::of(&range.prefix, after) {
            ScanStart::At(key) => key.to_vec(),
            // No byte string lies between a key and the same with a zero byte behind it.
            ScanStart::Behind(key) => [key, &[0]].concat(),
        };
        // One more than fits shows whether the range goes on.
        let rows_max = range.rows_max + 1 - page.rows.len();
        let rows = scan_slot(snapshot, moment, range, (*slot, &from, &below), rows_max)?;
        page.rows.extend(rows);
        if page.rows.len() > range.rows_max {
            page.rows.truncate(range.rows_max);
            page.complete = false;
            break;
        }
    }
    Ok(page)
}

fn scan_slot(
    snapshot: &Connection,
    moment: &Moment,
    range: &ScanRange,
    (slot, from, below): (Slot, &[u8], &[u8]),
    rows_max: usize,
) -> rusqlite::Result<Vec<(Key, Row)>> {
    let mut statement = snapshot.prepare_cached(SCAN)?;
    let bytes_max = value_bytes_max(range.columns);
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let rows = statement.query_map(
        params![slot.0, from, below, moment.now_ms, bytes_max, limit],
        |row| Ok((key(row, 0)?, moment.live_row(row, 1, range.columns)?)),
    )?;
    rows.collect()
}

/// Longer than a key can be, and of the highest byte.
fn above_all_keys() -> Vec<u8> {
    vec![u8::MAX; KEY_BYTES_MAX + 1]
}
