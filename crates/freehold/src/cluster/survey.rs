//! Asking each server what it is, how it is set, and how far its tables are.

use std::time::Duration;

use freehold_storage::{
    Server, StorageError,
    schema::{SchemaState, ServerFacts},
};
use futures::{StreamExt as _, stream};
use serde::Serialize;

use super::{SERVERS_AT_ONCE, servers::ShardServers};
use crate::audit::cluster::leaders;

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
    /// By the config; by what the servers say where [`follow`] was asked.
    pub(crate) role: Role,
    /// Whether the config lets it be promoted.
    pub(crate) may_lead: bool,
    /// Who leads in the place of this server, which the config calls the master.
    pub(crate) succeeded_by: Option<String>,
    pub(crate) address: String,
    /// The schema that holds the tables; `None` for an embedded file.
    pub(crate) database: Option<String>,
    pub(crate) seen: Result<Seen, StorageError>,
    /// What the sweeper's account finds there; `None` if it was not asked.
    pub(crate) watched: Option<Result<Watched, StorageError>>,
    /// The rights of the mover's account there; `None` if it was not asked.
    pub(crate) moved: Option<Result<Vec<String>, StorageError>>,
}

/// What a server said.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) facts: ServerFacts,
    pub(crate) state: SchemaState,
}

/// What the sweeper's account finds on a server.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) grants: Vec<String>,
    /// On a master the undo records that wait to be purged, on a replica its lag in milliseconds;
    /// `None` if the server cannot say.
    pub(crate) seen: Result<Option<u64>, StorageError>,
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
                may_lead: server.may_lead(),
                succeeded_by: None,
                address: server.address().to_owned(),
                database: shard.database.clone(),
                seen: look(server).await,
                watched: None,
                moved: None,
            }
        })
        .collect();
    stream::iter(asked)
        .buffered(SERVERS_AT_ONCE)
        .collect()
        .await
}

/// After a failover the config may be as it was before: gives the servers the roles that they have. Of a
/// shard whose leader is not known nothing changes.
pub(crate) async fn follow(surveyed: &mut [Surveyed], shards: &[ShardServers]) {
    for leader in leaders(shards).await.into_iter().flatten() {
        let (shard, address) = (&leader.claims.identity.name, leader.server.address());
        let of_shard = |found: &Surveyed| found.shard == **shard;
        let leads = |found: &Surveyed| of_shard(found) && found.address == address;
        if surveyed
            .iter()
            .any(|found| leads(found) && found.role == Role::Master)
        {
            continue;
        }
        for found in surveyed.iter_mut().filter(|found| of_shard(found)) {
            if leads(found) {
                found.role = Role::Master;
            } else if found.role == Role::Master {
                found.role = Role::Replica;
                found.succeeded_by = Some(address.to_owned());
            }
        }
    }
}

async fn look(server: &Server) -> Result<Seen, StorageError> {
    let mut connection = server.connect_schema().await?;
    Ok(Seen {
        facts: connection.facts().await?,
        state: connection.state().await?,
    })
}

/// Looks at what [`survey`] found with replicas once more, with the sweeper's account, which
/// `shards` are opened with. Embedded files and servers that did not answer are left out.
pub(crate) async fn watch(surveyed: &mut [Surveyed], shards: &[ShardServers]) {
    let servers = shards
        .iter()
        .flat_map(|shard| std::iter::once(&shard.master).chain(&shard.replicas));
    let asked: Vec<_> = surveyed
        .iter_mut()
        .zip(servers)
        .filter(|(found, _)| found.seen.is_ok() && found.database.is_some())
        .map(|(found, server)| async move {
            found.watched = Some(look_as_sweeper(server, found.role).await);
        })
        .collect();
    stream::iter(asked)
        .for_each_concurrent(SERVERS_AT_ONCE, |asked| asked)
        .await;
}

/// Asks the masters among what [`survey`] found with replicas for the rights of the mover's account,
/// which `shards` are opened with. Embedded files and servers that did not answer are left out.
pub(crate) async fn ask_mover(surveyed: &mut [Surveyed], shards: &[ShardServers]) {
    let servers = shards
        .iter()
        .flat_map(|shard| std::iter::once(&shard.master).chain(&shard.replicas));
    let asked: Vec<_> = surveyed
        .iter_mut()
        .zip(servers)
        .filter(|(found, _)| found.role == Role::Master)
        .filter(|(found, _)| found.seen.is_ok() && found.database.is_some())
        .map(|(found, server)| async move {
            let grants = async {
                let mut connection = server.connect_schema().await?;
                Ok(connection.facts().await?.grants)
            };
            found.moved = Some(grants.await);
        })
        .collect();
    stream::iter(asked)
        .for_each_concurrent(SERVERS_AT_ONCE, |asked| asked)
        .await;
}

async fn look_as_sweeper(server: &Server, role: Role) -> Result<Watched, StorageError> {
    let grants = server.connect_schema().await?.facts().await?.grants;
    let mut connection = server.connect_sweep().await?;
    let seen = match role {
        Role::Master => connection.purge_backlog().await,
        Role::Replica => connection.replica_lag().await.map(|lag| {
            let ms = |lag: Duration| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
            lag.map(ms)
        }),
    };
    Ok(Watched { grants, seen })
}
