//! Moving slots. A transaction has SQLite's one write lock, so what it proves holds until its end.

mod proof;
mod record;
mod rows;

use async_trait::async_trait;
use freehold_core::{
    Key, Position, Slot, SlotSet, SlotState,
    moving::{Change, SlotRow, Work},
};
use rusqlite::{OptionalExtension as _, Transaction, params};

use self::{
    proof::{are_as_proven, leads, may, slot_rows},
    rows::{copy_row, digest, pieces, row, walk},
};
use super::{
    SqliteConnection,
    decode::{identity, key},
    session::Moment,
};
use crate::{
    error::StorageError,
    moves::{
        Checksum, Cleared, CopyRow, Entry, Hold, Leader, Logged, MoveBeat, MoveConnection,
        MoveRecord, MoveRun, Portion, Recorded, SeenSlots, Stretch, that_fit,
    },
};

const STORE: &str = "INSERT INTO store (slot, key, version, expires_at, value) \
                     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (slot, key) DO UPDATE SET \
                     version = excluded.version, expires_at = excluded.expires_at, \
                     value = excluded.value";

#[async_trait]
impl MoveConnection for SqliteConnection {
    async fn slots(&mut self, slots: &SlotSet) -> Result<SeenSlots, StorageError> {
        let slots = slots.clone();
        self.snapshot(move |snapshot, moment| {
            let identity = identity(snapshot)?;
            Ok(SeenSlots {
                fence: moment.fence,
                answered_by: moment.answered_by(),
                name: identity.name,
                cluster_id: identity.cluster_id,
                rows: slot_rows(snapshot, &slots)?,
            })
        })
        .await
    }

    async fn on_their_way(&mut self) -> Result<Vec<(Slot, SlotRow<Box<str>>)>, StorageError> {
        self.snapshot(|snapshot, _| {
            let mut rows = slot_rows(snapshot, &SlotSet::from(0..=u16::MAX))?;
            rows.retain(|(_, row)| !matches!(row.state, SlotState::Owned | SlotState::Gone));
            Ok(rows)
        })
        .await
    }

    async fn take_over(
        &mut self,
        hold: Hold,
        run: &MoveRun,
        slots: &SlotSet,
        peer: &str,
    ) -> Result<Option<()>, StorageError> {
        let (run, slots, peer) = (run.clone(), slots.clone(), peer.to_owned());
        self.transact(move |transaction| {
            if !leads(transaction, hold.leader)? || !record::may_run(transaction, &run)? {
                return Ok(None);
            }
            let mut insert = transaction.prepare_cached(
                "INSERT INTO slots (slot, state, slot_epoch, peer, attempt, since_epoch) \
                 VALUES (?1, 'gone', 0, ?2, ?3, 0) \
                 ON CONFLICT (slot) DO UPDATE SET attempt = excluded.attempt",
            )?;
            for slot in slots.iter() {
                insert.execute(params![slot.0, peer, hold.attempt.cast_signed()])?;
            }
            Ok(Some(()))
        })
        .await
    }

    async fn change(
        &mut self,
        leader: Leader,
        changes: &[(Slot, Change<Box<str>>)],
    ) -> Result<Option<()>, StorageError> {
        let (changes, stamp) = (changes.to_vec(), self.draw().cast_signed());
        self.transact(move |transaction| {
            // Everything is looked at before anything is changed.
            if !leads(transaction, leader)? || !are_as_proven(transaction, &changes)? {
                return Ok(None);
            }
            transaction.execute(
                "UPDATE shard SET epoch = epoch + 1, stamp = ?1 WHERE id = 1",
                [stamp],
            )?;
            let mut update = transaction.prepare_cached(
                "UPDATE slots SET state = ?2, slot_epoch = ?3, peer = ?4, attempt = ?5, \
                 since_epoch = (SELECT epoch FROM shard WHERE id = 1) WHERE slot = ?1",
            )?;
            for (slot, change) in &changes {
                let next = &change.next;
                update.execute(params![
                    slot.0,
                    next.state.as_str(),
                    next.slot_epoch.cast_signed(),
                    next.peer.as_deref(),
                    next.attempt.cast_signed(),
                ])?;
            }
            Ok(Some(()))
        })
        .await
    }

    async fn page(
        &mut self,
        stretch: &Stretch,
        rows_max: usize,
        value_bytes_max: usize,
    ) -> Result<Vec<CopyRow>, StorageError> {
        let stretch = stretch.clone();
        self.snapshot(move |snapshot, moment| {
            let mut rows = Vec::new();
            walk(snapshot, &stretch, |row| {
                if row.get::<_, i64>(3)? > moment.now_ms {
                    rows.push(copy_row(row, value_bytes_max)?);
                }
                Ok(rows.len() < rows_max)
            })?;
            Ok(rows)
        })
        .await
    }

    async fn rows(
        &mut self,
        keys: &[Key],
        value_bytes_max: usize,
    ) -> Result<Vec<CopyRow>, StorageError> {
        let keys = keys.to_vec();
        self.snapshot(move |snapshot, moment| {
            let rows = keys.iter().map(|key| {
                row(snapshot, key, moment.now_ms, |row| {
                    copy_row(row, value_bytes_max)
                })
            });
            Ok(rows
                .collect::<rusqlite::Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect())
        })
        .await
    }

