//! `kill -9` of the router, on every engine, under write load.

use std::time::Duration;

use freehold_tests::{Engine, Router};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;

use crate::{
    history::Ending,
    load::{Load, Plan},
    scene::{Cluster, Result, client, seed},
    table,
};

const ROUNDS: u64 = 5;

/// Writes, kills at a random moment, restarts, and looks at every key that was ever written.
async fn survives_kills(router: &mut Router) -> Result<()> {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..ROUNDS {
        let mut plan = Plan::new(&format!("round{round}"), seed.wrapping_add(round * 100));
        // Calls wait so long for a router that is gone.
        plan.timeout = Duration::from_secs(2);
        let load = Load::start(router.address(), &plan).await?;
        load.until_done(200).await?;
        sleep(Duration::from_millis(random.random_range(0..500))).await;
        router.kill();
        let outcome = load.stop().await?;
        router.serve().await?;
        let client = client(router).await?;
        table::audit(&client, &outcome.history).await?;
        assert_eq!(outcome.violations, [""; 0]);
        println!(
            "round {round}: {} calls, {} keys acknowledged, {} unknown",
            outcome.done,
            outcome.history.count(Ending::Applied),
            outcome.history.count(Ending::Unknown),
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_shards_keep_every_acknowledged_write_over_kills() -> Result<()> {
    survives_kills(&mut Router::embedded().await?).await
}

async fn servers_keep_every_acknowledged_write_over_kills_of_the_router(
    engine: Engine,
) -> Result<()> {
    let mut cluster = Cluster::of_two(engine, "").await?;
    survives_kills(&mut cluster.router).await
}

on_servers!(servers_keep_every_acknowledged_write_over_kills_of_the_router);
