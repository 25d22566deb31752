//! The list of moves, on both shards of each.

use freehold_core::{SlotSet, limits::MOVES_KEPT_MAX};
use mysql_async::Row as SqlRow;

use super::{
    super::{
        decode::{column, text},
        error::unexpected,
        session::{Session, query},
        statements::NOW,
    },
    change::name,
    proof, send,
};
use crate::{
    error::StorageError,
    moves::{Entry, Leader, MoveBeat, MoveRecord, MoveState, Recorded},
};

/// The newest first.
pub(super) const NEWEST: &str = "ORDER BY started_at DESC, id";

const ENDED: &str = "state IN ('done', 'cancelled')";

/// Those that are open, the oldest first.
pub(super) const OPEN: &str = "WHERE state IN ('running', 'stopped') ORDER BY started_at, id";

pub(super) async fn write(
    session: &mut Session,
    leader: Leader,
    entry: Entry,
    record: &MoveRecord,
) -> Result<Recorded, StorageError> {
    let leads = proof::leads(leader);
    let (state, mover) = (record.state.as_str(), name(&record.mover));
    let may = match entry {
        Entry::Begin => format!(
            "state IN ('running', 'stopped') AND cancels <= {}",
            u8::from(record.cancels)
        ),
        Entry::GoOn => format!("state = 'running' AND mover = {mover}"),
        Entry::End => "state IN ('running', 'stopped')".to_owned(),
    };
    let set = values(record).map(|(column, value)| format!("{column} = {value}"));
    let update = format!(
        "UPDATE moves SET {}, pause_us_max = GREATEST(pause_us_max, {}), \
         changed_at = GREATEST(changed_at + 1, {NOW}) WHERE id = {} AND {may} AND {leads} = 0",
        set.join(", "),
        record.pause_us_max,
        record.id,
    );
    let values = values(record);
    let insert = format!(
        "INSERT INTO moves (id, source, target, pause_us_max, started_at, changed_at, {}) \
         SELECT {}, {}, {}, {}, {NOW}, {NOW}, {} FROM shard f WHERE f.id = 1 AND {leads} = 0 \
         ON DUPLICATE KEY UPDATE id = moves.id",
        values.each_ref().map(|(column, _)| *column).join(", "),
        record.id,
        name(&record.source),
        name(&record.target),
        record.pause_us_max,
        values
            .each_ref()
            .map(|(_, value)| value.as_str())
            .join(", "),
    );
    // It stands there, too, if this was sent before and the answer lost.
    let look = format!(
        "SELECT {leads} IS NOT NULL, (SELECT COUNT(*) FROM moves WHERE id = {} \
         AND mover = {mover} AND state = '{state}')",
        record.id
    );
    let answers = send(session, &[update, insert, look]).await?;
    let answer = answers.and_then(|mut answers| answers.pop());
    let row = answer.and_then(|mut answer| answer.rows.pop());
    let mut row = row.ok_or_else(|| unexpected("what is written down of a move"))?;
    let what = "what is written down of a move";
    let recorded = match (column(&mut row, 0, what)?, column(&mut row, 1, what)?) {
        (false, _) => Recorded::NotLeading,
        (true, 0_u64) => Recorded::NotTheirs,
        (true, _) => Recorded::Written,
    };
    if recorded == Recorded::Written && !record.state.is_open() {
        forget_oldest(session).await?;
    }
    Ok(recorded)
}

/// Moves that are forgotten when one ends: one is enough, once there are no more than shall be kept.
const FORGOTTEN_AT_ONCE: usize = 100;

