//! Requests.

use async_trait::async_trait;
use freehold_core::{Fence, Key, Position, ShardClaims};
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{
    SqliteConnection,
    decode::{claim, identity, raw_row, value_bytes_max},
    scan::scan,
    session::Moment,
};
use crate::{
    data::DataConnection,
    error::{Outcome, StorageError},
    row::{Columns, ExpireRow, Inspected, PutRow, Read, ScanPage, ScanRange, Write},
};

// In place: REPLACE would delete the row and write it and its keys anew, in four times the time.
pub(super) const PUT: &str = "INSERT INTO store (slot, key, version, expires_at, value) \
                   VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (slot, key) DO UPDATE SET \
                   version = excluded.version, expires_at = excluded.expires_at, \
                   value = excluded.value";

// The value goes at once: kept until the sweeper comes, it would be written to the log once more.
pub(super) const DELETE: &str = "UPDATE store SET expires_at = -1, value = x'' \
                      WHERE slot = ?1 AND key = ?2 AND expires_at > ?3";

pub(super) const EXPIRE: &str = "UPDATE store SET expires_at = ?4 \
                      WHERE slot = ?1 AND key = ?2 AND expires_at > ?3";

// The length of a value is known without reading it.
pub(super) const READ: &str = "SELECT version, expires_at, length(value), \
                           CASE WHEN length(value) <= ?4 THEN value END \
                    FROM store WHERE slot = ?1 AND key = ?2 AND expires_at > ?3";

pub(super) const INSPECT: &str = "SELECT version, expires_at, length(value) \
                       FROM store WHERE slot = ?1 AND key = ?2";

pub(super) const LOG: &str = "INSERT INTO moved_keys (slot, key, n) VALUES (?1, ?2, 1) \
                              ON CONFLICT (slot, key) DO UPDATE SET n = n + 1";

const CLAIMS: &str = "SELECT slot, state, slot_epoch, peer, since_epoch FROM slots \
                      WHERE since_epoch > ?1 ORDER BY slot";

#[async_trait]
impl DataConnection for SqliteConnection {
    async fn put(&mut self, fence: &Fence, rows: &[PutRow]) -> Vec<Outcome<()>> {
        debug_assert!(
            rows.is_sorted_by(|a, b| a.key < b.key),
            "each key once, in order"
        );
        self.write_rows(fence, rows, put).await
    }

    async fn delete(&mut self, fence: &Fence, keys: &[Key]) -> Vec<Outcome<bool>> {
        debug_assert!(keys.is_sorted_by(|a, b| a < b), "each key once, in order");
        self.write_rows(fence, keys, delete).await
    }

    async fn expire(&mut self, fence: &Fence, rows: &[ExpireRow]) -> Vec<Outcome<bool>> {
        debug_assert!(
            rows.is_sorted_by(|a, b| a.key < b.key),
            "each key once, in order"
        );
        self.write_rows(fence, rows, expire).await
    }

    async fn write_logged(&mut self, fence: &Fence, rows: Write<'_>) -> Vec<Outcome<bool>> {
        match rows {
            Write::Put(rows) => {
                self.write_rows(fence, rows, |transaction, moment, row: &PutRow| {
                    log(transaction, &row.key)?;
                    put(transaction, moment, row).map(|()| true)
                })
                .await
            }
            Write::Delete(keys) => {
                self.write_rows(fence, keys, |transaction, moment, key: &Key| {
                    log(transaction, key)?;
                    delete(transaction, moment, key)
                })
                .await
            }
            Write::Expire(rows) => {
                self.write_rows(fence, rows, |transaction, moment, row: &ExpireRow| {
                    log(transaction, &row.key)?;
                    expire(transaction, moment, row)
                })
                .await
            }
        }
    }

    async fn read(&mut self, keys: &[Key], columns: Columns) -> Result<Read, StorageError> {
        debug_assert!(keys.is_sorted_by(|a, b| a < b), "each key once, in order");
        let keys = keys.to_vec();
        self.snapshot(move |snapshot, moment| {
            let mut statement = snapshot.prepare_cached(READ)?;
            let bytes_max = value_bytes_max(columns);
            let rows = keys.iter().map(|key| {
                let bytes: &[u8] = key.bytes();
                let place = params![key.slot().0, bytes, moment.now_ms, bytes_max];
                statement
                    .query_row(place, |row| moment.live_row(row, 0, columns))
                    .optional()
            });
            Ok(Read {
                rows: rows.collect::<Result<_, _>>()?,
                answered_by: moment.answered_by(),
                fence: moment.fence,
                beat: None,
            })
        })
        .await
    }

