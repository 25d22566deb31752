//! A router follows its config file while it serves: shards and replicas come and go, nobody's
//! request fails, and a file that cannot be used changes nothing.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink, path::Path};

use freehold_tests::{Engine, Router, Server, Shard, Signal, replication, shards_toml};
use serde_json::Value;

use crate::{
    load::{Load, Plan},
    scene::{Cluster, Result, client, keys_of, seed, shards, until},
};

/// Puts a config in the place of the one before, as a careful editor does.
fn write(router: &Router, text: &str) -> Result<()> {
    let (file, new) = (router.config_file(), router.folder().join("new.toml"));
    fs::write(&new, text)?;
    fs::rename(new, file)?;
    Ok(())
}

async fn health(router: &Router) -> Result<Value> {
    Ok(serde_json::from_str(&router.http_get("/healthz").await?.1)?)
}

/// Waits until the router serves exactly these shards.
async fn until_served(router: &Router, wanted: &[&str]) -> Result<()> {
    let wanted: BTreeSet<String> = wanted.iter().map(|&name| name.to_owned()).collect();
    until("the router to serve those shards", async || {
        let health = health(router).await?;
        let shards = health["shards"].as_object().expect("shards");
        let up = shards.iter().filter(|(_, shard)| shard["up"] == true);
        let up: BTreeSet<String> = up.map(|(name, _)| name.clone()).collect();
        Ok(up == wanted && shards.len() == wanted.len())
    })
    .await
}

