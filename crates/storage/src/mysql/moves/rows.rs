//! Rows and the log of keys: reading and deleting.

use std::collections::BTreeMap;

use bytes::Bytes;
use freehold_core::{Key, SlotSet, moving::Work};
use mysql_async::Row as SqlRow;

use super::{
    super::{
        decode::column,
        error::unexpected,
        session::{Session, query},
        statements::{NOW, keys_are},
    },
    proof, send,
};
use crate::{
    error::StorageError,
    moves::{Cleared, CopyRow, Hold, Logged, Portion, Stretch, slots_of, that_fit},
};

pub(super) async fn page(
    session: &mut Session,
    stretch: &Stretch,
    rows_max: usize,
    value_bytes_max: usize,
) -> Result<Vec<CopyRow>, StorageError> {
    let picked = proof::stretch(stretch);
    let end = format!("ORDER BY s.slot, s.`key` LIMIT {rows_max}");
    read(session, &picked, &end, value_bytes_max).await
}

pub(super) async fn rows(
    session: &mut Session,
    keys: &[Key],
    value_bytes_max: usize,
) -> Result<Vec<CopyRow>, StorageError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let end = "ORDER BY s.slot, s.`key`";
    read(session, &keys_are("s.", keys), end, value_bytes_max).await
}

async fn read(
    session: &mut Session,
    picked: &str,
    end: &str,
    value_bytes_max: usize,
) -> Result<Vec<CopyRow>, StorageError> {
    let statement = format!(
        "SELECT s.slot, s.`key`, IF(LENGTH(s.value) <= {value_bytes_max}, s.value, NULL), \
         LENGTH(s.value), s.version, s.expires_at FROM store s FORCE INDEX (PRIMARY) \
         WHERE {picked} AND s.expires_at > {NOW} {end}"
    );
    let answer = query(&mut session.conn, statement).await;
    let answer = answer.map_err(|failure| failure.of_read())?;
    answer.rows.into_iter().map(copy_row).collect()
}

fn copy_row(mut row: SqlRow) -> Result<CopyRow, StorageError> {
    let value: Option<Vec<u8>> = column(&mut row, 2, "a value")?;
    Ok(CopyRow {
        key: key(&mut row, 0)?,
        value: value.map(Bytes::from),
        value_bytes: column(&mut row, 3, "a value's length")?,
        version: column(&mut row, 4, "a version")?,
        expires_at: column(&mut row, 5, "an expiry")?,
    })
}

/// Slot and key, from column `first` on. A key in a slot that is not its own would be lost there.
pub(super) fn key(row: &mut SqlRow, first: usize) -> Result<Key, StorageError> {
    let slot: u16 = column(row, first, "a slot")?;
    let bytes: Vec<u8> = column(row, first + 1, "a key")?;
    let key = Key::new(bytes).map_err(|_| unexpected("a key"))?;
    if key.slot().0 != slot {
        return Err(unexpected("the slot of a key"));
    }
    Ok(key)
}

pub(super) async fn remove(
    session: &mut Session,
    hold: Hold,
    keys: &[Key],
) -> Result<Option<()>, StorageError> {
    let slots = slots_of(keys);
    let picked = keys_are("s.", keys);
    let deleted = delete(session, "store", hold, Work::Copy, &slots, &picked).await?;
    Ok(deleted.map(drop))
}

pub(super) async fn logged(
    session: &mut Session,
    slots: &SlotSet,
    after: Option<&Key>,
    keys_max: usize,
) -> Result<Vec<Logged>, StorageError> {
    let stretch = Stretch {
        slots: slots.clone(),
        after: after.cloned(),
        upto: None,
    };
    let statement = format!(
        "SELECT s.slot, s.`key`, s.n FROM moved_keys s FORCE INDEX (PRIMARY) WHERE {} \
         ORDER BY s.slot, s.`key` LIMIT {keys_max}",
        proof::stretch(&stretch)
    );
    let answer = query(&mut session.conn, statement).await;
    let answer = answer.map_err(|failure| failure.of_read())?;
    let entries = answer.rows.into_iter().map(|mut row| {
        Ok(Logged {
            key: key(&mut row, 0)?,
            n: column(&mut row, 2, "how often a key was written")?,
        })
    });
    entries.collect()
}

