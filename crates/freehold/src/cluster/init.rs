//! Creating tables everywhere, then dealing out the slots.
//!
//! A crash at any step is gone on from by running it again: tables before slots, every step bears
//! repetition, and the slots of a shard are taken in one transaction.

use freehold_core::ShardIdentity;
use freehold_storage::{SchemaConnection, schema::SchemaState};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    ClusterError, SERVERS_AT_ONCE,
    findings::{Wanted, findings},
    plan::{Master, Plan, PlanError, Step, plan},
    servers::ShardServers,
    survey::{Surveyed, survey},
};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Initialised {
    pub(crate) cluster_id: u64,
    /// One per shard.
    pub(crate) steps: Vec<Step>,
}

/// Initialises all shards. `cluster_id` is random, for a cluster that has none yet.
pub(crate) async fn init(
    shards: &[ShardServers],
    wanted: &Wanted,
    cluster_id: u64,
) -> Result<Initialised, ClusterError> {
    let surveyed = survey(shards, false).await;
    let begun = plan(&reached(&surveyed)?)?;
    // A finished cluster says that it is finished before anything else is said of it.
    let unfit = findings(&surveyed, wanted)
        .into_iter()
        .filter(|f| f.stops_init())
        .collect::<Vec<_>>();
    if !unfit.is_empty() {
        return Err(ClusterError::Unfit(unfit));
    }
    let cluster_id = begun.cluster_id.unwrap_or(cluster_id);
    create(shards, &begun, cluster_id).await?;
    // Looked at again before the first slot is dealt: another init may have come in between, and
    // then the masters do not agree on a cluster.
    let surveyed = survey(shards, false).await;
    let agreed = plan(&reached(&surveyed)?)?;
    if agreed.cluster_id != Some(cluster_id) {
        return Err(other_init(shards, cluster_id, agreed.cluster_id));
    }
    deal(shards, &agreed).await?;
    Ok(Initialised {
        cluster_id,
        steps: begun.steps,
    })
}

fn other_init(shards: &[ShardServers], cluster_id: u64, found: Option<u64>) -> ClusterError {
    let first = shards.first();
    ClusterError::Plan(PlanError::Cluster {
        shard: first.map(|shard| shard.name.clone()).unwrap_or_default(),
        address: first
            .map(|shard| shard.master.address().to_owned())
            .unwrap_or_default(),
        found: found.unwrap_or_default(),
        other: "of this init".to_owned(),
        cluster_id,
    })
}

/// The masters' states, or the first that did not answer.
fn reached(surveyed: &[Surveyed]) -> Result<Vec<Master<'_>>, ClusterError> {
    surveyed
        .iter()
        .map(|server| match &server.seen {
            Ok(seen) => Ok(Master {
                shard: &server.shard,
                address: &server.address,
                state: &seen.state,
            }),
            Err(error) => Err(ClusterError::Server {
                shard: server.shard.clone(),
                address: server.address.clone(),
                doing: "looking at it",
                error: error.clone(),
            }),
        })
        .collect()
}

/// First half: tables, view and fence row everywhere.
async fn create(shards: &[ShardServers], plan: &Plan, cluster_id: u64) -> Result<(), ClusterError> {
    let missing = shards
        .iter()
        .zip(&plan.steps)
        .filter(|(_, step)| !step.created);
    let creations: Vec<_> = missing
        .map(|(shard, _)| async move {
            let identity = ShardIdentity {
                name: shard.name.clone(),
                cluster_id,
                schema_version: 0,
            };
            let mut connection = connect(shard).await?;
            let created = connection.create(&identity).await;
            created.map_err(|error| failed(shard, "creating its tables", error))
        })
        .collect();
    stream::iter(creations)
        .buffer_unordered(SERVERS_AT_ONCE)
        .try_collect()
        .await
}

/// Second half: each shard takes its share.
async fn deal(shards: &[ShardServers], plan: &Plan) -> Result<(), ClusterError> {
    let unfinished = shards
        .iter()
        .zip(&plan.steps)
        .filter(|(_, step)| !step.finished);
    let deals: Vec<_> = unfinished
        .map(|(shard, step)| async move {
            let mut connection = connect(shard).await?;
            let taken = connection.take_slots(step.share.clone()).await;
            taken.map_err(|error| failed(shard, "taking its slots", error))?;
            check(shard, &mut *connection, step).await
        })
        .collect();
    stream::iter(deals)
        .buffer_unordered(SERVERS_AT_ONCE)
        .try_collect()
        .await
}

/// What was written is looked at before anybody is told that it is done.
async fn check(
    shard: &ShardServers,
    connection: &mut dyn SchemaConnection,
    step: &Step,
) -> Result<(), ClusterError> {
    let state = connection.state().await;
    let state = state.map_err(|error| failed(shard, "looking at its slots", error))?;
    match &state {
        SchemaState::Ready { claimed, .. } if *claimed == [step.share.clone()] => Ok(()),
        other => Err(ClusterError::Migrate {
            shard: shard.name.clone(),
            address: shard.master.address().to_owned(),
            words: format!("its slots are not those that it just took: {other:?}"),
        }),
    }
}

pub(super) async fn connect(
    shard: &ShardServers,
) -> Result<Box<dyn SchemaConnection>, ClusterError> {
    let connected = shard.master.connect_schema().await;
    connected.map_err(|error| failed(shard, "connecting to it", error))
}

pub(super) fn failed(
    shard: &ShardServers,
    doing: &'static str,
    error: freehold_storage::StorageError,
) -> ClusterError {
    ClusterError::Server {
        shard: shard.name.clone(),
        address: shard.master.address().to_owned(),
        doing,
        error,
    }
}