    async fn written_position(&mut self) -> Result<Option<Position>, StorageError> {
        Ok(None)
    }

    async fn scan(&mut self, range: &ScanRange) -> Result<ScanPage, StorageError> {
        let range = range.clone();
        self.snapshot(move |snapshot, moment| scan(snapshot, moment, &range))
            .await
    }

    async fn inspect(&mut self, key: &Key) -> Result<Inspected, StorageError> {
        let key = key.clone();
        self.snapshot(move |snapshot, moment| {
            let bytes: &[u8] = key.bytes();
            let row = snapshot
                .prepare_cached(INSPECT)?
                .query_row(params![key.slot().0, bytes], |row| raw_row(moment, row))
                .optional()?;
            Ok(Inspected {
                fence: moment.fence,
                answered_by: moment.answered_by(),
                row,
            })
        })
        .await
    }

    async fn claims(&mut self, above_epoch: u64) -> Result<ShardClaims, StorageError> {
        self.snapshot(move |snapshot, moment| {
            let mut statement = snapshot.prepare_cached(CLAIMS)?;
            let claims = statement.query_map([above_epoch.cast_signed()], claim)?;
            Ok(ShardClaims {
                identity: identity(snapshot)?,
                answered_by: moment.answered_by(),
                fence: moment.fence,
                claims: claims.collect::<Result<_, _>>()?,
            })
        })
        .await
    }

    async fn ping(&mut self) -> Result<(), StorageError> {
        self.worker
            .call(|session| {
                let pong = session.connection().query_row("SELECT 1", (), |_| Ok(()));
                pong.map_err(|error| StorageError::Unreachable {
                    reason: error.to_string().into(),
                })
            })
            .await?
    }
}

fn put(transaction: &Transaction<'_>, moment: &Moment, row: &PutRow) -> rusqlite::Result<()> {
    let key: &[u8] = row.key.bytes();
    transaction
        .prepare_cached(PUT)?
        .execute(params![
            row.key.slot().0,
            key,
            row.version.cast_signed(),
            moment.expiry(row.ttl_ms),
            &*row.value,
        ])
        .map(drop)
}

fn delete(transaction: &Transaction<'_>, moment: &Moment, key: &Key) -> rusqlite::Result<bool> {
    let bytes: &[u8] = key.bytes();
    let place = params![key.slot().0, bytes, moment.now_ms];
    let changed = transaction.prepare_cached(DELETE)?.execute(place)?;
    Ok(changed > 0)
}

fn expire(
    transaction: &Transaction<'_>,
    moment: &Moment,
    row: &ExpireRow,
) -> rusqlite::Result<bool> {
    let key: &[u8] = row.key.bytes();
    let expires_at = moment.expiry(row.ttl_ms);
    let changed = transaction.prepare_cached(EXPIRE)?.execute(params![
        row.key.slot().0,
        key,
        moment.now_ms,
        expires_at
    ])?;
    Ok(changed > 0)
}

/// Counts a key that is written while its slot is on its way.
fn log(transaction: &Transaction<'_>, key: &Key) -> rusqlite::Result<()> {
    let bytes: &[u8] = key.bytes();
    let place = params![key.slot().0, bytes];
    transaction.prepare_cached(LOG)?.execute(place).map(drop)
}

impl SqliteConnection {
    /// Writes rows in one transaction: all of them have the same fate.
    async fn write_rows<R, T>(
        &self,
        fence: &Fence,
        rows: &[R],
        work: impl Fn(&Transaction<'_>, &Moment, &R) -> rusqlite::Result<T> + Send + 'static,
    ) -> Vec<Outcome<T>>
    where
        R: Clone + Send + 'static,
        T: Clone + Send + 'static,
    {
        let (count, rows) = (rows.len(), rows.to_vec());
        let written = self.transact_fenced(fence, move |transaction, moment| {
            rows.iter()
                .map(|row| work(transaction, moment, row))
                .collect::<Result<Vec<T>, _>>()
        });
        match written.await {
            Outcome::Applied(done) => done.into_iter().map(Outcome::Applied).collect(),
            Outcome::FenceDisagrees => vec![Outcome::FenceDisagrees; count],
            Outcome::Failed(error) => vec![Outcome::Failed(error); count],
        }
    }
}
