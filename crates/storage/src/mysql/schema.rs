//! Creating and migrating a server's tables.

use std::{fmt::Write as _, ops::RangeInclusive};

use async_trait::async_trait;
use freehold_core::{SCHEMA_VERSION, ShardIdentity};
use rand::Rng as _;
use tokio::time::timeout;

use super::{
    MysqlConnection,
    claims::{IDENTITY, identity},
    decode::column,
    facts,
    session::{Session, query},
    statements::hex,
};
use crate::{
    error::{Refusal, StorageError},
    range::slot_ranges,
    schema::{SCHEMA_STATEMENT_TIMEOUT, SchemaConnection, SchemaState, ServerFacts},
};

/// Statements that bear repetition, with `;` at the end of a line between them.
const TABLES: &str = include_str!("schema.sql");

/// Slot rows in one INSERT: some 100 kB of text.
const SLOTS_AT_ONCE: usize = 4_096;

/// Error number of a table that is not there.
const NO_SUCH_TABLE: u16 = 1146;

#[async_trait]
impl SchemaConnection for MysqlConnection {
    async fn facts(&mut self) -> Result<ServerFacts, StorageError> {
        let mut session = self.take()?;
        let facts = in_time(facts::facts(&mut session)).await;
        self.put_back(session, facts.as_ref().err());
        facts
    }

    async fn state(&mut self) -> Result<SchemaState, StorageError> {
        let mut session = self.take()?;
        let state = in_time(state(&mut session)).await;
        self.put_back(session, state.as_ref().err());
        state
    }

    async fn create(&mut self, identity: &ShardIdentity) -> Result<(), StorageError> {
        let mut session = self.take()?;
        let created = in_time(create(&mut session, identity)).await;
        self.put_back(session, created.as_ref().err());
        created
    }

    async fn take_slots(&mut self, slots: RangeInclusive<u16>) -> Result<(), StorageError> {
        self.finish_init(Some(slots)).await
    }

    async fn take_no_slots(&mut self) -> Result<(), StorageError> {
        self.finish_init(None).await
    }

    async fn is_empty(&mut self) -> Result<bool, StorageError> {
        let mut session = self.take()?;
        let empty = in_time(is_empty(&mut session)).await;
        self.put_back(session, empty.as_ref().err());
        empty
    }

    async fn migrate(&mut self, statements: &[&str], to_version: u32) -> Result<(), StorageError> {
        let mut session = self.take()?;
        let migrated = in_time(migrate(&mut session, statements, to_version)).await;
        self.put_back(session, migrated.as_ref().err());
        migrated
    }
}

impl MysqlConnection {
    async fn finish_init(
        &mut self,
        slots: Option<RangeInclusive<u16>>,
    ) -> Result<(), StorageError> {
        let mut session = self.take()?;
        let taken = in_time(take_slots(&mut session, slots)).await;
        self.put_back(session, taken.as_ref().err());
        taken
    }
}

/// Gives an answer up that does not come. What was sent may still be done.
async fn in_time<T>(
    work: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    match timeout(SCHEMA_STATEMENT_TIMEOUT, work).await {
        Ok(answer) => answer,
        Err(_) => Err(StorageError::Lost {
            reason: format!("no answer within {SCHEMA_STATEMENT_TIMEOUT:?}").into(),
        }),
    }
}

async fn state(session: &mut Session) -> Result<SchemaState, StorageError> {
    let shard = format!("SELECT {IDENTITY} FROM shard f WHERE f.id = 1");
    let answer = match query(&mut session.conn, shard).await {
        Ok(answer) => answer,
        Err(failure) if failure.refused_at(0) == Some(NO_SUCH_TABLE) => {
            return Ok(SchemaState::Absent);
        }
        Err(failure) => return Err(failure.of_read()),
    };
    let Some(mut row) = answer.rows.into_iter().next() else {
        return Ok(SchemaState::Absent);
    };
    let identity = identity(&mut row, 0)?;
    if identity.schema_version == 0 {
        return Ok(SchemaState::Started(identity));
    }
    let claimed = "SELECT slot FROM slots WHERE state IN ('owned', 'outgoing', 'fenced') \
                   ORDER BY slot";
    let answer = query(&mut session.conn, claimed.to_owned())
        .await
        .map_err(|failure| failure.of_read())?;
    let slots = answer
        .rows
        .into_iter()
        .map(|mut row| column(&mut row, 0, "a slot"));
    let slots: Vec<u16> = slots.collect::<Result<_, _>>()?;
    Ok(SchemaState::Ready {
        identity,
        slots_claimed: slots.len(),
        claimed: slot_ranges(slots),
    })
}