/// Waits until the file is refused, in words that hold all of these; what it says.
async fn until_refused(router: &Router, words: &[&str]) -> Result<String> {
    until("the file to be refused", async || {
        let health = health(router).await?;
        let refused = health["config_refused"].as_str().unwrap_or_default();
        Ok(words.iter().all(|words| refused.contains(words)))
    })
    .await?;
    let shown = router.admin_cli(&["shards"]).await?.success()?;
    for words in words {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    Ok(shown)
}

async fn until_accepted(router: &Router) -> Result<()> {
    until("the file to be followed", async || {
        Ok(health(router).await?["config_refused"] == "")
    })
    .await
}

async fn metric(router: &Router, line: &str) -> Result<u64> {
    let (_, metrics) = router.http_get("/metrics").await?;
    let value = metrics.lines().find_map(|found| found.strip_prefix(line));
    Ok(value.map_or(Ok(0), |value| value.trim().parse())?)
}

async fn a_third_shard_comes_and_goes_under_load(engine: Engine) -> Result<()> {
    let mut cluster = Cluster::of_two(engine, "").await?;
    let load = Load::start(cluster.router.address(), &Plan::new("load", seed())).await?;
    load.until_done(100).await?;
    let two = fs::read_to_string(cluster.router.config_file())?;
    cluster.masters.push(Server::of(engine).await?);
    let three = shards_toml(&shards(&cluster.masters));

    // As an operator does it: the file first, with a mistake, then the tables.
    let good = shards(&cluster.masters)[2].master.clone();
    let (_, place) = good.split_once('@').expect("a place");
    let (address, _) = place.split_once('/').expect("a database");
    write(&cluster.router, &three.replace(address, "127.0.0.1:1"))?;
    until("the router to look for it", async || {
        Ok(health(&cluster.router).await?["shards"]["c"]["up"] == false)
    })
    .await?;
    write(&cluster.router, &three)?;
    let told = cluster
        .router
        .with_config(&["init", "--shard", "c"])
        .await?;
    assert!(told.success()?.contains("owns no slot"));
    until_served(&cluster.router, &["a", "b", "c"]).await?;
    load.until_done(200).await?;
    let shown = cluster.router.admin_cli(&["shards", "--json"]).await?;
    let shown: Value = serde_json::from_str(&shown.success()?)?;
    let slots: Vec<&Value> = (0..3)
        .map(|index| &shown["shards"][index]["slots_owned"])
        .collect();
    assert_eq!(slots, [32_768, 32_768, 0]);

    // Nobody could end a move of it without it.
    let mut sql = cluster.masters[0].connect().await?;
    let open = "INSERT INTO moves (id, source, target, slots, state, cancels, mover, slots_done, \
                rows_copied, bytes_copied, pause_us_max, error, started_at, changed_at) \
                VALUES (99, 'a', 'c', '7', 'stopped', 0, 'x', 0, 0, 0, 0, '', 1, 1)";
    sql.run(open).await?;
    write(&cluster.router, &two)?;
    let why = "move 0000000000000063 from 'a' to 'c' is open";
    until_refused(&cluster.router, &[why]).await?;
    sql.run("DELETE FROM moves WHERE id = 99").await?;

    // It is gone as it came, at once on SIGHUP.
    cluster.router.signal(Signal::HUP)?;
    until_served(&cluster.router, &["a", "b"]).await?;
    load.end_undisturbed(&cluster.client().await?).await?;
    assert_eq!(metric(&cluster.router, "freehold_config_refused").await?, 0);
    Ok(())
}

async fn a_file_that_cannot_be_used_is_refused_whole(engine: Engine) -> Result<()> {
    let mut cluster = Cluster::of_two(engine, "").await?;
    let router = &mut cluster.router;
    let good = fs::read_to_string(router.config_file())?;
    let load = Load::start(router.address(), &Plan::new("load", seed())).await?;
    load.until_done(50).await?;

    write(router, &format!("[server]\nlitsen = 1\n{good}"))?;
    until_refused(router, &["litsen", "freehold.toml"]).await?;
    // One good and one bad change: neither is made.
    let stranger = Server::of(engine).await?;
    let more = shards_toml(&[Shard::new("c", &stranger, &[])]);
    write(router, &format!("[lanes]\nreads = 3\n{good}{more}"))?;
    until_refused(router, &["lanes.reads: 2 cannot become 3", "restart"]).await?;
    assert!(health(router).await?["shards"]["c"].is_null());

    // Each shard owns slots, so neither can be missed.
    write(router, &shards_toml(&shards(&cluster.masters[..1])))?;
    until_refused(router, &["'b'", "owns 32768 slots"]).await?;
    // A leader cannot be exchanged by the file.
    let mut exchanged = shards(&cluster.masters);
    exchanged[0].master = stranger.dsn(&freehold_tests::Login::admin());
    write(router, &shards_toml(&exchanged))?;
    until_refused(router, &["shards[0]", "leads it"]).await?;
    // A server of another cluster.
    let other = Router::configure(&[Shard::new("c", &stranger, &[])], "")?;
    other.init().await?.success()?;
    write(router, &format!("{good}{more}"))?;
    until_refused(router, &["shards[2].master", "cluster"]).await?;
    // A password that is wrong; the file that is shown names no password.
    let mut locked_out = shards(&cluster.masters);
    let mut login = freehold_tests::Login::admin();
    login.password = "secret-that-is-wrong".to_owned();
    locked_out[0].master = cluster.masters[0].dsn(&login);
    write(router, &shards_toml(&locked_out))?;
    let shown = until_refused(router, &["shards[0].master", "turned down"]).await?;
    assert!(!shown.contains("secret"), "{shown}");
    fs::remove_file(router.config_file())?;
    until_refused(router, &["cannot be read"]).await?;
    assert_eq!(metric(router, "freehold_config_refused").await?, 1);
    assert!(metric(router, "freehold_config_reloads_total{result=\"refused\"}").await? >= 6);

    write(router, &good)?;
    router.signal(Signal::HUP)?;
    until_accepted(router).await?;
    load.until_done(50).await?;
    let outcome = load.stop().await?;
    outcome.is_undisturbed();
    assert!(router.log().contains("config refused"));
    Ok(())
}

/// Kubernetes has the files of a ConfigMap in a folder that a symbolic link leads to, and moves the
/// link.
fn mount(folder: &Path, version: &str, text: &str) -> Result<()> {
    fs::create_dir(folder.join(version))?;
    fs::write(folder.join(version).join("freehold.toml"), text)?;
    symlink(version, folder.join("..data_tmp"))?;
    fs::rename(folder.join("..data_tmp"), folder.join("..data"))?;
    Ok(())
}

async fn replicas_come_and_go_where_a_mounted_file_says_so(engine: Engine) -> Result<()> {
    let master = Server::of(engine).await?;
    let mut router = Router::configure(&[Shard::new("a", &master, &[])], "")?;
    let alone = fs::read_to_string(router.config_file())?;
    mount(router.folder(), "..1", &alone)?;
    fs::remove_file(router.config_file())?;
    symlink("..data/freehold.toml", router.config_file())?;
    router.init().await?.success()?;
    router.serve().await?;
    let load = Load::start(router.address(), &Plan::new("load", seed())).await?;
    load.until_done(50).await?;

    let replica = replication::start_replica(&master).await?;
    let both = shards_toml(&[Shard::new("a", &master, &[&replica])]);
    mount(router.folder(), "..2", &both)?;
    let client = client(&router).await?;
    let key = keys_of(0, 1, "replicated").next().expect("a key");
    client.put(key.clone(), "there").await?;
    let served_by = async || -> Result<String> {
        let got = router
            .cli(&["get", &key, "--consistency", "eventual", "--json"])
            .await?;
        // It may not have the key yet, and says so.
        let got: Value = serde_json::from_str(&got.stdout)?;
        Ok(got["served"]["source"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    };
    until("the replica to answer", async || {
        Ok(served_by().await? == "replica")
    })
    .await?;
    // It follows: beats are written since it came.
    until("its age to be known", async || {
        let (_, metrics) = router.http_get("/metrics").await?;
        Ok(metrics.contains("freehold_replica_staleness_seconds{"))
    })
    .await?;

    mount(router.folder(), "..3", &alone)?;
    until("the master to answer", async || {
        Ok(served_by().await? == "master")
    })
    .await?;
    load.until_done(50).await?;
    load.stop().await?.is_undisturbed();
    let (_, metrics) = router.http_get("/metrics").await?;
    assert!(!metrics.contains("role=\"replica\""), "{metrics}");
    Ok(())
}

on_servers!(
    a_third_shard_comes_and_goes_under_load,
    a_file_that_cannot_be_used_is_refused_whole,
    replicas_come_and_go_where_a_mounted_file_says_so,
);
