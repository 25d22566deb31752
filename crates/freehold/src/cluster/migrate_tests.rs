use std::time::Duration;

use freehold_core::slot::even_share;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;
use crate::{
    cluster::{findings::Wanted, init::init, plan::PlanError, servers::servers},
    embedded,
};

const MADE_UP: Migration = Migration {
    to_version: SCHEMA_VERSION + 1,
    mysql: &[],
    sqlite: &["CREATE TABLE IF NOT EXISTS made_up (id INTEGER PRIMARY KEY)"],
};

fn shards(folder: &tempfile::TempDir) -> Vec<ShardServers> {
    let shards = embedded::shards(folder.path());
    servers(
        &shards,
        None,
        Duration::from_secs(5),
        &mut StdRng::seed_from_u64(1),
    )
}

async fn state(shard: &ShardServers) -> SchemaState {
    connect(shard).await.unwrap().state().await.unwrap()
}

#[tokio::test]
async fn a_migration_moves_the_version_of_every_shard_once() {
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(&folder);
    init(&shards, &Wanted::default(), 7).await.unwrap();

    let done = migrate(&shards, &[MADE_UP]).await.unwrap();
    assert_eq!(done.len(), shards.len());
    assert!(
        done.iter()
            .all(|shard| shard.from_version == 1 && shard.to_version == 2)
    );
    for shard in &shards {
        let SchemaState::Ready { identity, .. } = state(shard).await else {
            panic!("not ready")
        };
        assert_eq!(identity.schema_version, SCHEMA_VERSION + 1);
    }
    let SchemaState::Ready { claimed, .. } = state(&shards[0]).await else {
        panic!("not ready")
    };
    assert_eq!(claimed, [even_share(0, shards.len())]);

    let again = migrate(&shards, &[MADE_UP]).await.unwrap();
    assert!(
        again
            .iter()
            .all(|shard| shard.from_version == shard.to_version)
    );
    // A program without the migration must not touch what it does not know.
    let error = migrate(&shards, &[]).await.unwrap_err();
    assert!(
        error.to_string().contains("shard 'a'") && error.to_string().contains("newer"),
        "{error}"
    );
}

#[tokio::test]
async fn a_migration_refuses_what_init_never_finished() {
    let folder = tempfile::tempdir().unwrap();
    let error = migrate(&shards(&folder), &[MADE_UP]).await.unwrap_err();
    assert!(
        error.to_string().contains("run `freehold init` first"),
        "{error}"
    );
}

#[tokio::test]
async fn init_goes_on_from_every_step_and_deals_each_slot_once() {
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(&folder);
    // As after a crash between the tables of the first two shards and those of the others.
    for shard in &shards[..2] {
        let identity = freehold_core::ShardIdentity {
            name: shard.name.clone(),
            cluster_id: 7,
            schema_version: 0,
        };
        connect(shard)
            .await
            .unwrap()
            .create(&identity)
            .await
            .unwrap();
    }
    let done = init(&shards, &Wanted::default(), 8).await.unwrap();
    assert_eq!(done.cluster_id, 7, "the id of the first try stays");
    let mut next = 0_u32;
    for shard in &shards {
        let SchemaState::Ready {
            claimed, identity, ..
        } = state(shard).await
        else {
            panic!("not ready")
        };
        assert_eq!(identity.cluster_id, 7);
        for range in claimed {
            assert_eq!(u32::from(*range.start()), next);
            next = u32::from(*range.end()) + 1;
        }
    }
    assert_eq!(next, 65_536);
    let error = init(&shards, &Wanted::default(), 9).await.unwrap_err();
    assert!(matches!(
        error,
        ClusterError::Plan(PlanError::Finished { cluster_id: 7, .. })
    ));
}
