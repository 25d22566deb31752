//! `init` deals every slot out once, whatever happens to it on the way, and touches nothing that
//! is not its own.

use std::{process::Command, time::Duration};

use freehold_tests::{Engine, Process, Router, Server, Shard, cli};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep};

use crate::scene::{Result, WITHIN, seed, shards};

const ROUNDS: u32 = 8;

async fn a_second_init_is_refused_and_changes_nothing(engine: Engine) -> Result<()> {
    let (a, b, c) = tokio::try_join!(Server::of(engine), Server::of(engine), Server::of(engine))?;
    let masters = [a, b, c];
    let router = Router::configure(&shards(&masters[..2]), "")?;
    router.init().await?.success()?;
    let before = (
        everything(&masters[0]).await?,
        everything(&masters[1]).await?,
    );

    let again = router.init().await?;
    assert_eq!(again.code, Some(3), "{}", again.stderr);
    assert!(
        again.stderr.contains("initialised already"),
        "{}",
        again.stderr
    );

    // With a third shard the even shares would be others.
    let more = Router::configure(&shards(&masters), "")?.init().await?;
    assert_eq!(more.code, Some(3), "{}", more.stderr);
    for words in ["shard 'a'", "already owns 32768 slots"] {
        assert!(more.stderr.contains(words), "{words}: {}", more.stderr);
    }
    let untouched: u64 = masters[2]
        .connect()
        .await?
        .one("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'freehold'")
        .await?;
    assert_eq!(untouched, 0, "nothing is created where init refuses");
    let after = (
        everything(&masters[0]).await?,
        everything(&masters[1]).await?,
    );
    assert!(before == after, "a refused init changed something");
    Ok(())
}

async fn init_tells_other_schemas_shards_and_clusters_from_its_own(engine: Engine) -> Result<()> {
    let (a, b) = tokio::try_join!(Server::of(engine), Server::of(engine))?;
    let masters = [a, b];
    let both = shards(&masters);
    for alone in both.chunks(1) {
        Router::configure(alone, "")?.init().await?.success()?;
    }
    // As far as an interrupted init gets: tables, and no slots yet.
    for master in &masters {
        master
            .connect()
            .await?
            .run("UPDATE shard SET schema_version = 0")
            .await?;
    }
    let refused = refused_by_init(&shards(&masters)).await?;
    for words in ["shard 'a'", "shard 'b'", "clusters never mix"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }

    let renamed = [Shard::new("b", &masters[0], &[])];
    let refused = refused_by_init(&renamed).await?;
    for words in ["shard 'b'", "a database of the shard 'a'"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }

    for version in [2_u32, 999] {
        let set = format!("UPDATE shard SET schema_version = {version}");
        masters[0].connect().await?.run(&set).await?;
        let refused = refused_by_init(&shards(&masters[..1])).await?;
        for words in ["shard 'a'".to_owned(), format!("version {version}")] {
            assert!(refused.contains(&words), "{words}: {refused}");
        }
    }
    Ok(())
}

async fn refused_by_init(shards: &[Shard]) -> Result<String> {
    let answer = Router::configure(shards, "")?.init().await?;
    assert_eq!(answer.code, Some(3), "{}{}", answer.stdout, answer.stderr);
    Ok(answer.stderr)
}

async fn init_is_completed_after_any_kill(engine: Engine) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed());
    let (a, b, c) = tokio::try_join!(Server::of(engine), Server::of(engine), Server::of(engine))?;
    let masters = [a, b, c];
    let router = Router::configure(&shards(&masters), "")?;
    // How long a whole one takes says when a kill can strike.
    let began = Instant::now();
    router.init().await?.success()?;
    let whole = began.elapsed();
    judge_shares(&masters).await?;
    let (mut interrupted, mut round) = (0, 0);
    // Where the machine has become faster since, kills come sooner and sooner.
    while round < ROUNDS || (interrupted == 0 && round < 4 * ROUNDS) {
        round += 1;
        let whole = whole / (1 + round / ROUNDS);
        for master in &masters {
            let mut sql = master.connect().await?;
            sql.run("DROP DATABASE freehold; CREATE DATABASE freehold")
                .await?;
        }
        // More than one kill before it is let through.
        for _ in 0..random.random_range(1..=2) {
            let patience = whole.mul_f64(random.random_range(0.05..1.0));
            interrupted += u32::from(killed_after(&router, patience).await?);
        }
        complete(&router).await?;
        judge_shares(&masters)
            .await
            .map_err(|error| format!("round {round}: {error}"))?;
    }
    println!("{engine}: a whole init takes {whole:?}; {interrupted} were interrupted");
    assert!(interrupted > 0, "no kill came in time");
    Ok(())
}

/// Starts init and kills it; whether it was still at work.
async fn killed_after(router: &Router, patience: Duration) -> Result<bool> {
    let mut command = Command::new(cli::program()?);
    command.args(["init", "--config"]).arg(router.config_file());
    let mut process = Process::spawn(command, &router.folder().join("init.log"))?;
    sleep(patience).await;
    let was_running = process.is_running();
    process.kill();
    Ok(was_running)
}

/// Runs init until it is done, or says that it was.
async fn complete(router: &Router) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let answer = router.init().await?;
        let finished = answer.stderr.contains("initialised already");
        if answer.code == Some(0) || finished {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(format!("init never ends: {}", answer.stderr).into());
        }
    }
}

/// 65,536 slots with one owner each, dealt out evenly, in one cluster.
async fn judge_shares(masters: &[Server]) -> Result<()> {
    let mut next = 0_u32;
    let mut clusters = Vec::new();
    for (master, name) in masters.iter().zip(crate::scene::NAMES) {
        let mut sql = master.connect().await?;
        let slots: Vec<u32> = sql
            .rows("SELECT slot FROM slots WHERE state = 'owned' ORDER BY slot")
            .await?;
        assert!(
            [21_845, 21_846].contains(&slots.len()),
            "{name} has {} slots",
            slots.len()
        );
        for slot in slots {
            assert_eq!(slot, next, "each slot once, in order");
            next += 1;
        }
        let (shard, cluster, server_id): (String, u64, u64) = sql
            .one(
                "SELECT CONVERT(name USING utf8mb4), cluster_id, server_id FROM shard \
                  WHERE schema_version > 0",
            )
            .await?;
        assert_eq!(shard, name);
        assert_eq!(server_id, sql.one::<u64>("SELECT @@server_id").await?);
        clusters.push(cluster);
    }
    assert_eq!(next, 65_536);
    clusters.dedup();
    assert_eq!(clusters.len(), 1, "one cluster: {clusters:?}");
    Ok(())
}

/// Every row of the tables that say who owns what.
async fn everything(server: &Server) -> Result<Vec<String>> {
    let mut sql = server.connect().await?;
    let shard: Vec<String> = sql
        .rows(
            "SELECT CONCAT_WS(' ', name, cluster_id, schema_version, term, epoch, server_id, \
               stamp) FROM shard",
        )
        .await?;
    let slots: Vec<String> = sql
        .rows(
            "SELECT CONCAT_WS(' ', slot, state, slot_epoch, attempt, since_epoch) FROM slots \
               ORDER BY slot",
        )
        .await?;
    Ok([shard, slots].concat())
}

on_servers!(
    a_second_init_is_refused_and_changes_nothing,
    init_tells_other_schemas_shards_and_clusters_from_its_own,
    init_is_completed_after_any_kill,
);
