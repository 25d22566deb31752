//! Creating and migrating a file's tables.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use freehold_core::{SCHEMA_VERSION, ShardIdentity};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{SqliteConnection, decode::identity, error::refused};
use crate::{
    error::{Refusal, StorageError},
    range::slot_ranges,
    schema::{SchemaConnection, SchemaState, ServerFacts},
};

/// Every statement bears repetition.
const TABLES: &str = include_str!("schema.sql");

const FENCE: &str = "INSERT OR IGNORE INTO shard \
                     (id, name, cluster_id, schema_version, term, epoch, server_id, stamp) \
                     VALUES (1, ?1, ?2, 0, 0, 0, ?3, ?4)";

const TAKE_FENCE: &str = "UPDATE shard SET schema_version = ?1, term = 1, epoch = 1, stamp = ?2 \
                          WHERE id = 1 AND schema_version = 0";

const TAKE_SLOT: &str = "INSERT INTO slots (slot, state, slot_epoch, peer, attempt, since_epoch) \
                         VALUES (?1, 'owned', 1, NULL, ?2, 1)";

const CLAIMED: &str = "SELECT slot FROM slots WHERE state IN ('owned', 'outgoing', 'fenced') \
                       ORDER BY slot";

impl SqliteConnection {
    async fn finish_init(
        &mut self,
        slots: Option<RangeInclusive<u16>>,
    ) -> Result<(), StorageError> {
        let (stamp, attempt) = (self.draw().cast_signed(), self.draw().cast_signed());
        let taken = self
            .transact(move |transaction| {
                // The fence first: a second call finds it taken and adds nothing.
                if transaction.execute(TAKE_FENCE, params![SCHEMA_VERSION, stamp])? == 0 {
                    return Ok(false);
                }
                transaction.execute("UPDATE heartbeat SET term = 1 WHERE id = 1", ())?;
                let mut insert = transaction.prepare(TAKE_SLOT)?;
                for slot in slots.into_iter().flatten() {
                    insert.execute(params![slot, attempt])?;
                }
                Ok(true)
            })
            .await?;
        if taken { Ok(()) } else { Err(not_started()) }
    }
}

#[async_trait]
impl SchemaConnection for SqliteConnection {
    async fn facts(&mut self) -> Result<ServerFacts, StorageError> {
        self.worker
            .call(|session| {
                let connection = session.connection();
                let table = has_table(connection, "store").map_err(|error| refused(&error))?;
                Ok(ServerFacts {
                    engine: "SQLite".to_owned(),
                    version: rusqlite::version().to_owned(),
                    // A BLOB column knows no other.
                    key_collation: table.then(|| "binary".to_owned()),
                    // Its clock is this machine's own. It knows no accounts, no server_id, and none of the
                    // settings that decide what a server of its own may lose.
                    ..ServerFacts::default()
                })
            })
            .await?
    }

    async fn state(&mut self) -> Result<SchemaState, StorageError> {
        self.worker
            .call(|session| state(session.connection()).map_err(|error| refused(&error)))
            .await?
    }

    async fn create(&mut self, identity: &ShardIdentity) -> Result<(), StorageError> {
        let (name, cluster_id) = (identity.name.clone(), identity.cluster_id.cast_signed());
        // SQLite has no id of its own for a server; one that is drawn here stays with the file.
        let (server_id, stamp) = (self.draw().cast_signed(), self.draw().cast_signed());
        self.in_turn(move |session| {
            use_write_ahead_log(session.connection())?;
            session.write(|transaction| {
                transaction.execute_batch(TABLES)?;
                transaction
                    .execute(FENCE, params![name, cluster_id, server_id, stamp])
                    .map(drop)
            })
        })
        .await?
    }

    async fn take_slots(&mut self, slots: RangeInclusive<u16>) -> Result<(), StorageError> {
        self.finish_init(Some(slots)).await
    }

    async fn take_no_slots(&mut self) -> Result<(), StorageError> {
        self.finish_init(None).await
    }

    async fn is_empty(&mut self) -> Result<bool, StorageError> {
        let look = |connection: &Connection| {
            for table in ["store", "slots"] {
                let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
                if has_table(connection, table)?
                    && connection.query_row(&sql, (), |row| row.get::<_, bool>(0))?
                {
                    return Ok(false);
                }
            }
            Ok::<_, rusqlite::Error>(true)
        };
        self.worker
            .call(move |session| look(session.connection()).map_err(|error| refused(&error)))
            .await?
    }

    async fn migrate(&mut self, statements: &[&str], to_version: u32) -> Result<(), StorageError> {
        let statements: Vec<String> = statements.iter().map(|&sql| sql.to_owned()).collect();
        let stamp = self.draw().cast_signed();
        self.transact(move |transaction| {
            for sql in &statements {
                transaction.execute_batch(sql)?;
            }
            let sql = "UPDATE shard SET schema_version = ?1, epoch = epoch + 1, stamp = ?2 \
                       WHERE id = 1";
            match transaction.execute(sql, params![to_version, stamp])? {
                0 => Err(rusqlite::Error::QueryReturnedNoRows),
                _ => Ok(()),
            }
        })
        .await
    }
}

fn not_started() -> StorageError {
    StorageError::Refused {
        refusal: Refusal::Schema,
        code: 0,
        message: "its slots were dealt out before, or its tables were never created".into(),
    }
}

/// Readers and the writer do not wait for each other then, and a commit is one sync. The file
/// remembers it.
fn use_write_ahead_log(connection: &Connection) -> Result<(), StorageError> {
    let mode = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
        .map_err(|error| refused(&error))?;
    if mode == "wal" {
        return Ok(());
    }
    Err(StorageError::Refused {
        refusal: Refusal::Other,
        code: 0,
        message: format!(
            "journal_mode stays '{mode}' instead of 'wal': put the file on a local file system"
        )
        .into(),
    })
}

fn state(connection: &Connection) -> rusqlite::Result<SchemaState> {
    if !has_table(connection, "shard")? {
        return Ok(SchemaState::Absent);
    }
    let Some(identity) = identity(connection).optional()? else {
        return Ok(SchemaState::Absent);
    };
    if identity.schema_version == 0 {
        return Ok(SchemaState::Started(identity));
    }
    let mut statement = connection.prepare(CLAIMED)?;
    let slots = statement
        .query_map((), |row| row.get(0))?
        .collect::<Result<Vec<u16>, _>>()?;
    let slots_claimed = slots.len();
    Ok(SchemaState::Ready {
        identity,
        slots_claimed,
        claimed: slot_ranges(slots),
    })
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
    connection.query_row(sql, [name], |row| row.get(0))
}
