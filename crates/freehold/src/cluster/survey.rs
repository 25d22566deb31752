//! Asking each server what it is, how it is set, and how far its tables are.

use freehold_storage::{
    Server, StorageError,
    schema::{SchemaState, ServerFacts},
};
use futures::{StreamExt as _, stream};
use serde::Serialize;

use super::{SERVERS_AT_ONCE, servers::ShardServers};

/// What a server is to its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Master,
    Replica,
}

impl Role {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Replica => "replica",
        }
    }
}

/// One server and what it said.
#[derive(Debug, Clone)]
pub(crate) struct Surveyed {
    pub(crate) shard: String,
    pub(crate) role: Role,
    pub(crate) address: String,
    /// The schema that holds the tables; `None` for an embedded file.
    pub(crate) database: Option<String>,
    pub(crate) seen: Result<Seen, StorageError>,
}

/// What a server said.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) facts: ServerFacts,
    pub(crate) state: SchemaState,
}

/// Asks all masters, in the order of the config, each followed by its replicas if they are wanted.
pub(crate) async fn survey(shards: &[ShardServers], replicas: bool) -> Vec<Surveyed> {
    let servers = shards.iter().flat_map(|shard| {
        let rest = if replicas {
            shard.replicas.as_slice()
        } else {
            &[]
        };
        std::iter::once((shard, &shard.master, Role::Master)).chain(
            rest.iter()
                .map(move |replica| (shard, replica, Role::Replica)),
        )
    });
    // Collected first: a stream over the borrowing iterator would tie the futures to it.
    let asked: Vec<_> = servers
        .map(|(shard, server, role)| async move {
            Surveyed {
                shard: shard.name.clone(),
                role,
                address: server.address().to_owned(),
                database: shard.database.clone(),
                seen: look(server).await,
            }
        })
        .collect();
    stream::iter(asked)
        .buffered(SERVERS_AT_ONCE)
        .collect()
        .await
}

async fn look(server: &Server) -> Result<Seen, StorageError> {
    let mut connection = server.connect_schema().await?;
    Ok(Seen {
        facts: connection.facts().await?,
        state: connection.state().await?,
    })
}
