//! `init` and `migrate`: whatever they were interrupted at, running them again completes them.

use freehold_core::{SCHEMA_VERSION, ShardIdentity};
use freehold_storage::{
    Outcome, Refusal, StorageError,
    schema::{FACT_VARIABLES, SchemaState},
};
use freehold_tests::Engine;

use crate::{
    audit::Audit,
    lane::{key, row},
    store::{Result, Store, identity},
};

on_every_engine!(
    the_state_tells_how_far_init_came,
    creating_again_changes_nothing,
    creating_again_brings_back_whatever_is_missing,
    two_inits_at_once_make_one_shard,
    slots_are_taken_once,
    a_migration_shows_its_version_with_a_new_stamp_and_may_be_repeated,
    a_migration_that_fails_leaves_the_version,
    people_find_live_rows_in_the_view,
    facts_are_those_of_the_server_that_answers,
);

const FENCE_ROW: &str = "SELECT name, cluster_id, schema_version, term, epoch, server_id, stamp \
                         FROM shard";

pub(crate) async fn the_state_tells_how_far_init_came(store: &Store) -> Result<()> {
    let mut schema = store.schema().await?;
    assert_eq!(schema.state().await?, SchemaState::Absent);
    schema.create(&identity()).await?;
    assert_eq!(schema.state().await?, SchemaState::Started(identity()));
    // What a router sees in between: a shard with no slots and a schema of no version.
    let claims = store.data().await?.claims(0).await?;
    assert_eq!((claims.identity, claims.claims.len()), (identity(), 0));
    schema.take_slots(100..=200).await?;
    let ready = SchemaState::Ready {
        identity: ShardIdentity {
            schema_version: SCHEMA_VERSION,
            ..identity()
        },
        slots_claimed: 101,
        claimed: vec![100..=200],
    };
    assert_eq!(schema.state().await?, ready);
    let change = "UPDATE slots SET state = 'gone' WHERE slot BETWEEN 150 AND 160";
    store.audit().await?.run(change).await?;
    let SchemaState::Ready {
        slots_claimed,
        claimed,
        ..
    } = schema.state().await?
    else {
        return Err("not ready any more".into());
    };
    assert_eq!((slots_claimed, claimed), (90, vec![100..=149, 161..=200]));
    Ok(())
}

pub(crate) async fn creating_again_changes_nothing(store: &Store) -> Result<()> {
    let mut schema = store.schema().await?;
    schema.create(&identity()).await?;
    let mut audit = store.audit().await?;
    let before = audit.rows(FENCE_ROW).await?;
    schema.create(&identity()).await?;
    let other = ShardIdentity {
        name: "b".to_owned(),
        cluster_id: 5,
        schema_version: 0,
    };
    schema.create(&other).await?;
    assert_eq!(audit.rows(FENCE_ROW).await?, before);

    schema.take_slots(0..=65_535).await?;
    let mut lane = store.lane().await?;
    lane.put([row(&key("k"), "value")]).await?;
    let before = audit.rows(FENCE_ROW).await?;
    schema.create(&identity()).await?;
    assert_eq!(audit.rows(FENCE_ROW).await?, before);
    assert_eq!(lane.value(&key("k")).await?, Some("value".into()));
    Ok(())
}

/// The names of all tables, the view among them.
async fn tables(audit: &mut Audit) -> Result<Vec<String>> {
    let query = match audit {
        Audit::File(_) => "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')",
        Audit::Server(_) => {
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
        }
    };
    Ok(audit.rows(query).await?.into_iter().flatten().collect())
}

pub(crate) async fn creating_again_brings_back_whatever_is_missing(store: &Store) -> Result<()> {
    let mut schema = store.schema().await?;
    schema.create(&identity()).await?;
    let mut audit = store.audit().await?;
    let mut all = tables(&mut audit).await?;
    all.sort();
    let common = [
        "store",
        "shard",
        "slots",
        "moved_keys",
        "moves",
        "terms",
        "heartbeat",
        "leases",
        "live",
    ];
    for named in common.iter().chain(store.engine().map(|_| &"numbers")) {
        assert!(
            all.iter().any(|table| table == *named),
            "{named} is not among {all:?}"
        );
    }
    // A crash leaves any number of them.
    for kept in 0..all.len() {
        for table in &all[kept..] {
            let kind = if table == "live" { "VIEW" } else { "TABLE" };
            audit.run(&format!("DROP {kind} {table}")).await?;
        }
        assert!(!matches!(schema.state().await?, SchemaState::Ready { .. }));
        schema.create(&identity()).await?;
        let mut again = tables(&mut audit).await?;
        again.sort();
        assert_eq!(again, all);
        assert_eq!(schema.state().await?, SchemaState::Started(identity()));
    }
    schema.take_slots(0..=65_535).await?;
    let mut lane = store.lane().await?;
    lane.put([row(&key("k"), "value")]).await?;
    assert_eq!(audit.rows("SELECT term FROM heartbeat").await?.len(), 1);
    Ok(())
}

