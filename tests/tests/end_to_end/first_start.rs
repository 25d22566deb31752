//! The first start without a config, cut short at any moment.

use std::time::Duration;

use freehold_tests::Router;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep};

use crate::scene::{Result, client, seed, until};

const ROUNDS: u32 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_banner_says_where_it_listens_what_is_stored_where_and_what_to_do_next() -> Result<()> {
    let router = Router::embedded().await?;
    let mut banner = String::new();
    until("the banner", async || {
        banner = router.log();
        Ok(banner.contains("--help"))
    })
    .await?;
    let (address, admin) = (router.address(), router.admin_address());
    for words in [
        "Freehold",
        &format!("{address} (gRPC)"),
        &format!("http://{admin}/metrics and /healthz"),
        "4 embedded SQLite shards in ./freehold-data",
    ] {
        assert!(banner.contains(words), "no '{words}' in\n{banner}");
    }
    assert!(
        !banner.contains('\x1b'),
        "colour, and no terminal: {banner}"
    );
    for shard in ["a", "b", "c", "d"] {
        let file = format!("freehold-data/shard-{shard}.sqlite");
        assert!(router.folder().join(&file).is_file(), "{file}");
    }
    // What it says to do next is done as it stands there.
    let next = banner
        .split_once("Next, in another terminal:")
        .ok_or("nothing is next")?
        .1;
    let commands: Vec<&str> = next
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut said = Vec::new();
    for command in commands.iter().take(3) {
        let output = std::process::Command::new("sh")
            .args(["-c", command])
            .current_dir(router.folder())
            .output()?;
        assert!(output.status.success(), "{command}: {output:?}");
        said.push(String::from_utf8(output.stdout)?);
    }
    assert_eq!(said[1].trim_end(), "world", "{commands:?}: {said:?}");
    assert!(said[2].contains("Usage"), "{commands:?}: {said:?}");
    Ok(())
}

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