    async fn store(&mut self, hold: Hold, rows: &[CopyRow]) -> Result<Option<()>, StorageError> {
        let rows = rows.to_vec();
        self.held(hold, Work::Copy, move |transaction| {
            let mut store = transaction.prepare_cached(STORE)?;
            for row in &rows {
                let (key, value): (&[u8], _) = (row.key.bytes(), row.value.as_deref());
                store.execute(params![
                    row.key.slot().0,
                    key,
                    row.version.cast_signed(),
                    row.expires_at,
                    value,
                ])?;
            }
            let slots = rows.iter().map(|row| row.key.slot()).collect();
            Ok((slots, ()))
        })
        .await
    }

    async fn remove(&mut self, hold: Hold, keys: &[Key]) -> Result<Option<()>, StorageError> {
        let keys = keys.to_vec();
        self.held(hold, Work::Copy, move |transaction| {
            delete_keys(transaction, "store", &keys)
        })
        .await
    }

    async fn logged(
        &mut self,
        slots: &SlotSet,
        after: Option<&Key>,
        keys_max: usize,
    ) -> Result<Vec<Logged>, StorageError> {
        let (slots, after) = (slots.clone(), after.cloned());
        self.snapshot(move |snapshot, _| {
            let mut entries = Vec::new();
            let mut statement = snapshot.prepare_cached(
                "SELECT key, n FROM moved_keys WHERE (slot, key) > (?1, ?3) AND slot <= ?2 \
                 ORDER BY slot, key LIMIT ?4",
            )?;
            for (first, last, behind) in pieces(&slots, after.as_ref()) {
                let room = bound(keys_max - entries.len());
                let found = statement.query_map(params![first, last, behind, room], |row| {
                    let n = row.get::<_, i64>(1)?.cast_unsigned();
                    Ok(Logged {
                        key: key(row, 0)?,
                        n,
                    })
                })?;
                entries.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            Ok(entries)
        })
        .await
    }

    async fn logged_of(&mut self, keys: &[Key]) -> Result<Vec<Key>, StorageError> {
        let mut keys = keys.to_vec();
        self.snapshot(move |snapshot, _| {
            let mut is_logged =
                snapshot.prepare_cached("SELECT 1 FROM moved_keys WHERE slot = ?1 AND key = ?2")?;
            let mut failed = None;
            keys.retain(|key| {
                let bytes: &[u8] = key.bytes();
                let found = is_logged.exists(params![key.slot().0, bytes]);
                found.unwrap_or_else(|error| {
                    failed = Some(error);
                    false
                })
            });
            failed.map_or(Ok(keys), Err)
        })
        .await
    }

    async fn forget(&mut self, hold: Hold, entries: &[Logged]) -> Result<Option<()>, StorageError> {
        let entries = entries.to_vec();
        self.held(hold, Work::Forget, move |transaction| {
            let mut delete = transaction
                .prepare_cached("DELETE FROM moved_keys WHERE slot = ?1 AND key = ?2 AND n = ?3")?;
            for entry in &entries {
                let bytes: &[u8] = entry.key.bytes();
                delete.execute(params![entry.key.slot().0, bytes, entry.n.cast_signed()])?;
            }
            Ok((entries.iter().map(|entry| entry.key.slot()).collect(), ()))
        })
        .await
    }

    async fn checksum(
        &mut self,
        stretch: &Stretch,
        now_ms: i64,
        rows_max: usize,
    ) -> Result<Checksum, StorageError> {
        let stretch = stretch.clone();
        self.snapshot(move |snapshot, _| {
            let (mut sum, mut seen) = (Checksum::default(), 0);
            walk(snapshot, &stretch, |row| {
                if row.get::<_, i64>(3)? > now_ms {
                    sum.rows += 1;
                    sum.bytes += row.get::<_, i64>(1)?.cast_unsigned();
                    sum.digest ^= digest(row)?;
                }
                seen += 1;
                if seen == rows_max {
                    sum.more_behind = Some(key(row, 0)?);
                }
                Ok(seen < rows_max)
            })?;
            Ok(sum)
        })
        .await
    }

    async fn digests(
        &mut self,
        stretch: &Stretch,
        now_ms: i64,
    ) -> Result<Vec<(Key, u64)>, StorageError> {
        let stretch = stretch.clone();
        self.snapshot(move |snapshot, _| {
            let mut digests = Vec::new();
            walk(snapshot, &stretch, |row| {
                if row.get::<_, i64>(3)? > now_ms {
                    digests.push((key(row, 0)?, digest(row)?));
                }
                Ok(true)
            })?;
            Ok(digests)
        })
        .await
    }

    async fn digests_of(
        &mut self,
        keys: &[Key],
        now_ms: i64,
    ) -> Result<Vec<(Key, u64)>, StorageError> {
        let keys = keys.to_vec();
        self.snapshot(move |snapshot, _| {
            let mut digests = Vec::new();
            for key in &keys {
                let found = row(snapshot, key, now_ms, digest)?;
                digests.extend(found.map(|digest| (key.clone(), digest)));
            }
            Ok(digests)
        })
        .await
    }

    async fn clear(
        &mut self,
        hold: Hold,
        work: Work,
        slots: &SlotSet,
        portion: Portion,
    ) -> Result<Option<Cleared>, StorageError> {
        let (table, length) = match work {
            Work::ClearLog | Work::Forget => ("moved_keys", "0"),
            Work::Empty | Work::Copy => ("store", "COALESCE(length(value), 0)"),
        };
        let slots = slots.clone();
        self.held(hold, work, move |transaction| {
            let mut rows: Vec<(Key, usize)> = Vec::new();
            let mut statement = transaction.prepare_cached(&format!(
                "SELECT key, {length} FROM {table} WHERE slot BETWEEN ?1 AND ?2 \
                 ORDER BY slot, key LIMIT ?3"
            ))?;
            for range in slots.ranges() {
                let room = bound(portion.rows_max - rows.len());
                let found =
                    statement.query_map(params![range.start(), range.end(), room], |row| {
                        let length = row.get::<_, i64>(1)?;
                        Ok((key(row, 0)?, usize::try_from(length).unwrap_or(usize::MAX)))
                    })?;
                rows.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            let (_, fit) = that_fit(&rows, portion);
            let keys = rows.into_iter().map(|(key, _)| key);
            let keys: Vec<Key> = keys.take(fit.rows as usize).collect();
            delete_keys(transaction, table, &keys)?;
            Ok((slots, fit))
        })
        .await
    }

    async fn position(&mut self) -> Result<Option<Position>, StorageError> {
        Ok(None)
    }

    async fn now_ms(&mut self) -> Result<i64, StorageError> {
        self.snapshot(|_, moment: &Moment| Ok(moment.now_ms)).await
    }

    async fn executed(&mut self) -> Result<Option<u64>, StorageError> {
        Ok(None)
    }

    async fn record(
        &mut self,
        leader: Leader,
        entry: Entry,
        record: &MoveRecord,
    ) -> Result<Recorded, StorageError> {
        let record = record.clone();
        self.transact(move |transaction| match leads(transaction, leader)? {
            true => record::write(transaction, entry, &record),
            false => Ok(Recorded::NotLeading),
        })
        .await
    }

    async fn beat(&mut self, leader: Leader, beat: &MoveBeat) -> Result<Option<()>, StorageError> {
        let beat = beat.clone();
        self.transact(move |transaction| {
            let beats = leads(transaction, leader)? && record::beat(transaction, &beat)?;
            Ok(beats.then_some(()))
        })
        .await
    }

    async fn record_of(&mut self, id: u64) -> Result<Option<MoveRecord>, StorageError> {
        self.snapshot(move |snapshot, _| {
            let mut statement = snapshot.prepare_cached(record::ONE)?;
            statement
                .query_row([id.cast_signed()], record::read)
                .optional()
        })
        .await
    }

    async fn records(&mut self, records_max: usize) -> Result<Vec<MoveRecord>, StorageError> {
        self.read_records(record::NEWEST, records_max).await
    }

    async fn open_records(&mut self, records_max: usize) -> Result<Vec<MoveRecord>, StorageError> {
        self.read_records(record::OPEN, records_max).await
    }
}

impl SqliteConnection {
    async fn read_records(
        &self,
        which: &'static str,
        records_max: usize,
    ) -> Result<Vec<MoveRecord>, StorageError> {
        self.snapshot(move |snapshot, _| {
            let mut statement = snapshot.prepare_cached(which)?;
            let records = statement.query_map([bound(records_max)], record::read)?;
            records.collect()
        })
        .await
    }

    /// Does work to slots that it names, if it may. (What it did is undone where it may not.)
    async fn held<T: Send + 'static>(
        &self,
        hold: Hold,
        work: Work,
        job: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<(SlotSet, T)> + Send + 'static,
    ) -> Result<Option<T>, StorageError> {
        self.transact(move |transaction| {
            transaction.execute_batch("SAVEPOINT work")?;
            let (slots, done) = job(transaction)?;
            if may(transaction, hold, work, &slots)? {
                return Ok(Some(done));
            }
            transaction.execute_batch("ROLLBACK TO work")?;
            Ok(None)
        })
        .await
    }
}

fn delete_keys(
    transaction: &Transaction<'_>,
    table: &str,
    keys: &[Key],
) -> rusqlite::Result<(SlotSet, ())> {
    let mut delete =
        transaction.prepare_cached(&format!("DELETE FROM {table} WHERE slot = ?1 AND key = ?2"))?;
    for key in keys {
        let bytes: &[u8] = key.bytes();
        delete.execute(params![key.slot().0, bytes])?;
    }
    Ok((keys.iter().map(Key::slot).collect(), ()))
}

fn unknown(column: usize, name: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, name.to_owned(), rusqlite::types::Type::Text)
}

fn bound(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
