//! One sweeper per shard among several routers, and an operator's pause for all of them.

use std::time::Duration;

use freehold_sweeper::SweeperSettings;
use freehold_tests::Engine;
use tokio::time::Instant;

use crate::shard::{Result, Shard, watchful};

async fn one_deletes_and_the_next_follows(engine: Engine) -> Result {
    let shard = Shard::new(engine).await?;
    let settings = SweeperSettings::default;
    let first = shard.sweeper(1, settings());
    first
        .until("the first has the lease", |state| state.held_here)
        .await;
    let second = shard.sweeper(2, settings());
    let knows = |state: &freehold_sweeper::SweeperState| {
        state.holder.as_deref() == Some("router-1") && !state.held_here
    };
    second.until("the second knows", knows).await;

    shard.put_expired("one", 2_000).await?;
    first
        .until("the first deleted all", |state| state.rows_deleted == 2_000)
        .await;
    assert_eq!(shard.row_count().await?, 0);
    assert_eq!(second.state().rows_deleted, 0);
    assert_eq!(second.waits_for(), Some("lease"));

    shard.put_expired("two", 2_000).await?;
    first.stop().await;
    second
        .until("the second follows", |state| state.held_here)
        .await;
    second
        .until("nothing is left", |state| state.waiting_for.is_some())
        .await;
    let deleted = || first.state().rows_deleted + second.state().rows_deleted;
    second
        .until("they deleted all", |_| deleted() == 4_000)
        .await;
    assert_eq!(shard.row_count().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_deletes_and_the_next_follows_on_mariadb() -> Result {
    one_deletes_and_the_next_follows(Engine::MariaDb).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_deletes_and_the_next_follows_on_mysql() -> Result {
    one_deletes_and_the_next_follows(Engine::MySql).await
}

async fn a_pause_outlives_restarts(engine: Engine) -> Result {
    let mut shard = Shard::new(engine).await?;
    let (first, second) = (
        shard.sweeper(1, SweeperSettings::default()),
        shard.sweeper(2, SweeperSettings::default()),
    );
    first
        .until("the first runs", |state| state.holder.is_some())
        .await;
    // Either router takes the order; each shows it.
    second.handle.set_paused(true).await?;
    first
        .until("the first is paused", |state| state.paused)
        .await;
    second
        .until("the second is paused", |state| state.paused)
        .await;
    first.stop().await;
    second.stop().await;
    shard.master.kill_and_start_again().await?;

    shard.put_expired("kept", 300).await?;
    let expired = Instant::now();
    let third = shard.sweeper(3, watchful());
    third
        .until("the third has the lease", |state| state.held_here)
        .await;
    shard.one_more_decision().await?;
    assert_eq!(third.waits_for(), Some("operator"));
    assert_eq!(shard.row_count().await?, 300);
    // The server counts whole milliseconds, by another clock.
    let least = expired.elapsed().saturating_sub(Duration::from_millis(100));
    let due = third.handle.count_due().await?;
    assert_eq!((due.rows, due.more), (300, false));
    assert!(
        due.oldest.is_some_and(|age| age >= least),
        "{due:?}, {least:?}"
    );

    third.handle.set_paused(false).await?;
    third
        .until("all are gone", |state| state.rows_deleted == 300)
        .await;
    assert_eq!(shard.row_count().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_restarts_on_mariadb() -> Result {
    a_pause_outlives_restarts(Engine::MariaDb).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_restarts_on_mysql() -> Result {
    a_pause_outlives_restarts(Engine::MySql).await
}
