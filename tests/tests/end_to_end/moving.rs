//! A slot moves from one shard to another while both serve. Its states are changed here by SQL, and
//! its rows copied, as a mover would.

use std::{collections::BTreeMap, time::Duration};

use freehold_client::Error;
use freehold_core::SlotState;
use freehold_tests::{Engine, Router, Server};
use tokio::time::timeout;

use crate::{
    fence::{Moved, in_one_transaction},
    load::{Load, Plan},
    scene::{Cluster, NAMES, Result, client, seed, shards, until},
    table,
};

/// Far longer than anything here takes.
const WITHIN: Duration = Duration::from_secs(60);

struct Scene {
    cluster: Cluster,
    moved: Moved,
}

impl Scene {
    fn source(&self) -> &Server {
        &self.cluster.masters[self.moved.owners().0]
    }

    fn target(&self) -> &Server {
        &self.cluster.masters[self.moved.owners().1]
    }

    /// Changes what the slot is to the source.
    async fn source_is(&self, state: SlotState, slot_epoch: u64) -> Result<()> {
        let change = format!(
            "UPDATE slots SET state = '{}', slot_epoch = {slot_epoch}, peer = '{}', \
             attempt = 4711, since_epoch = (SELECT epoch FROM shard) WHERE slot = {}",
            state.as_str(),
            NAMES[self.moved.owners().1],
            self.moved.slot
        );
        in_one_transaction(&mut self.source().connect().await?, &change).await
    }

    /// Changes what the slot is to the target.
    async fn target_is(&self, state: SlotState) -> Result<()> {
        let change = format!(
            "REPLACE INTO slots (slot, state, slot_epoch, peer, attempt, since_epoch) \
             SELECT {}, '{}', 2, '{}', 4711, epoch FROM shard",
            self.moved.slot,
            state.as_str(),
            NAMES[self.moved.owners().0]
        );
        in_one_transaction(&mut self.target().connect().await?, &change).await
    }

    /// The rows of the slot, as SQL.
    async fn rows(&self, server: &Server) -> Result<Vec<String>> {
        let query = format!(
            "SELECT CONCAT('(', slot, ',x''', HEX(`key`), ''',x''', HEX(value), ''',', version, \
             ',', expires_at, ')') FROM store WHERE slot = {} ORDER BY `key`",
            self.moved.slot
        );
        Ok(server.connect().await?.rows(&query).await?)
    }

    /// `n` of each key's entry in the source's log.
    async fn logged(&self) -> Result<BTreeMap<String, u64>> {
        let query = "SELECT CAST(`key` AS CHAR), n FROM moved_keys";
        let entries: Vec<(String, u64)> = self.source().connect().await?.rows(query).await?;
        Ok(entries.into_iter().collect())
    }

    async fn copy(&self) -> Result<()> {
        let rows = self.rows(self.source()).await?;
        for rows in rows.chunks(1_000) {
            let text = format!(
                "REPLACE INTO store (slot, `key`, value, version, expires_at) VALUES {}",
                rows.join(",")
            );
            self.target().connect().await?.run(&text).await?;
        }
        Ok(())
    }
}

/// Longer than anything here takes on a busy machine.
const PATIENT: &str = "[server]\nrequest_timeout_ms = 60000\n";

