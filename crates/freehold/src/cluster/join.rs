//! Making a new shard empty and ready.
//!
//! A crash at any step is gone on from by running it again: tables first, each step bears
//! repetition, and until the last one the shard serves nobody.

use freehold_core::ShardIdentity;
use freehold_storage::{SchemaConnection, schema::SchemaState};

use super::{
    ClusterError,
    findings::{Wanted, findings},
    init::{connect, failed},
    plan::{Join, Master, PlanError, join},
    servers::ShardServers,
    survey::survey,
};

/// Adds a shard of the config to the cluster of the others. Of those some may be down.
pub(crate) async fn add_shard(
    shards: &[ShardServers],
    name: &str,
    wanted: &Wanted,
) -> Result<Join, ClusterError> {
    let Some(index) = shards.iter().position(|shard| shard.name == name) else {
        let known: Vec<&str> = shards.iter().map(|shard| shard.name.as_str()).collect();
        return Err(ClusterError::Plan(PlanError::NoSuchShard {
            shard: name.to_owned(),
            known: known.join(", "),
        }));
    };
    let shard = &shards[index];
    let surveyed = survey(shards, false).await;
    let masters: Vec<Option<Master<'_>>> = surveyed
        .iter()
        .map(|server| {
            Some(Master {
                shard: &server.shard,
                address: &server.address,
                state: &server.seen.as_ref().ok()?.state,
            })
        })
        .collect();
    let mut connection = connect(shard).await?;
    let is_empty = connection.is_empty().await;
    let is_empty = is_empty.map_err(|error| failed(shard, "looking at it", error))?;
    let Some(master) = &masters[index] else {
        let error = surveyed[index].seen.as_ref().err().cloned();
        let error = error.expect("what was not seen has an error");
        return Err(failed(shard, "looking at it", error));
    };
    let others = masters.iter().enumerate().filter(|(at, _)| *at != index);
    let others: Vec<_> = others.filter_map(|(_, other)| other.clone()).collect();
    let planned = join(master, is_empty, &others)?;
    let unfit: Vec<_> = findings(&surveyed, wanted)
        .into_iter()
        .filter(|found| found.stops_init() && found.shard == name)
        .collect();
    if !unfit.is_empty() {
        return Err(ClusterError::Unfit(unfit));
    }
    // Also where an earlier call began: it changes nothing that is there.
    let identity = ShardIdentity {
        name: name.to_owned(),
        cluster_id: planned.cluster_id,
        schema_version: 0,
    };
    let created = connection.create(&identity).await;
    created.map_err(|error| failed(shard, "creating its tables", error))?;
    check_is_own(shard, &mut *connection, planned.cluster_id).await?;
    let taken = connection.take_no_slots().await;
    taken.map_err(|error| failed(shard, "making it ready", error))?;
    Ok(planned)
}

/// Another `init` may have come in between: then the tables are of its cluster.
async fn check_is_own(
    shard: &ShardServers,
    connection: &mut dyn SchemaConnection,
    cluster_id: u64,
) -> Result<(), ClusterError> {
    let state = connection.state().await;
    let state = state.map_err(|error| failed(shard, "looking at its tables", error))?;
    match &state {
        SchemaState::Started(identity)
            if identity.cluster_id == cluster_id && identity.name == shard.name =>
        {
            Ok(())
        }
        other => Err(ClusterError::Migrate {
            shard: shard.name.clone(),
            address: shard.master.address().to_owned(),
            words: format!("its tables are not those that were just created: {other:?}"),
        }),
    }
}