pub(super) async fn logged_of(
    session: &mut Session,
    keys: &[Key],
) -> Result<Vec<Key>, StorageError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let statement = format!(
        "SELECT s.slot, s.`key` FROM moved_keys s FORCE INDEX (PRIMARY) WHERE {} \
         ORDER BY s.slot, s.`key`",
        keys_are("s.", keys)
    );
    let answer = query(&mut session.conn, statement).await;
    let answer = answer.map_err(|failure| failure.of_read())?;
    answer
        .rows
        .into_iter()
        .map(|mut row| key(&mut row, 0))
        .collect()
}

pub(super) async fn forget(
    session: &mut Session,
    hold: Hold,
    entries: &[Logged],
) -> Result<Option<()>, StorageError> {
    let mut by_n: BTreeMap<u64, Vec<Key>> = BTreeMap::new();
    for entry in entries {
        by_n.entry(entry.n).or_default().push(entry.key.clone());
    }
    let slots = slots_of(entries.iter().map(|entry| &entry.key));
    // Most keys were written once, so this is one statement, or two.
    for (n, keys) in by_n {
        let picked = format!("{} AND s.n = {n}", keys_are("s.", &keys));
        let deleted = delete(session, "moved_keys", hold, Work::Forget, &slots, &picked).await?;
        if deleted.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

/// Deletes the first rows of these slots. Where they end is read first: a DELETE with a LIMIT takes
/// no index hint, and scans a table of few rows whole, with all its locks.
pub(super) async fn delete_some(
    session: &mut Session,
    hold: Hold,
    work: Work,
    slots: &SlotSet,
    portion: Portion,
) -> Result<Option<Cleared>, StorageError> {
    let (table, length) = match work {
        Work::ClearLog | Work::Forget => ("moved_keys", "0"),
        Work::Empty | Work::Copy => ("store", "COALESCE(LENGTH(s.value), 0)"),
    };
    let mut stretch = Stretch::from(slots.clone());
    let first = format!(
        "SELECT s.slot, s.`key`, {length} FROM {table} s FORCE INDEX (PRIMARY) WHERE {} \
         ORDER BY s.slot, s.`key` LIMIT {}",
        proof::stretch(&stretch),
        portion.rows_max
    );
    let answer = query(&mut session.conn, first).await;
    let answer = answer.map_err(|failure| failure.of_read())?;
    let rows: Vec<(Key, usize)> = answer
        .rows
        .into_iter()
        .map(|mut row| Ok((key(&mut row, 0)?, column(&mut row, 2, "a value's length")?)))
        .collect::<Result<_, StorageError>>()?;
    let (last, fit) = that_fit(&rows, portion);
    let picked = match last {
        Some(last) => {
            stretch.upto = Some(last.clone());
            proof::stretch(&stretch)
        }
        // Whether it might have deleted some is asked all the same.
        None => "FALSE".to_owned(),
    };
    let deleted = delete(session, table, hold, work, slots, &picked).await?;
    Ok(deleted.map(|rows| Cleared { rows, ..fit }))
}

/// Deletes rows, and looks behind it whether the proof holds: one that does not leaves them there.
async fn delete(
    session: &mut Session,
    table: &str,
    hold: Hold,
    work: Work,
    slots: &SlotSet,
    picked: &str,
) -> Result<Option<u64>, StorageError> {
    let statements = [
        format!(
            "DELETE s FROM {table} s FORCE INDEX (PRIMARY) WHERE {picked} AND {} = 0",
            proof::may(hold, work, slots, proof::LOCK)
        ),
        format!("SELECT {}", proof::may(hold, work, slots, "")),
    ];
    let Some(mut answers) = send(session, &statements).await? else {
        return Ok(None);
    };
    let proof = answers.pop().and_then(|mut answer| answer.rows.pop());
    let mut proof = proof.ok_or_else(|| unexpected("whether slots are still held"))?;
    let proof: Option<i64> = column(&mut proof, 0, "whether slots are still held")?;
    let deleted = answers.pop().map_or(0, |answer| answer.affected);
    Ok(proof.map(|_| deleted))
}
