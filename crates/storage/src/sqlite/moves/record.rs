//! The list of moves.

use freehold_core::limits::MOVES_KEPT_MAX;
use rusqlite::{OptionalExtension as _, Row as SqlRow, Transaction, params};

use super::{super::session::NOW, unknown};
use crate::moves::{Entry, MoveBeat, MoveRecord, MoveRun, MoveState, Recorded};

const RECORD: &str = "INSERT INTO moves (id, source, target, slots, state, cancels, mover, \
     slots_done, rows_copied, bytes_copied, pause_us_max, error, started_at, changed_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13) \
     ON CONFLICT (id) DO UPDATE SET slots = excluded.slots, state = excluded.state, \
     cancels = excluded.cancels, mover = excluded.mover, slots_done = excluded.slots_done, \
     rows_copied = excluded.rows_copied, bytes_copied = excluded.bytes_copied, \
     pause_us_max = max(pause_us_max, excluded.pause_us_max), error = excluded.error, \
     changed_at = max(changed_at + 1, excluded.changed_at)";

/// The one of an id.
pub(super) const ONE: &str = "SELECT id, source, target, slots, state, cancels, mover, \
     slots_done, rows_copied, bytes_copied, pause_us_max, error, started_at, changed_at FROM moves \
     WHERE id = ?1";

/// The newest first.
pub(super) const NEWEST: &str = "SELECT id, source, target, slots, state, cancels, mover, \
     slots_done, rows_copied, bytes_copied, pause_us_max, error, started_at, changed_at FROM moves \
     ORDER BY started_at DESC, id LIMIT ?1";

/// Those that are open, the oldest first.
pub(super) const OPEN: &str = "SELECT id, source, target, slots, state, cancels, mover, \
     slots_done, rows_copied, bytes_copied, pause_us_max, error, started_at, changed_at FROM moves \
     WHERE state IN ('running', 'stopped') ORDER BY started_at, id LIMIT ?1";

/// Those that ended before the newest ones.
const FORGET_OLDEST: &str = "DELETE FROM moves WHERE id IN (SELECT id FROM moves \
     WHERE state IN ('done', 'cancelled') ORDER BY started_at DESC, id LIMIT -1 OFFSET ?1)";

/// Writes a move down, with the time, if the entry may be made.
pub(super) fn write(
    transaction: &Transaction<'_>,
    entry: Entry,
    record: &MoveRecord,
) -> rusqlite::Result<Recorded> {
    let known = transaction
        .prepare_cached("SELECT state, cancels, mover FROM moves WHERE id = ?1")?
        .query_row([record.id.cast_signed()], |row| {
            let state: String = row.get(0)?;
            let state = MoveState::parse(&state).ok_or_else(|| unknown(0, "state"))?;
            Ok((state, row.get::<_, bool>(1)?, row.get::<_, String>(2)?))
        })
        .optional()?;
    if let Some((state, cancels, mover)) = known {
        let may = match entry {
            Entry::Begin => state.is_open() && cancels <= record.cancels,
            Entry::GoOn => state == MoveState::Running && mover == record.mover,
            Entry::End => state.is_open(),
        };
        // It stands there, too, if this was done before and the answer lost.
        if !may && (state, &mover) != (record.state, &record.mover) {
            return Ok(Recorded::NotTheirs);
        }
    }
    let now: i64 = transaction.query_row(&format!("SELECT {NOW}"), (), |row| row.get(0))?;
    transaction.prepare_cached(RECORD)?.execute(params![
        record.id.cast_signed(),
        record.source,
        record.target,
        record.slots.to_string(),
        record.state.as_str(),
        record.cancels,
        record.mover,
        record.slots_done.cast_signed(),
        record.rows.cast_signed(),
        record.bytes.cast_signed(),
        record.pause_us_max.cast_signed(),
        record.error,
        now,
    ])?;
    if !record.state.is_open() {
        transaction
            .prepare_cached(FORGET_OLDEST)?
            .execute([MOVES_KEPT_MAX as i64])?;
    }
    Ok(Recorded::Written)
}

/// Whether nobody else runs the move.
pub(super) fn may_run(transaction: &Transaction<'_>, run: &MoveRun) -> rusqlite::Result<bool> {
    transaction
        .prepare_cached(
            "SELECT NOT EXISTS (SELECT 1 FROM moves WHERE id = ?1 \
             AND NOT (mover = ?2 AND state = 'running'))",
        )?
        .query_row(params![run.id.cast_signed(), run.mover], |row| row.get(0))
}

/// Shows that somebody runs a move; false if it is not that mover's to run.
pub(super) fn beat(transaction: &Transaction<'_>, beat: &MoveBeat) -> rusqlite::Result<bool> {
    let statement = format!(
        "UPDATE moves SET changed_at = max(changed_at + 1, {NOW}), slots_done = ?3, \
         rows_copied = ?4, bytes_copied = ?5, pause_us_max = max(pause_us_max, ?6) \
         WHERE id = ?1 AND mover = ?2 AND state = 'running'"
    );
    let changed = transaction.prepare_cached(&statement)?.execute(params![
        beat.id.cast_signed(),
        beat.mover,
        beat.slots_done.cast_signed(),
        beat.rows.cast_signed(),
        beat.bytes.cast_signed(),
        beat.pause_us_max.cast_signed(),
    ])?;
    Ok(changed > 0)
}

pub(super) fn read(row: &SqlRow<'_>) -> rusqlite::Result<MoveRecord> {
    let slots: String = row.get(3)?;
    let state: String = row.get(4)?;
    let number = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
    Ok(MoveRecord {
        id: number(0)?,
        source: row.get(1)?,
        target: row.get(2)?,
        slots: slots.parse().map_err(|_| unknown(3, "slots"))?,
        state: MoveState::parse(&state).ok_or_else(|| unknown(4, "state"))?,
        cancels: row.get(5)?,
        mover: row.get(6)?,
        slots_done: number(7)?,
        rows: number(8)?,
        bytes: number(9)?,
        pause_us_max: number(10)?,
        error: row.get(11)?,
        started_at: row.get(12)?,
        changed_at: row.get(13)?,
    })
}
