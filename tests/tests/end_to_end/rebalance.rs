//! A cluster grows and shrinks in an afternoon: a shard is added, gets its share, and another one is
//! emptied and taken out, while everybody works.

use std::fs;

use freehold_tests::{Engine, Server, shards_toml};
use serde_json::Value;

use crate::{
    load::{Load, Plan},
    scene::{Cluster, Result, seed, shards, until_owned},
};

async fn a_shard_is_filled_and_another_one_drained_under_load(engine: Engine) -> Result<()> {
    let mut cluster = Cluster::of_two(engine, "").await?;
    let load = Load::start(cluster.router.address(), &Plan::new("load", seed())).await?;
    load.until_done(200).await?;
    cluster.masters.push(Server::of(engine).await?);
    let all = shards(&cluster.masters);
    fs::write(cluster.router.config_file(), shards_toml(&all))?;
    cluster
        .router
        .with_config(&["init", "--shard", "c"])
        .await?
        .success()?;
    until_owned(&cluster.router, &[("a", 32_768), ("b", 32_768), ("c", 0)]).await?;

    // The plan first: nothing moves, and nobody is there to ask.
    let plan = cluster
        .router
        .with_config(&["rebalance", "--dry-run", "--json"])
        .await?;
    let plan: Value = serde_json::from_str(&plan.success()?)?;
    let steps = plan["plan"].as_array().expect("a plan");
    assert_eq!(steps.len(), 2, "{plan}");
    assert!(steps.iter().all(|step| step["target"] == "c"), "{plan}");
    let asked = cluster.router.with_config(&["rebalance"]).await?;
    assert_eq!(asked.code, Some(2), "{}", asked.stderr);
    let by_bytes = cluster
        .router
        .with_config(&["rebalance", "--by", "bytes", "--dry-run"])
        .await?;
    assert!(by_bytes.success()?.contains("BYTES"));

    cluster
        .router
        .with_config(&["rebalance", "--yes", "--latency-factor-max", "0"])
        .await?
        .success()?;
    until_owned(
        &cluster.router,
        &[("a", 21_846), ("b", 21_845), ("c", 21_845)],
    )
    .await?;
    let again = cluster
        .router
        .with_config(&["rebalance", "--yes", "--latency-factor-max", "0"])
        .await?
        .success()?;
    assert!(again.contains("nothing to move"), "{again}");

    cluster
        .router
        .with_config(&["drain", "a", "--yes", "--latency-factor-max", "0"])
        .await?
        .success()?;
    until_owned(&cluster.router, &[("a", 0), ("b", 32_768), ("c", 32_768)]).await?;
    cluster.router.with_config(&["audit"]).await?.success()?;
    fs::write(cluster.router.config_file(), shards_toml(&all[1..]))?;
    until_owned(&cluster.router, &[("b", 32_768), ("c", 32_768)]).await?;
    load.end_undisturbed(&cluster.client().await?).await
}

on_servers!(a_shard_is_filled_and_another_one_drained_under_load);