/// Deletes moves that ended before the newest ones.
async fn forget_oldest(session: &mut Session) -> Result<(), StorageError> {
    let look = format!(
        "SELECT id FROM moves WHERE {ENDED} ORDER BY started_at DESC, id \
         LIMIT {FORGOTTEN_AT_ONCE} OFFSET {MOVES_KEPT_MAX}"
    );
    let answer = query(&mut session.conn, look).await;
    let answer = answer.map_err(|failure| failure.of_read())?;
    let ids = answer.rows.into_iter();
    let ids: Vec<String> = ids
        .map(|mut row| Ok(column::<u64>(&mut row, 0, "a move's id")?.to_string()))
        .collect::<Result<_, StorageError>>()?;
    if ids.is_empty() {
        return Ok(());
    }
    let ids = ids.join(",");
    let delete = format!("DELETE FROM moves WHERE id IN ({ids}) AND {ENDED}");
    match send(session, &[delete]).await {
        // An account from before it needed this right; doctor says so.
        Err(StorageError::Refused { .. }) => Ok(()),
        sent => sent.map(drop),
    }
}

/// The columns that each entry writes, and what.
fn values(record: &MoveRecord) -> [(&'static str, String); 8] {
    [
        ("slots", name(&record.slots.to_string())),
        ("state", format!("'{}'", record.state.as_str())),
        ("cancels", u8::from(record.cancels).to_string()),
        ("mover", name(&record.mover)),
        ("slots_done", record.slots_done.to_string()),
        ("rows_copied", record.rows.to_string()),
        ("bytes_copied", record.bytes.to_string()),
        ("error", name(&record.error)),
    ]
}

pub(super) async fn beat(
    session: &mut Session,
    leader: Leader,
    beat: &MoveBeat,
) -> Result<Option<()>, StorageError> {
    // Never the same twice, whatever becomes of the server's clock.
    let statement = format!(
        "UPDATE moves SET changed_at = GREATEST(changed_at + 1, {NOW}), slots_done = {}, \
         rows_copied = {}, bytes_copied = {}, pause_us_max = GREATEST(pause_us_max, {}) \
         WHERE id = {} AND mover = {} AND state = 'running' AND {} = 0",
        beat.slots_done,
        beat.rows,
        beat.bytes,
        beat.pause_us_max,
        beat.id,
        name(&beat.mover),
        proof::leads(leader),
    );
    let answers = send(session, &[statement]).await?;
    let changed = answers.is_some_and(|answers| answers.iter().any(|answer| answer.affected > 0));
    Ok(changed.then_some(()))
}

pub(super) async fn read(
    session: &mut Session,
    which: &str,
    records_max: usize,
) -> Result<Vec<MoveRecord>, StorageError> {
    let statement = format!(
        "SELECT id, source, target, slots, state, cancels, mover, slots_done, rows_copied, \
         bytes_copied, pause_us_max, error, started_at, changed_at FROM moves \
         {which} LIMIT {records_max}"
    );
    let answer = query(&mut session.conn, statement).await;
    let answer = answer.map_err(|failure| failure.of_read())?;
    answer.rows.into_iter().map(record).collect()
}

fn record(mut row: SqlRow) -> Result<MoveRecord, StorageError> {
    let slots = text(&mut row, 3, "the slots of a move")?;
    let slots: Result<SlotSet, _> = slots.parse();
    let state = text(&mut row, 4, "a move's state")?;
    Ok(MoveRecord {
        id: column(&mut row, 0, "a move's id")?,
        source: text(&mut row, 1, "a move's source")?,
        target: text(&mut row, 2, "a move's target")?,
        slots: slots.map_err(|_| unexpected("the slots of a move"))?,
        state: MoveState::parse(&state).ok_or_else(|| unexpected("a move's state"))?,
        cancels: column(&mut row, 5, "whether a move is cancelled")?,
        mover: text(&mut row, 6, "who runs a move")?,
        slots_done: column(&mut row, 7, "how far a move is")?,
        rows: column(&mut row, 8, "how far a move is")?,
        bytes: column(&mut row, 9, "how far a move is")?,
        pause_us_max: column(&mut row, 10, "a move's pause")?,
        error: text(&mut row, 11, "a move's error")?,
        started_at: column(&mut row, 12, "when a move began")?,
        changed_at: column(&mut row, 13, "when a move was written down")?,
    })
}
