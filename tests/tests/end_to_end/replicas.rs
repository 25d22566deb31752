//! EVENTUAL reads on real replicas.

use std::collections::BTreeMap;

use freehold_client::{Client, Consistency, Error, Source};
use freehold_tests::{Engine, Router, Server, Shard, replication};

use crate::scene::{Result, client, keys_of, until};

/// A master with two replicas, and what serves them.
struct Scene {
    router: Router,
    client: Client,
    master: Server,
    replicas: [Server; 2],
}

impl Scene {
    async fn new(engine: Engine, more: &str) -> Result<Self> {
        let master = Server::of(engine).await?;
        let [first, second] = replication::start_two_replicas(&master).await?;
        let shard = Shard::new("a", &master, &[&first, &second]);
        let router = Router::init_and_serve(&[shard], more).await?;
        let client = client(&router).await?;
        client.put("k", "old").await?;
        let scene = Self {
            router,
            client,
            master,
            replicas: [first, second],
        };
        scene.catch_up().await?;
        scene.until_all_lanes_are_open().await?;
        Ok(scene)
    }

    /// A lane that found no tables at first tries again after a while.
    async fn until_all_lanes_are_open(&self) -> Result<()> {
        until("all lanes of the replicas to be open", async || {
            let (_, metrics) = self.router.http_get("/metrics").await?;
            let open = metrics.lines().filter(|line| {
                line.starts_with("freehold_connections_open{")
                    && line.ends_with("role=\"replica\"} 2")
            });
            Ok(open.count() == 2)
        })
        .await
    }

    async fn catch_up(&self) -> Result<()> {
        for replica in &self.replicas {
            replication::wait_until_caught_up(&self.master, replica).await?;
        }
        Ok(())
    }

    async fn read(&self) -> Result<(String, Source), Error> {
        let reply = self
            .client
            .get("k")
            .consistency(Consistency::Eventual)
            .await?;
        let value = reply.entry.map_or_else(String::new, |entry| {
            String::from_utf8_lossy(&entry.value).into_owned()
        });
        Ok((value, reply.served.source))
    }

    /// How often each answer comes.
    async fn reads(&self, count: u32) -> Result<BTreeMap<(String, String), u32>> {
        let mut seen = BTreeMap::new();
        for _ in 0..count {
            let (value, source) = self.read().await?;
            *seen.entry((value, format!("{source:?}"))).or_default() += 1;
        }
        Ok(seen)
    }

