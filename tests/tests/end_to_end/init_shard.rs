//! `init --shard` makes a new shard empty and ready for a cluster that serves, whatever interrupted
//! it before, and touches no database that holds something.

use freehold_tests::{Engine, Router, Server, Shard};
use serde_json::Value;

use crate::scene::{Cluster, Result, shards};

/// Three masters, of which the first two are a cluster that serves; and the config of all three.
async fn grown(engine: Engine) -> Result<(Cluster, Server, Router)> {
    let cluster = Cluster::of_two(engine, "").await?;
    let third = Server::of(engine).await?;
    let mut all = shards(&cluster.masters);
    all.push(Shard::new("c", &third, &[]));
    Ok((cluster, third, Router::configure(&all, "")?))
}

async fn refused(router: &Router, name: &str, words: &[&str]) -> Result<()> {
    let answer = router.with_config(&["init", "--shard", name]).await?;
    assert_eq!(answer.code, Some(3), "{}", answer.stderr);
    for words in words {
        assert!(answer.stderr.contains(words), "{words}: {}", answer.stderr);
    }
    Ok(())
}

async fn a_shard_joins_once_and_owns_nothing(engine: Engine) -> Result<()> {
    let (cluster, third, mut router) = grown(engine).await?;
    refused(&router, "d", &["'d'", "a, b, c"]).await?;
    let made = router
        .with_config(&["init", "--shard", "c", "--json"])
        .await?;
    let made: Value = serde_json::from_str(&made.success()?)?;
    let own = "SELECT cluster_id FROM shard WHERE schema_version = 1 AND term = 1";
    let cluster_id: u64 = third.connect().await?.one(own).await?;
    assert_eq!(made["cluster_id"], format!("{cluster_id:016x}"));
    assert_eq!(
        cluster_id,
        cluster.masters[0].connect().await?.one::<u64>(own).await?
    );

    // Again it says so, and for scripts that is well.
    refused(&router, "c", &["'c'", "already", "owns no slot"]).await?;
    router
        .with_config(&["init", "--shard", "c", "--if-needed"])
        .await?
        .success()?;
    router
        .with_config(&["init", "--if-needed"])
        .await?
        .success()?;
    let seen = router.with_config(&["doctor", "--json"]).await?;
    let seen: Value = serde_json::from_str(&seen.stdout)?;
    let slots: Vec<&Value> = (0..3)
        .map(|at| &seen["servers"][at]["slots_claimed"])
        .collect();
    assert_eq!(slots, [32_768, 32_768, 0], "{seen}");

    // It is served beside the others, and nothing is sent to it.
    router.serve().await?;
    let (key, value) = ("user:1", "there");
    router.cli(&["put", key, value]).await?.success()?;
    let explained = router
        .admin_cli(&["explain", key, "--json"])
        .await?
        .success()?;
    let explained: Value = serde_json::from_str(&explained)?;
    assert_eq!(explained["shard"], "a", "{explained}");
    let stored: u64 = third
        .connect()
        .await?
        .one("SELECT COUNT(*) FROM store")
        .await?;
    assert_eq!(stored, 0);
    Ok(())
}

async fn what_was_interrupted_is_completed(engine: Engine) -> Result<()> {
    let (_cluster, third, router) = grown(engine).await?;
    let mut sql = third.connect().await?;
    router
        .with_config(&["init", "--shard", "c"])
        .await?
        .success()?;
    // As far as it had come: with all tables, with some, and before the fence's row.
    for undo in [
        "UPDATE shard SET schema_version = 0, term = 0, epoch = 0",
        "UPDATE shard SET schema_version = 0, term = 0, epoch = 0; DROP VIEW live; \
         DROP TABLE moved_keys",
        "DELETE FROM shard; DROP VIEW live; DROP TABLE moved_keys; DROP TABLE slots",
    ] {
        sql.run(undo).await?;
        router
            .with_config(&["init", "--shard", "c"])
            .await?
            .success()?;
        let ready: u64 = sql
            .one("SELECT COUNT(*) FROM shard WHERE schema_version = 1 AND epoch = 1")
            .await?;
        let slots: u64 = sql.one("SELECT COUNT(*) FROM slots").await?;
        assert_eq!((ready, slots), (1, 0), "{undo}");
        sql.run("SELECT COUNT(*) FROM live; SELECT COUNT(*) FROM moved_keys")
            .await?;
    }
    Ok(())
}

async fn a_database_that_holds_something_is_left_alone(engine: Engine) -> Result<()> {
    let (cluster, third, router) = grown(engine).await?;
    let mut sql = third.connect().await?;
    // A shard of another cluster.
    let other = Router::configure(&[Shard::new("c", &third, &[])], "")?;
    other.init().await?.success()?;
    refused(&router, "c", &["'c'", "clusters never mix"]).await?;
    // Rows of nobody.
    sql.run("INSERT INTO store VALUES (1, 'k', 'v', 1, 1); DELETE FROM shard")
        .await?;
    refused(&router, "c", &["'c'", "holds rows"]).await?;
    let left: u64 = sql.one("SELECT COUNT(*) FROM store").await?;
    let fence: u64 = sql.one("SELECT COUNT(*) FROM shard").await?;
    assert_eq!((left, fence), (1, 0), "a refused init changed something");
    // One that owns slots is not made empty.
    refused(&router, "a", &["'a'", "already", "owns 32768 slots"]).await?;
    let owned = "SELECT COUNT(*) FROM slots WHERE state = 'owned'";
    let owned: u64 = cluster.masters[0].connect().await?.one(owned).await?;
    assert_eq!(owned, 32_768);
    // No cluster, nothing to join.
    let fresh = Server::of(engine).await?;
    let alone = Router::configure(&[Shard::new("c", &fresh, &[])], "")?;
    refused(&alone, "c", &["without --shard"]).await
}

on_servers!(
    a_shard_joins_once_and_owns_nothing,
    what_was_interrupted_is_completed,
    a_database_that_holds_something_is_left_alone,
);
