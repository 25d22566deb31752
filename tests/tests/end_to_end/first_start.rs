//! The first start without a config, cut short at any moment.

use std::time::Duration;

use freehold_tests::Router;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep};

use crate::scene::{Result, client, seed};

const ROUNDS: u32 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_was_killed_is_completed_by_the_next() -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed());
    let began = Instant::now();
    drop(Router::embedded().await?);
    let whole = began.elapsed();
    for round in 0..ROUNDS {
        let mut router = Router::configure(&[], "")?;
        for _ in 0..random.random_range(1..=3) {
            router.launch()?;
            let patience = whole.mul_f64(random.random_range(0.0..1.0));
            sleep(patience.max(Duration::from_millis(1))).await;
            router.kill();
        }
        router
            .serve()
            .await
            .map_err(|error| format!("round {round}: {error}"))?;
        let client = client(&router).await?;
        // Keys of all four shards.
        for number in 0..40 {
            let key = format!("k{number}");
            client.put(key.clone(), "v").await?;
            let read = client.get(key).await?;
            assert!(read.entry.is_some(), "round {round}: k{number}");
        }
        let shards = router.admin_cli(&["shards", "--json"]).await?.success()?;
        assert_eq!(
            shards.matches(r#""slots_owned":16384"#).count(),
            4,
            "{shards}"
        );
    }
    Ok(())
}