    async fn until_read_from(&self, source: Source) -> Result<()> {
        until("reads from there", async || {
            // Several in a row: turns go round.
            for _ in 0..4 {
                match self.read().await {
                    Ok((_, seen)) if seen == source => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        })
        .await
    }
}

fn seen<const N: usize>(answers: [(&str, &str, u32); N]) -> BTreeMap<(String, String), u32> {
    answers
        .into_iter()
        .map(|(value, source, count)| ((value.to_owned(), source.to_owned()), count))
        .collect()
}

/// A replica that stands still shows the old value, the other the new one: so turns are seen.
async fn replicas_take_turns(engine: Engine) -> Result<()> {
    let scene = Scene::new(engine, "").await?;
    scene.until_read_from(Source::Replica).await?;
    replication::stop_applier(&scene.replicas[0]).await?;
    scene.client.put("k", "new").await?;
    replication::wait_until_caught_up(&scene.master, &scene.replicas[1]).await?;
    let strong = scene.client.get("k").await?;
    assert_eq!(strong.served.source, Source::Master);
    assert_eq!(strong.entry.map(|entry| entry.value), Some("new".into()));
    // Each is asked unless it looks much slower than the other just now.
    until("both replicas to have their turn", async || {
        let seen = scene.reads(40).await?;
        let all_from_replicas = seen.keys().all(|(_, source)| source == "Replica");
        assert!(all_from_replicas, "{seen:?}");
        Ok(seen.len() == 2)
    })
    .await?;
    replication::start_applier(&scene.replicas[0]).await?;
    scene.catch_up().await?;
    assert_eq!(scene.reads(40).await?, seen([("new", "Replica", 40)]));
    Ok(())
}

/// No read fails when replicas go, not even those on their way.
async fn replicas_that_are_gone_are_avoided_and_come_back(engine: Engine) -> Result<()> {
    let mut scene = Scene::new(engine, "").await?;
    scene.until_read_from(Source::Replica).await?;
    scene.replicas[0].kill();
    for _ in 0..100 {
        scene.read().await?;
    }
    scene.until_read_from(Source::Replica).await?;
    assert_eq!(scene.reads(40).await?, seen([("old", "Replica", 40)]));

    scene.replicas[1].stop().await?;
    for _ in 0..100 {
        scene.read().await?;
    }
    scene.until_read_from(Source::Master).await?;
    assert_eq!(scene.reads(40).await?, seen([("old", "Master", 40)]));

    scene.replicas[0].start_again().await?;
    scene.until_read_from(Source::Replica).await?;
    assert_eq!(scene.reads(40).await?, seen([("old", "Replica", 40)]));
    Ok(())
}

/// What is sent to a frozen replica waits for its deadline at worst; then it is avoided.
async fn a_frozen_replica_is_avoided(engine: Engine) -> Result<()> {
    let more = "[server]\nrequest_timeout_ms = 1000\n[lanes]\nstatement_timeout_ms = 3500\n";
    let mut scene = Scene::new(engine, more).await?;
    scene.until_read_from(Source::Replica).await?;
    scene.replicas[0].freeze()?;
    // What was sent there before it was seen to be silent may end late.
    until(
        "a hundred reads in a row from the other replica",
        async || {
            for _ in 0..100 {
                if !matches!(scene.read().await, Ok((_, Source::Replica))) {
                    return Ok(false);
                }
            }
            Ok(true)
        },
    )
    .await?;
    scene.replicas[0].thaw()?;
    Ok(())
}

async fn the_config_keeps_eventual_reads_from_the_master(engine: Engine) -> Result<()> {
    let mut scene = Scene::new(engine, "[reads]\neventual_falls_back_to_master = false\n").await?;
    scene.until_read_from(Source::Replica).await?;
    for replica in &mut scene.replicas {
        replica.kill();
    }
    until("reads to be refused", async || {
        Ok(scene.read().await.is_err())
    })
    .await?;
    for _ in 0..20 {
        match scene.read().await {
            Err(Error::NotApplied { reason, .. }) => assert_eq!(reason, "SHARD_UNAVAILABLE"),
            other => panic!("{other:?}"),
        }
    }
    let strong = scene.client.get("k").await?;
    assert_eq!(strong.served.source, Source::Master);
    Ok(())
}

/// The replica has no row of the shard: whatever it answered would be wrong.
async fn a_replica_of_another_shard_is_never_used(engine: Engine) -> Result<()> {
    let (a, b) = tokio::try_join!(Server::of(engine), Server::of(engine))?;
    let replica_of_b = replication::start_replica(&b).await?;
    let shards = [
        Shard::new("a", &a, &[&replica_of_b]),
        Shard::new("b", &b, &[]),
    ];
    let router = Router::init_and_serve(&shards, "").await?;
    let client = client(&router).await?;
    let keys: Vec<String> = keys_of(0, 2, "a").take(50).collect();
    for key in &keys {
        client.put(key.clone(), "v").await?;
    }
    replication::wait_until_caught_up(&b, &replica_of_b).await?;
    until("the replica to be looked at", async || {
        let shards = router.admin_cli(&["shards", "--json"]).await?.success()?;
        Ok(shards.contains("belongs to shard"))
    })
    .await?;
    for key in &keys {
        let reply = client
            .get(key.clone())
            .consistency(Consistency::Eventual)
            .await?;
        assert_eq!(reply.served.source, Source::Master, "{key}");
        assert!(reply.entry.is_some(), "{key}");
    }
    Ok(())
}

on_servers!(
    replicas_take_turns,
    replicas_that_are_gone_are_avoided_and_come_back,
    a_frozen_replica_is_avoided,
    the_config_keeps_eventual_reads_from_the_master,
    a_replica_of_another_shard_is_never_used,
);