pub(crate) async fn two_inits_at_once_make_one_shard(store: &Store) -> Result<()> {
    let mut inits = Vec::new();
    for _ in 0..2 {
        let mut schema = store.schema().await?;
        inits.push(tokio::spawn(async move {
            schema.create(&identity()).await?;
            let taken = schema.take_slots(0..=65_535).await;
            Ok::<bool, StorageError>(taken.is_ok())
        }));
    }
    let mut taken = 0;
    for init in inits {
        taken += usize::from(init.await??);
    }
    assert_eq!(taken, 1, "one of them deals the slots out");
    let mut audit = store.audit().await?;
    assert_eq!(audit.rows(FENCE_ROW).await?.len(), 1);
    assert_eq!(audit.number("SELECT COUNT(*) FROM slots").await?, 65_536);
    Ok(())
}

pub(crate) async fn slots_are_taken_once(store: &Store) -> Result<()> {
    let mut schema = store.schema().await?;
    schema.create(&identity()).await?;
    schema.take_slots(0..=9).await?;
    let mut audit = store.audit().await?;
    let before = audit.rows(FENCE_ROW).await?;
    for slots in [0..=9, 10..=19] {
        let refused = schema.take_slots(slots).await;
        assert!(
            matches!(
                &refused,
                Err(StorageError::Refused {
                    refusal: Refusal::Schema,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    assert_eq!(audit.rows(FENCE_ROW).await?, before);
    assert_eq!(audit.number("SELECT COUNT(*) FROM slots").await?, 10);
    Ok(())
}

async fn a_migration_shows_its_version_with_a_new_stamp_and_may_be_repeated(
    store: &Store,
) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut schema = store.schema().await?;
    let statements = [
        "CREATE TABLE IF NOT EXISTS extra (a INT)",
        "DELETE FROM extra",
    ];
    let mut stamps = vec![lane.fence.stamp];
    for epoch in [2, 3] {
        schema.migrate(&statements, SCHEMA_VERSION + 1).await?;
        let claims = lane.data.claims(0).await?;
        assert_eq!(claims.identity.schema_version, SCHEMA_VERSION + 1);
        assert_eq!((claims.fence.term, claims.fence.epoch), (1, epoch));
        stamps.push(claims.fence.stamp);
        let late = lane.data.put(&lane.fence, &[row(&key("k"), "late")]).await;
        assert_eq!(late, [Outcome::FenceDisagrees]);
    }
    stamps.sort();
    stamps.dedup();
    assert_eq!(stamps.len(), 3, "each change draws a stamp of its own");
    assert!(
        tables(&mut store.audit().await?)
            .await?
            .contains(&"extra".to_owned())
    );
    Ok(())
}

pub(crate) async fn a_migration_that_fails_leaves_the_version(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut schema = store.schema().await?;
    let statements = [
        "CREATE TABLE IF NOT EXISTS extra (a INT)",
        "DELETE FROM nowhere",
    ];
    let failed = schema.migrate(&statements, SCHEMA_VERSION + 1).await;
    assert!(
        matches!(failed, Err(StorageError::Refused { .. })),
        "{failed:?}"
    );
    let claims = lane.data.claims(0).await?;
    assert_eq!(claims.identity.schema_version, SCHEMA_VERSION);
    assert_eq!(claims.fence, lane.fence);
    schema.migrate(&statements[..1], SCHEMA_VERSION + 1).await?;
    assert_eq!(
        lane.data.claims(0).await?.identity.schema_version,
        SCHEMA_VERSION + 1
    );
    Ok(())
}

pub(crate) async fn people_find_live_rows_in_the_view(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let keys = crate::lane::keys_of_one_slot("t", 3);
    lane.put(keys.iter().map(|key| row(key, "value"))).await?;
    lane.delete_one(&keys[1]).await?;
    lane.expire_one(&keys[2], Some(3_600_000)).await?;
    let mut audit = store.audit().await?;
    let slot = keys[0].slot();
    let expected: Vec<Vec<String>> = [&keys[0], &keys[2]]
        .map(|key| {
            let text = String::from_utf8_lossy(key.bytes()).into_owned();
            vec![slot.to_string(), text, "value".to_owned()]
        })
        .to_vec();
    assert_eq!(
        audit
            .rows("SELECT slot, `key`, value FROM live ORDER BY `key`")
            .await?,
        expected
    );
    Ok(())
}

pub(crate) async fn facts_are_those_of_the_server_that_answers(store: &Store) -> Result<()> {
    let mut schema = store.schema().await?;
    let before = schema.facts().await?;
    assert_eq!(before.key_collation, None, "there is no table yet");
    let (engine, id) = match store.engine() {
        None => ("SQLite", "0".to_owned()),
        Some(engine) => {
            let id = store
                .audit()
                .await?
                .rows("SELECT @@server_id")
                .await?
                .concat()
                .concat();
            (
                if engine == Engine::MariaDb {
                    "MariaDB"
                } else {
                    "MySQL"
                },
                id,
            )
        }
    };
    assert_eq!(
        (&*before.engine, before.server_id.to_string()),
        (engine, id)
    );
    assert!(
        before
            .version
            .starts_with(|first: char| first.is_ascii_digit()),
        "{before:?}"
    );
    // The server's clock is this machine's.
    let skew_ms = before.clock_skew_ms.unsigned_abs();
    assert!(skew_ms <= before.clock_error_ms + 5, "{before:?}");
    assert!(
        before
            .variables
            .keys()
            .all(|name| FACT_VARIABLES.contains(&name.as_str()))
    );
    schema.create(&identity()).await?;
    assert_eq!(
        schema.facts().await?.key_collation.as_deref(),
        Some("binary")
    );
    Ok(())
}