async fn create(session: &mut Session, identity: &ShardIdentity) -> Result<(), StorageError> {
    let fence = format!(
        "INSERT IGNORE INTO shard \
         (id, name, cluster_id, schema_version, term, epoch, server_id, stamp) VALUES \
         (1, CONVERT({} USING utf8mb4), {}, 0, 0, 0, @@server_id, {})",
        hex(identity.name.as_bytes()),
        identity.cluster_id,
        session.random.next_u64()
    );
    for statement in TABLES.split(";\n").chain([fence.as_str()]) {
        run_patiently(session, statement).await?;
    }
    Ok(())
}

async fn is_empty(session: &mut Session) -> Result<bool, StorageError> {
    for table in ["store", "slots"] {
        let text = format!("SELECT 1 FROM {table} LIMIT 1");
        match query(&mut session.conn, text).await {
            Ok(answer) if answer.rows.is_empty() => {}
            Ok(_) => return Ok(false),
            Err(failure) if failure.refused_at(0) == Some(NO_SUCH_TABLE) => {}
            Err(failure) => return Err(failure.of_read()),
        }
    }
    Ok(true)
}

async fn take_slots(
    session: &mut Session,
    slots: Option<RangeInclusive<u16>>,
) -> Result<(), StorageError> {
    let taken = take_in_transaction(session, slots).await;
    match &taken {
        Ok(true) => return run(session, "COMMIT").await.map(drop),
        // The transaction ends with its connection.
        Err(error) if error.breaks_connection() => {}
        _ => drop(run(session, "ROLLBACK").await?),
    }
    match taken? {
        true => Ok(()),
        false => Err(StorageError::Refused {
            refusal: Refusal::Schema,
            code: 0,
            message: "its slots were dealt out before, or its tables were never created".into(),
        }),
    }
}

/// Everything up to COMMIT or ROLLBACK; false if there is nothing to take.
async fn take_in_transaction(
    session: &mut Session,
    slots: Option<RangeInclusive<u16>>,
) -> Result<bool, StorageError> {
    let (stamp, attempt) = (session.random.next_u64(), session.random.next_u64());
    let fence = format!(
        "UPDATE shard SET schema_version = {SCHEMA_VERSION}, term = 1, epoch = 1, \
         server_id = @@server_id, stamp = {stamp} WHERE id = 1 AND schema_version = 0"
    );
    run(session, "BEGIN").await?;
    // The fence first: a second call finds it taken and adds nothing.
    if run(session, &fence).await? == 0 {
        return Ok(false);
    }
    let slots: Vec<u16> = slots.into_iter().flatten().collect();
    for slots in slots.chunks(SLOTS_AT_ONCE) {
        run(session, &insert_slots(slots, attempt)).await?;
    }
    run(session, "UPDATE heartbeat SET term = 1 WHERE id = 1").await?;
    Ok(true)
}

fn insert_slots(slots: &[u16], attempt: u64) -> String {
    let mut text =
        "INSERT INTO slots (slot, state, slot_epoch, peer, attempt, since_epoch) VALUES "
            .to_owned();
    for (index, slot) in slots.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}({slot}, 'owned', 1, NULL, {attempt}, 1)");
    }
    text
}

async fn migrate(
    session: &mut Session,
    statements: &[&str],
    to_version: u32,
) -> Result<(), StorageError> {
    for statement in statements {
        run_patiently(session, statement).await?;
    }
    let fence = format!(
        "UPDATE shard SET schema_version = {to_version}, epoch = epoch + 1, stamp = {} \
         WHERE id = 1 AND server_id = @@server_id",
        session.random.next_u64()
    );
    match run(session, &fence).await? {
        0 => Err(StorageError::Refused {
            refusal: Refusal::Schema,
            code: 0,
            message: "the fence row is missing or names another server as the master".into(),
        }),
        _ => Ok(()),
    }
}

/// Runs one statement that changes something; says how many rows.
async fn run(session: &mut Session, statement: &str) -> Result<u64, StorageError> {
    let answer = query(&mut session.conn, statement.to_owned()).await;
    Ok(answer.map_err(|failure| failure.of_write_at(0))?.affected)
}

/// How often a statement that met a lock is sent again; each attempt waits 2 s for it.
const LOCKED_REPEATS_MAX: u32 = 8;

/// Runs one statement that bears repetition: another `init` may hold its locks for a while.
async fn run_patiently(session: &mut Session, statement: &str) -> Result<u64, StorageError> {
    for _ in 0..LOCKED_REPEATS_MAX {
        match run(session, statement).await {
            Err(StorageError::Refused {
                refusal: Refusal::Busy,
                ..
            }) => {}
            done => return done,
        }
    }
    run(session, statement).await
}
