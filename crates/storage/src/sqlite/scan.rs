//! Pages of a scan.
//!
//! A slot without rows costs nothing: slots that stand side by side are one range of the index, and
//! where a prefix has to be looked for in each slot, the index says which slots there are.

use freehold_core::{Key, Slot, limits::KEY_BYTES_MAX};
use rusqlite::{Connection, OptionalExtension as _, Params, params};

use super::{
    decode::{key, value_bytes_max},
    session::Moment,
};
use crate::{
    range::{ScanStart, prefix_end, slot_ranges},
    row::{Row, ScanPage, ScanRange},
};

/// Keys of one slot.
pub(super) const SCAN: &str = "SELECT key, version, expires_at, length(value), \
                           CASE WHEN length(value) <= ?5 THEN value END \
                    FROM store \
                    WHERE slot = ?1 AND key >= ?2 AND key < ?3 AND expires_at > ?4 \
                    ORDER BY key LIMIT ?6";

/// All keys of slots side by side.
pub(super) const SCAN_SLOTS: &str = "SELECT key, version, expires_at, length(value), \
                           CASE WHEN length(value) <= ?4 THEN value END \
                    FROM store \
                    WHERE slot BETWEEN ?1 AND ?2 AND expires_at > ?3 \
                    ORDER BY slot, key LIMIT ?5";

/// The first of slots side by side that has rows.
pub(super) const NEXT_SLOT: &str =
    "SELECT slot FROM store WHERE slot BETWEEN ?1 AND ?2 ORDER BY slot LIMIT 1";

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
    let mut scan = Scan {
        snapshot,
        moment,
        range,
        rows: Vec::new(),
    };
    scan.run()?;
    let mut rows = scan.rows;
    let complete = rows.len() <= range.rows_max;
    rows.truncate(range.rows_max);
    Ok(ScanPage {
        fence: moment.fence,
        answered_by: moment.answered_by(),
        beat: None,
        rows,
        complete,
    })
}

/// A page that is being filled.
struct Scan<'a> {
    snapshot: &'a Connection,
    moment: &'a Moment,
    range: &'a ScanRange,
    rows: Vec<(Key, Row)>,
}

impl Scan<'_> {
    /// Reads until the page is full or the range is over.
    fn run(&mut self) -> rusqlite::Result<()> {
        let range = self.range;
        let mut slots = &range.slots[..];
        if let (Some(after), Some((first, rest))) = (&range.after, slots.split_first()) {
            self.in_slot(*first, ScanStart::of(&range.prefix, Some(after)))?;
            slots = rest;
        }
        for slots in slot_ranges(slots.iter().map(|slot| slot.0)) {
            let (mut next, last) = (*slots.start(), *slots.end());
            if range.prefix.is_empty() {
                self.in_slots(next, last)?;
                continue;
            }
            while let Some(slot) = self.next_slot(next, last)? {
                self.in_slot(slot, ScanStart::At(&range.prefix))?;
                if slot.0 == last {
                    break;
                }
                next = slot.0 + 1;
            }
        }
        Ok(())
    }

    /// One row more than fits shows whether the range goes on.
    fn rows_left(&self) -> i64 {
        let left = self.range.rows_max.saturating_add(1) - self.rows.len();
        i64::try_from(left).unwrap_or(i64::MAX)
    }

    /// Of a full page nothing more is read.
    fn next_slot(&self, first: u16, last: u16) -> rusqlite::Result<Option<Slot>> {
        if self.rows_left() == 0 {
            return Ok(None);
        }
        let mut statement = self.snapshot.prepare_cached(NEXT_SLOT)?;
        let slot = statement.query_row([first, last], |row| row.get(0));
        Ok(slot.optional()?.map(Slot))
    }

    fn in_slots(&mut self, first: u16, last: u16) -> rusqlite::Result<()> {
        let bytes_max = value_bytes_max(self.range.columns);
        let now_ms = self.moment.now_ms;
        let limit = self.rows_left();
        self.read(SCAN_SLOTS, params![first, last, now_ms, bytes_max, limit])
    }

    fn in_slot(&mut self, slot: Slot, start: ScanStart<'_>) -> rusqlite::Result<()> {
        let from = match start {
            ScanStart::At(key) => key.to_vec(),
            // No byte string lies between a key and the same with a zero byte behind it.
            ScanStart::Behind(key) => [key, &[0]].concat(),
        };
        let below = prefix_end(&self.range.prefix).unwrap_or_else(above_all_keys);
        let bytes_max = value_bytes_max(self.range.columns);
        let now_ms = self.moment.now_ms;
        let limit = self.rows_left();
        self.read(SCAN, params![slot.0, from, below, now_ms, bytes_max, limit])
    }

    fn read(&mut self, sql: &str, params: impl Params) -> rusqlite::Result<()> {
        if self.rows_left() == 0 {
            return Ok(());
        }
        let mut statement = self.snapshot.prepare_cached(sql)?;
        let rows = statement.query_map(params, |row| {
            let live = self.moment.live_row(row, 1, self.range.columns)?;
            Ok((key(row, 0)?, live))
        })?;
        for row in rows {
            self.rows.push(row?);
        }
        Ok(())
    }
}

/// Longer than a key can be, and of the highest byte.
fn above_all_keys() -> Vec<u8> {
    vec![u8::MAX; KEY_BYTES_MAX + 1]
}
