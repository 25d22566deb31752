//! What a mover's transactions prove.

use freehold_core::{
    Slot, SlotSet, SlotState,
    moving::{Change, SlotRow, Work},
};
use rusqlite::{Connection, params};

use super::unknown;
use crate::moves::{Hold, Leader};

pub(super) fn leads(connection: &Connection, leader: Leader) -> rusqlite::Result<bool> {
    let sql = "SELECT server_id, term FROM shard WHERE id = 1";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row((), |row| {
        let shown = Leader {
            server_id: row.get::<_, i64>(0)?.cast_unsigned(),
            term: row.get::<_, i64>(1)?.cast_unsigned(),
        };
        Ok(shown == leader)
    })
}

pub(super) fn may(
    connection: &Connection,
    hold: Hold,
    work: Work,
    slots: &SlotSet,
) -> rusqlite::Result<bool> {
    let rows = slot_rows(connection, slots)?;
    let all = rows.len() == slots.len();
    let allowed = rows
        .iter()
        .all(|(_, row)| work.is_allowed(row, hold.attempt));
    Ok(all && allowed && leads(connection, hold.leader)?)
}

pub(super) fn are_as_proven(
    connection: &Connection,
    changes: &[(Slot, Change<Box<str>>)],
) -> rusqlite::Result<bool> {
    let slots: SlotSet = changes.iter().map(|(slot, _)| *slot).collect();
    let rows = slot_rows(connection, &slots)?;
    let mut any_row = connection.prepare_cached("SELECT 1 FROM store WHERE slot = ?1 LIMIT 1")?;
    for (slot, change) in changes {
        let row = rows.binary_search_by_key(slot, |(slot, _)| *slot);
        let row = row.ok().map(|index| &rows[index].1);
        let same = |proven: &SlotRow<Box<str>>, row: &SlotRow<Box<str>>| {
            (proven.state, proven.slot_epoch, proven.attempt)
                == (row.state, row.slot_epoch, row.attempt)
        };
        let proven = match (&change.proves, row) {
            (Some(proven), Some(row)) => same(proven, row),
            _ => false,
        };
        if !proven || (change.finds_no_rows && any_row.exists([slot.0])?) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn slot_rows(
    connection: &Connection,
    slots: &SlotSet,
) -> rusqlite::Result<Vec<(Slot, SlotRow<Box<str>>)>> {
    let mut statement = connection.prepare_cached(
        "SELECT slot, state, slot_epoch, peer, attempt FROM slots \
         WHERE slot BETWEEN ?1 AND ?2 ORDER BY slot",
    )?;
    let mut rows = Vec::new();
    for range in slots.ranges() {
        let found = statement.query_map(params![range.start(), range.end()], |row| {
            let state: String = row.get(1)?;
            let seen = SlotRow {
                state: SlotState::parse(&state).ok_or_else(|| unknown(1, "state"))?,
                slot_epoch: row.get::<_, i64>(2)?.cast_unsigned(),
                peer: row.get::<_, Option<String>>(3)?.map(Into::into),
                attempt: row.get::<_, i64>(4)?.cast_unsigned(),
            };
            Ok((Slot(row.get(0)?), seen))
        })?;
        rows.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    Ok(rows)
}
