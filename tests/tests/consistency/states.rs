//! What a replica is used for, and what operators are told of it.

use std::time::Duration;

use freehold_client::{Client, Consistency, Error, Source};
use freehold_tests::{Engine, Router, Server, Shard, replication, until};

use tokio::time::{Instant, sleep};

use crate::scene::{Cluster, Result, client, until_replicas_follow};

/// One shard with two replicas.
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
        until_replicas_follow(&router, 2).await?;
        Ok(Self {
            client: client(&router).await?,
            router,
            master,
            replicas: [first, second],
        })
    }

    /// Waits until `shards` says so of some replica.
    async fn until_said(&self, words: &str) -> Result<()> {
        until(words, async || {
            let answer = self.router.admin_cli(&["shards", "--json"]).await?;
            Ok(answer.success()?.contains(words))
        })
        .await
    }

    /// Who answers reads of a level, of so many.
    async fn sources(&self, level: &Consistency) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for _ in 0..20 {
            let reply = self.client.get("k").consistency(level.clone()).await?;
            sources.push(reply.served.source);
        }
        Ok(sources)
    }

    async fn until_from(&self, level: &Consistency, source: Source) -> Result<()> {
        until("reads from there", async || {
            Ok(self
                .sources(level)
                .await?
                .iter()
                .all(|seen| *seen == source))
        })
        .await
    }
}

const HOUR: Consistency = Consistency::BoundedStaleness(Duration::from_secs(3_600));

async fn a_replica_that_does_not_follow_is_named_and_soon_not_used(engine: Engine) -> Result<()> {
    let more = "[reads]\nreplica_unusable_after_ms = 3000\n";
    let scene = Scene::new(engine, more).await?;
    let put = scene.client.put("k", "v").await?;
    let session = Consistency::Session(put.session_token);
    for level in [&HOUR, &session, &Consistency::Eventual] {
        scene.until_from(level, Source::Replica).await?;
    }
    let reply = scene.client.get("k").consistency(HOUR).await?;
    assert!(
        reply
            .served
            .staleness
            .is_some_and(|age| age > Duration::ZERO)
    );
    let explained = scene.router.admin_cli(&["explain", "k"]).await?.success()?;
    assert!(explained.contains("follows, at most"), "{explained}");
    let (_, metrics) = scene.router.http_get("/metrics").await?;
    assert!(
        metrics.contains("freehold_replica_staleness_seconds{"),
        "{metrics}"
    );

    for replica in &scene.replicas {
        replication::stop_applier(replica).await?;
    }
    scene.until_said("its applier is stopped").await?;
    for level in [&HOUR, &session] {
        scene.until_from(level, Source::Master).await?;
    }
    // For a while some past state is better than none; then it is not.
    scene
        .until_from(&Consistency::Eventual, Source::Master)
        .await?;

    for replica in &scene.replicas {
        replication::start_applier(replica).await?;
        replication::stop(replica).await?;
    }
    scene.until_said("stopped").await?;
    for replica in &scene.replicas {
        replication::start(replica).await?;
    }
    until_replicas_follow(&scene.router, 2).await?;
    for level in [&HOUR, &session, &Consistency::Eventual] {
        scene.until_from(level, Source::Replica).await?;
    }
    Ok(())
}

async fn a_replica_that_proves_too_little_serves_eventual_only(engine: Engine) -> Result<()> {
    let scene = Scene::new(engine, "").await?;
    scene.client.put("k", "v").await?;
    let (rule, words) = match engine {
        Engine::MariaDb => (
            "SET GLOBAL replicate_wild_ignore_table = 'other.%'",
            "filters",
        ),
        Engine::MySql => (
            "SET GLOBAL replica_preserve_commit_order = OFF",
            "out of order",
        ),
    };
    for replica in &scene.replicas {
        replication::stop(replica).await?;
        replica.connect().await?.run(rule).await?;
        replication::start(replica).await?;
    }
    scene.until_said(words).await?;
    scene.until_from(&HOUR, Source::Master).await?;
    scene
        .until_from(&Consistency::Eventual, Source::Replica)
        .await
}

/// A replica that was pointed at another master copies another history.
async fn a_replica_of_another_server_is_found_by_its_source(engine: Engine) -> Result<()> {
    let scene = Scene::new(engine, "").await?;
    scene.client.put("k", "v").await?;
    // It goes on showing this shard's fence; only what it copies is not the master's own log.
    let [first, second] = &scene.replicas;
    replication::receive_from(second, first.port()).await?;
    scene.until_said("its source is server").await?;
    replication::receive_from(second, scene.master.port()).await?;
    until_replicas_follow(&scene.router, 2).await
}

/// By the clocks of some replicas the rows would live for minutes yet.
async fn what_expired_by_its_masters_clock_is_gone_on_every_replica(engine: Engine) -> Result<()> {
    let cluster = Cluster::with_clocks_apart(engine).await?;
    let ttl = Duration::from_millis(1_500);
    let (mut by_replicas, keys) = (0, ["{a}expires", "{user:1}expires"]);
    for round in 0..3 {
        let began = Instant::now();
        let mut tokens = Vec::new();
        for key in keys {
            let put = cluster.clients[0].put(key, "v").ttl(Some(ttl)).await?;
            tokens.push(put.session_token);
        }
        // By now the last beat that a bounded read may go by was written after they had expired.
        let bound = Duration::from_millis(700);
        sleep((ttl + 2 * bound).saturating_sub(began.elapsed())).await;
        for (key, token) in keys.iter().zip(tokens) {
            let levels = [
                Consistency::BoundedStaleness(bound),
                Consistency::Session(token),
            ];
            for level in levels.iter().cycle().take(40) {
                let client = &cluster.clients[round % 2];
                let reply = client.get(*key).consistency(level.clone()).await?;
                assert_eq!(reply.value(), None, "{key}, {level:?}: {:?}", reply.served);
                by_replicas += usize::from(reply.served.source == Source::Replica);
            }
        }
    }
    assert!(by_replicas > 0, "no replica was asked");
    Ok(())
}

async fn a_token_of_another_cluster_is_bad_input(engine: Engine) -> Result<()> {
    let (scene, other) = tokio::try_join!(Scene::new(engine, ""), async {
        let master = Server::of(engine).await?;
        let router = Router::init_and_serve(&[Shard::new("a", &master, &[])], "").await?;
        let put = client(&router).await?.put("k", "v").await?;
        Ok((master, router, put.session_token))
    })?;
    let level = Consistency::Session(other.2);
    match scene.client.get("k").consistency(level).await {
        Err(Error::InvalidArgument { field, message }) => {
            assert_eq!(field, "read.session_token");
            assert!(message.contains("another cluster"), "{message}");
        }
        answer => panic!("{answer:?}"),
    }
    Ok(())
}

on_servers!(
    a_replica_that_does_not_follow_is_named_and_soon_not_used,
    a_replica_that_proves_too_little_serves_eventual_only,
    a_replica_of_another_server_is_found_by_its_source,
    a_token_of_another_cluster_is_bad_input,
    what_expired_by_its_masters_clock_is_gone_on_every_replica,
);
