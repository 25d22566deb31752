//! Writers do not notice that the sweeper deletes at full speed beside them.

use std::{pin::Pin, time::Duration};

use freehold_storage::Outcome;
use freehold_sweeper::Waiting;
use freehold_tests::Engine;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::shard::{Result, Shard, full_speed, keys, rows};

/// Writes batches of keys that all writers share, most of which are due or being swept, until it
/// is told that it is enough.
async fn write(shard: &Shard, seed: u64, enough: CancellationToken) -> Result<Writing> {
    let (mut connection, fence) = shard.connect().await?;
    let all = keys("shared", 4_000);
    let mut rng = StdRng::seed_from_u64(seed);
    Ok(Box::pin(async move {
        let mut written = 0;
        while !enough.is_cancelled() {
            let mut keys = all.iter().cloned().sample(&mut rng, 128);
            keys.sort_unstable();
            let rows = rows(&keys, written, Some(rng.random_range(1..20)));
            for outcome in connection.put(&fence, &rows).await {
                assert_eq!(
                    outcome,
                    Outcome::Applied(()),
                    "a PUT beside the sweeper failed"
                );
                written += 1;
            }
        }
        written
    }))
}

type Writing = Pin<Box<dyn Future<Output = u64> + Send>>;

async fn no_write_fails(engine: Engine) -> Result {
    let shard = Shard::new(engine).await?;
    shard.put_expired("old", 10_000).await?;
    let sweeper = shard.sweeper(1, full_speed());
    let (mut writers, enough) = (JoinSet::new(), CancellationToken::new());
    for seed in 0..4 {
        println!("seed {seed}");
        writers.spawn(write(&shard, seed, enough.clone()).await?);
    }
    sweeper
        .until("more than the old rows went", |state| {
            state.rows_deleted > 15_000
        })
        .await;
    enough.cancel();
    let written: u64 = writers.join_all().await.into_iter().sum();
    println!(
        "{written} rows written, {} deleted",
        sweeper.state().rows_deleted
    );
    assert!(
        written > 5_000,
        "{written} rows written: too few to be in anybody's way"
    );
    sweeper
        .until("nothing is due", |state| {
            state.waiting_for == Some(Waiting::Rows)
        })
        .await;
    assert_eq!(sweeper.state().last_error, None);
    let deadline = Instant::now() + Duration::from_secs(60);
    while shard.row_count().await? > 0 {
        assert!(
            Instant::now() < deadline,
            "rows stay: {:?}",
            sweeper.state()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_fails_on_mariadb() -> Result {
    no_write_fails(Engine::MariaDb).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_fails_on_mysql() -> Result {
    no_write_fails(Engine::MySql).await
}
