//! Bringing tables to the version that this program knows.
//!
//! Each migration is one step of the version on every shard; one shard after another, so that a
//! statement that fails has touched one of them. A crash is gone on from by running it again.

use freehold_core::SCHEMA_VERSION;
use freehold_storage::{Server, schema::SchemaState};

use super::{
    ClusterError,
    init::{connect, failed},
    servers::ShardServers,
};

/// One step of the tables' version. Its statements must bear repetition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    /// The version that it leads to, one above the version before.
    pub(crate) to_version: u32,
    /// For MySQL and MariaDB.
    pub(crate) mysql: &'static [&'static str],
    /// For embedded files.
    pub(crate) sqlite: &'static [&'static str],
}

/// All steps from version 1 to [`SCHEMA_VERSION`], in order.
pub(crate) const MIGRATIONS: &[Migration] = &[];

const _: () = assert!(
    MIGRATIONS.len() + 1 == SCHEMA_VERSION as usize,
    "every version above the first has its migration"
);

/// What was done to a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Migrated {
    pub(crate) shard: String,
    pub(crate) address: String,
    pub(crate) from_version: u32,
    pub(crate) to_version: u32,
}

/// Applies to each shard the migrations above its version. Looks at all of them first.
pub(crate) async fn migrate(
    shards: &[ShardServers],
    migrations: &[Migration],
) -> Result<Vec<Migrated>, ClusterError> {
    let newest = migrations
        .last()
        .map_or(SCHEMA_VERSION, |migration| migration.to_version);
    let mut versions = Vec::with_capacity(shards.len());
    for shard in shards {
        versions.push(version(shard, newest).await?);
    }
    let mut done = Vec::with_capacity(shards.len());
    for (shard, from_version) in shards.iter().zip(versions) {
        let due = migrations
            .iter()
            .filter(|migration| migration.to_version > from_version);
        for migration in due {
            let mut connection = connect(shard).await?;
            let statements = match shard.master {
                Server::Mysql(_) => migration.mysql,
                Server::Sqlite(_) => migration.sqlite,
                // It has no connection of this kind.
                Server::Other(_) => &[],
            };
            connection
                .migrate(statements, migration.to_version)
                .await
                .map_err(|error| failed(shard, "migrating its tables", error))?;
        }
        done.push(Migrated {
            shard: shard.name.clone(),
            address: shard.master.address().to_owned(),
            from_version,
            to_version: newest,
        });
    }
    Ok(done)
}

async fn version(shard: &ShardServers, newest: u32) -> Result<u32, ClusterError> {
    let mut connection = connect(shard).await?;
    let state = connection.state().await;
    let words = match state.map_err(|error| failed(shard, "looking at its tables", error))? {
        SchemaState::Absent => "has no tables: run `freehold init` first".to_owned(),
        SchemaState::Started(_) => {
            "was not initialised to the end: run `freehold init` again".to_owned()
        }
        SchemaState::Ready { identity, .. } if identity.name != shard.name => {
            format!(
                "is a database of the shard '{}': set the config right",
                identity.name
            )
        }
        SchemaState::Ready { identity, .. } if identity.schema_version > newest => format!(
            "has tables of version {}, and this program knows versions up to {newest}: use a \
             newer one",
            identity.schema_version
        ),
        SchemaState::Ready { identity, .. } => return Ok(identity.schema_version),
    };
    let address = shard.master.address().to_owned();
    Err(ClusterError::Migrate {
        shard: shard.name.clone(),
        address,
        words,
    })
}

#[cfg(test)]
#[path = "migrate_tests.rs"]
mod tests;