async fn nobody_fails_while_a_slot_changes_hands(engine: Engine) -> Result<()> {
    let cluster = Cluster::of_two(engine, PATIENT).await?;
    let mut other = Router::configure(&shards(&cluster.masters), PATIENT)?;
    other.serve().await?;
    let moved = Moved::new();
    let scene = Scene { cluster, moved };
    let mut plan = Plan::new("{moving}", seed());
    plan.timeout = WITHIN;
    let loads = [
        Load::start(scene.cluster.router.address(), &plan).await?,
        Load::start(
            other.address(),
            &Plan {
                prefix: "{moving}:too".to_owned(),
                ..plan
            },
        )
        .await?,
    ];
    for load in &loads {
        load.until_done(100).await?;
    }
    let client = client(&scene.cluster.router).await?;
    let [first, second] = [0, 1].map(|number| scene.moved.keys[number].clone());
    client.put(first.clone(), "before").await?;
    assert!(scene.logged().await?.is_empty(), "nothing moves yet");

    scene.target_is(SlotState::Incoming).await?;
    scene.source_is(SlotState::Outgoing, 1).await?;
    for load in &loads {
        load.until_done(100).await?;
    }
    client.put(second.clone(), "copied").await?;
    client.delete(first.clone()).await?;
    let logged = scene.logged().await?;
    assert!(
        logged.len() > 2,
        "writes of the load are logged: {logged:?}"
    );
    assert_eq!((logged[&first], logged[&second]), (1, 1));

    // Reads go on, and writes wait.
    scene.source_is(SlotState::Fenced, 1).await?;
    let last = scene.rows(scene.source()).await?;
    let writer = client.clone();
    let key = first.clone();
    let write = tokio::spawn(async move { writer.put(key, "waited").timeout(WITHIN).await });
    for _ in 0..100 {
        let read = client.get(second.clone()).await?;
        assert_eq!(read.value(), Some(&"copied".into()));
    }
    scene.copy().await?;
    assert!(!write.is_finished(), "it waits for the new owner");
    assert!(
        scene.rows(scene.source()).await? == last,
        "a fenced slot was written to"
    );

    // Nobody owns it: reads wait, too.
    scene.source_is(SlotState::Gone, 2).await?;
    let reader = client.clone();
    let read = tokio::spawn(async move { reader.get(second).timeout(WITHIN).await });
    until("the router to ask for nobody's slot", async || {
        let (_, metrics) = scene.cluster.router.http_get("/metrics").await?;
        let waiting = |line: &&str| {
            line.starts_with("freehold_queued_requests")
                && line.contains("reads")
                && !line.ends_with(" 0")
        };
        Ok(metrics.lines().any(|line| waiting(&line)))
    })
    .await?;
    assert!(
        !read.is_finished() && !write.is_finished(),
        "nobody can know"
    );
    scene.target_is(SlotState::Owned).await?;
    let read = timeout(WITHIN, read).await???;
    assert_eq!(read.value(), Some(&"copied".into()));
    timeout(WITHIN, write).await???;
    for load in loads {
        load.until_done(100).await?;
        let outcome = load.stop().await?;
        println!(
            "{} calls, the longest took {:?}",
            outcome.done, outcome.longest
        );
        outcome.is_undisturbed();
        table::audit(&client, &outcome.history).await?;
    }
    assert!(
        scene.rows(scene.source()).await? == last,
        "the former owner was written to"
    );
    let stored = client.get(first).await?;
    assert_eq!(stored.value(), Some(&"waited".into()));
    Ok(())
}

/// A slot that stays fenced: its writes end in time, not applied, and all others go on.
async fn a_write_waits_for_a_new_owner_no_longer_than_its_deadline(engine: Engine) -> Result<()> {
    let cluster = Cluster::of_two(engine, "[server]\nrequest_timeout_ms = 3000\n").await?;
    let scene = Scene {
        cluster,
        moved: Moved::new(),
    };
    let client = client(&scene.cluster.router).await?;
    let key = scene.moved.keys[0].clone();
    client.put(key.clone(), "before").await?;
    scene.source_is(SlotState::Fenced, 1).await?;
    // The router's limit is the earlier one.
    let during = client.put(key.clone(), "during").timeout(WITHIN).await;
    assert!(
        matches!(during, Err(Error::NotApplied { .. })),
        "{during:?}"
    );
    // A cancelled move: the source owns it again.
    let after = client.put(key.clone(), "after").timeout(WITHIN);
    scene.source_is(SlotState::Owned, 1).await?;
    after.await?;
    assert_eq!(client.get(key).await?.value(), Some(&"after".into()));
    Ok(())
}

on_servers!(
    nobody_fails_while_a_slot_changes_hands,
    a_write_waits_for_a_new_owner_no_longer_than_its_deadline,
);
