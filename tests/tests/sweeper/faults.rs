//! Servers that stand still, die or fall behind while they are swept.

use freehold_sweeper::SweeperSettings;
use freehold_tests::{Engine, replication};
use tokio::time::Instant;

use crate::shard::{Result, Shard, watchful};

async fn a_replica_that_stands_still_stops_it(engine: Engine) -> Result {
    let shard = Shard::with_replica(engine).await?;
    // What it saw of the replica is older than a look may be, before the next rows have expired.
    let sweeper = shard.sweeper(1, watchful());
    shard.put_expired("before", 500).await?;
    sweeper
        .until("all are gone", |state| state.rows_deleted == 500)
        .await;

    replication::stop_applier(&shard.replicas[0]).await?;
    shard.put_expired("while", 500).await?;
    sweeper
        .until("it waits for the replica", |_| {
            sweeper.waits_for() == Some("replica_silent")
        })
        .await;
    let why = sweeper
        .state()
        .waiting_for
        .map(|why| why.to_string())
        .unwrap_or_default();
    let address = format!("127.0.0.1:{}", shard.replicas[0].port());
    assert!(why.contains(&address), "{why}");
    shard.one_more_decision().await?;
    assert_eq!(sweeper.state().rows_deleted, 500);
    assert_eq!(shard.row_count().await?, 500);

    replication::start_applier(&shard.replicas[0]).await?;
    sweeper
        .until("all are gone", |state| state.rows_deleted == 1_000)
        .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stands_still_stops_it_on_mariadb() -> Result {
    a_replica_that_stands_still_stops_it(Engine::MariaDb).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stands_still_stops_it_on_mysql() -> Result {
    a_replica_that_stands_still_stops_it(Engine::MySql).await
}

/// A killed server refuses connections, a frozen one keeps them and is silent.
async fn a_master_that_was_away_is_swept_again(engine: Engine) -> Result {
    let mut shard = Shard::new(engine).await?;
    let sweeper = shard.sweeper(1, SweeperSettings::default());
    shard.put_expired("first", 500).await?;
    sweeper
        .until("all are gone", |state| state.rows_deleted == 500)
        .await;

    shard.master.kill();
    sweeper
        .until("it notices", |_| sweeper.waits_for() == Some("master"))
        .await;
    shard.master.start_again().await?;
    shard.put_expired("second", 500).await?;
    sweeper
        .until("all are gone", |state| state.rows_deleted == 1_000)
        .await;

    shard.master.freeze()?;
    let frozen = Instant::now();
    sweeper
        .until("its lease has ended", |state| !state.held_here)
        .await;
    assert_eq!(sweeper.waits_for(), Some("master"));
    let lease = SweeperSettings::default().lease_length;
    // Polling and a busy machine add to it.
    let late = std::time::Duration::from_secs(1);
    assert!(
        frozen.elapsed() <= lease + late,
        "after {:?}",
        frozen.elapsed()
    );
    shard.master.thaw()?;
    shard.put_expired("third", 500).await?;
    sweeper
        .until("all are gone", |state| state.rows_deleted == 1_500)
        .await;
    assert_eq!(shard.row_count().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_was_away_is_swept_again_on_mariadb() -> Result {
    a_master_that_was_away_is_swept_again(Engine::MariaDb).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_was_away_is_swept_again_on_mysql() -> Result {
    a_master_that_was_away_is_swept_again(Engine::MySql).await
}

/// A long snapshot, such as a backup's, holds the purge up.
async fn a_purge_that_is_held_up_stops_it(engine: Engine) -> Result {
    let shard = Shard::new(engine).await?;
    let mut backup = shard.master.connect().await?;
    backup
        .run("START TRANSACTION WITH CONSISTENT SNAPSHOT; SELECT COUNT(*) FROM store")
        .await?;
    let mut writer = shard.master.connect().await?;
    for _ in 0..1_500 {
        writer.run("UPDATE heartbeat SET seq = seq + 1").await?;
    }
    shard.put_expired("key", 500).await?;
    let settings = SweeperSettings {
        purge_backlog_max: Some(1_000),
        ..watchful()
    };
    let sweeper = shard.sweeper(1, settings);
    sweeper
        .until("it waits for the purge", |_| {
            sweeper.waits_for() == Some("purge")
        })
        .await;
    shard.one_more_decision().await?;
    assert_eq!(sweeper.state().rows_deleted, 0);

    backup.run("COMMIT").await?;
    sweeper
        .until("all are gone", |state| state.rows_deleted == 500)
        .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_held_up_stops_it_on_mariadb() -> Result {
    a_purge_that_is_held_up_stops_it(Engine::MariaDb).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_held_up_stops_it_on_mysql() -> Result {
    a_purge_that_is_held_up_stops_it(Engine::MySql).await
}
