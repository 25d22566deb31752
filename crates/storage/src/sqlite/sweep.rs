//! Sweeping.

use std::time::Duration;

use async_trait::async_trait;
use freehold_core::{Fence, Key};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{SqliteConnection, decode::key, session::NOW};
use crate::{
    error::{Outcome, StorageError},
    sweep::{Due, Holder, Lease, SweepConnection},
};

/// The row of `leases` that sweepers share.
const TASK: &str = "sweep";

/// Deleted rows come first, then the longest expired. The constant is the index's own condition,
/// without which SQLite would not use it.
pub(super) const DUE: &str = "SELECT key FROM store CROSS JOIN slots USING (slot) \
                   WHERE expires_at <= ?1 AND expires_at < 9223372036854775807 \
                         AND slots.state = 'owned' \
                   ORDER BY expires_at LIMIT ?2";

pub(super) const OLDEST: &str = "SELECT ?1 - expires_at FROM store CROSS JOIN slots USING (slot) \
                      WHERE expires_at BETWEEN 0 AND ?1 AND expires_at < 9223372036854775807 \
                            AND slots.state = 'owned' \
                      ORDER BY expires_at LIMIT 1";

pub(super) const DELETE_DUE: &str =
    "DELETE FROM store WHERE slot = ?1 AND key = ?2 AND expires_at <= ?3";

#[async_trait]
impl SweepConnection for SqliteConnection {
    async fn lease(&mut self, holder: &Holder, length: Duration) -> Result<Lease, StorageError> {
        let (id, name) = (holder.id.cast_signed(), holder.name.clone());
        let length_ms = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
        self.transact(move |transaction| {
            let sql = format!(
                "UPDATE leases SET holder = ?2, holder_name = ?3, lease_until = {NOW} + ?4 \
                 WHERE task = ?1 AND (holder = ?2 OR lease_until <= {NOW})"
            );
            let taken = transaction.execute(&sql, params![TASK, id, name, length_ms])?;
            let lease = look(transaction)?;
            Ok(Lease {
                held: taken > 0,
                ..lease
            })
        })
        .await
    }

    async fn look_at_lease(&mut self) -> Result<Lease, StorageError> {
        self.snapshot(move |snapshot, _| look(snapshot)).await
    }

    async fn release_lease(&mut self, holder: &Holder) -> Result<(), StorageError> {
        let id = holder.id.cast_signed();
        self.transact(move |transaction| {
            let sql = "UPDATE leases SET holder = NULL, holder_name = NULL, lease_until = 0 \
                       WHERE task = ?1 AND holder = ?2";
            transaction.execute(sql, params![TASK, id]).map(drop)
        })
        .await
    }

    async fn set_paused(&mut self, paused: bool) -> Result<(), StorageError> {
        self.transact(move |transaction| {
            let sql = "UPDATE leases SET paused = ?2 WHERE task = ?1";
            transaction.execute(sql, params![TASK, paused]).map(drop)
        })
        .await
    }

    async fn due(&mut self, rows_max: usize) -> Result<Due, StorageError> {
        self.snapshot(move |snapshot, moment| {
            // One more than was asked for shows whether there are more.
            let limit = i64::try_from(rows_max)
                .unwrap_or(i64::MAX)
                .saturating_add(1);
            let mut statement = snapshot.prepare_cached(DUE)?;
            let rows = statement.query_map([moment.now_ms, limit], |row| key(row, 0))?;
            let mut keys = rows.collect::<Result<Vec<Key>, _>>()?;
            let more = keys.len() > rows_max;
            keys.truncate(rows_max);
            keys.sort_unstable();
            let mut oldest = snapshot.prepare_cached(OLDEST)?;
            let oldest_ms: Option<i64> = oldest
                .query_row([moment.now_ms], |row| row.get(0))
                .optional()?;
            Ok(Due {
                keys,
                more,
                oldest_ms: oldest_ms.map(i64::cast_unsigned),
                fence: Some(moment.fence),
            })
        })
        .await
    }

    async fn delete_due(&mut self, fence: &Fence, keys: &[Key]) -> Outcome<u64> {
        debug_assert!(keys.is_sorted_by(|a, b| a < b), "each key once, in order");
        let keys = keys.to_vec();
        self.transact_fenced(fence, move |transaction, moment| {
            keys.iter()
                .map(|key| delete_due(transaction, moment.now_ms, key))
                .sum()
        })
        .await
    }

    async fn purge_backlog(&mut self) -> Result<Option<u64>, StorageError> {
        Ok(None)
    }

    async fn replica_lag(&mut self) -> Result<Option<Duration>, StorageError> {
        Ok(None)
    }
}

fn delete_due(transaction: &Transaction<'_>, now_ms: i64, key: &Key) -> rusqlite::Result<u64> {
    let bytes: &[u8] = key.bytes();
    let deleted =
        transaction
            .prepare_cached(DELETE_DUE)?
            .execute(params![key.slot().0, bytes, now_ms])?;
    Ok(deleted as u64)
}

/// The lease as it stands, held by nobody who asks.
fn look(connection: &Connection) -> rusqlite::Result<Lease> {
    let sql = format!(
        "SELECT CASE WHEN lease_until > {NOW} THEN holder_name END, paused \
         FROM leases WHERE task = ?1"
    );
    connection.query_row(&sql, [TASK], |row| {
        Ok(Lease {
            held: false,
            holder: row.get(0)?,
            paused: row.get(1)?,
        })
    })
}
