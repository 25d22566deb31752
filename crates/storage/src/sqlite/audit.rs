//! What an audit asks of a file. Nothing replicates a file, so there is nothing to compare it with.

use async_trait::async_trait;
use freehold_core::{Position, Slot};
use rusqlite::{OptionalExtension as _, params};

use super::SqliteConnection;
use crate::{
    audit::{AuditConnection, OCCUPIED_ROWS_MAX, Occupied, Page, Place, Stretch},
    error::{Refusal, StorageError},
};

#[async_trait]
impl AuditConnection for SqliteConnection {
    async fn page(&mut self, _: &Stretch, _: usize) -> Result<Page, StorageError> {
        Err(no_checksums())
    }

    async fn rows(&mut self, _: &Stretch, _: usize) -> Result<Vec<(Place, u64)>, StorageError> {
        Err(no_checksums())
    }

    async fn rows_at(&mut self, _: &[Place]) -> Result<Vec<(Place, u64)>, StorageError> {
        Err(no_checksums())
    }

    async fn logged(&mut self) -> Result<Option<Position>, StorageError> {
        Ok(None)
    }

    async fn sizes(&mut self, first: Slot, last: Slot) -> Result<Vec<(Slot, u64)>, StorageError> {
        self.snapshot(move |snapshot, _| {
            let sql = "SELECT slot, SUM(LENGTH(key) + LENGTH(value)) FROM store \
                       WHERE slot BETWEEN ?1 AND ?2 GROUP BY slot";
            let mut statement = snapshot.prepare(sql)?;
            let rows = statement.query_map(params![first.0, last.0], |row| {
                Ok((Slot(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned()))
            })?;
            rows.collect()
        })
        .await
    }

    async fn occupied(
        &mut self,
        first: Slot,
        last: Slot,
    ) -> Result<Option<Occupied>, StorageError> {
        self.snapshot(move |snapshot, _| {
            let sql = "SELECT slot, key FROM store WHERE slot BETWEEN ?1 AND ?2 \
                       ORDER BY slot, key LIMIT 1";
            let row = snapshot.query_row(sql, params![first.0, last.0], |row| {
                Ok((row.get::<_, u16>(0)?, row.get::<_, Vec<u8>>(1)?))
            });
            let Some((slot, key)) = row.optional()? else {
                return Ok(None);
            };
            let sql = "SELECT COUNT(*) FROM (SELECT 1 FROM store WHERE slot = ?1 LIMIT ?2)";
            let limit = OCCUPIED_ROWS_MAX.cast_signed();
            let rows: i64 = snapshot.query_row(sql, params![slot, limit], |row| row.get(0))?;
            Ok(Some(Occupied {
                slot: Slot(slot),
                rows: rows.cast_unsigned(),
                first: key,
            }))
        })
        .await
    }
}

fn no_checksums() -> StorageError {
    StorageError::Refused {
        refusal: Refusal::Other,
        code: 0,
        message: "an embedded shard has no replicas to compare it with".into(),
    }
}
