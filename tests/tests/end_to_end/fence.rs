//! The fence, end to end: ownership changes by SQL while routers write.

use std::time::Duration;

use freehold_core::slot::even_share;
use freehold_tests::{Engine, Router, Server, Sql};

use crate::{
    history::Ending,
    load::{Load, Plan},
    scene::{Cluster, Result, client, keys_of, seed, shards, slot_of, until},
    table::{self, Row},
};

const BUMPS: u32 = 20;

/// What every change of ownership does to a shard's fence.
const NEXT_EPOCH: &str = "UPDATE shard SET epoch = epoch + 1, stamp = stamp + 77 WHERE id = 1";

async fn nothing_fails_when_the_epoch_changes(engine: Engine) -> Result<()> {
    let cluster = Cluster::of_two(engine, "").await?;
    let load = Load::start(cluster.router.address(), &Plan::new("bump", seed())).await?;
    load.until_done(200).await?;
    for _ in 0..BUMPS {
        for master in &cluster.masters {
            master.connect().await?.run(NEXT_EPOCH).await?;
        }
        load.until_done(50).await?;
    }
    let outcome = load.stop().await?;
    outcome.is_undisturbed();
    table::audit(&cluster.client().await?, &outcome.history).await?;
    let (_, metrics) = cluster.router.http_get("/metrics").await?;
    let turned_away: u64 = metrics
        .lines()
        .filter(|line| line.starts_with("freehold_turned_away_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    println!(
        "{} calls, {turned_away} of them turned away by the fence",
        outcome.done
    );
    assert!(turned_away > 0, "{metrics}");
    // Every writer waits for every change: if a router learned of it late, one call of fifty would show.
    let slow = outcome.took.iter();
    let slow = slow.filter(|(_, took)| *took > Duration::from_secs(2));
    let slow = slow.count();
    assert!(slow * 100 < outcome.took.len(), "{slow} calls took longer");
    Ok(())
}

/// The slot that moves, and keys in it.
pub(crate) struct Moved {
    pub(crate) slot: u16,
    pub(crate) keys: Vec<String>,
}

impl Moved {
    pub(crate) fn new() -> Self {
        let slot = slot_of("{moving}");
        assert!(even_share(0, 2).contains(&slot) != even_share(1, 2).contains(&slot));
        Self {
            slot,
            keys: (0..50)
                .map(|number| format!("{{moving}}:{number}"))
                .collect(),
        }
    }

    /// The places of its old and its new owner.
    pub(crate) fn owners(&self) -> (usize, usize) {
        if even_share(0, 2).contains(&self.slot) {
            (0, 1)
        } else {
            (1, 0)
        }
    }

    /// As a move ends: first the new owner's claim, then the old owner's farewell, each in one
    /// transaction with its fence.
    pub(crate) async fn change_hands(&self, masters: &[Server]) -> Result<()> {
        let (old, new) = self.owners();
        let name = |place: usize| crate::scene::NAMES[place];
        let mut sql = masters[new].connect().await?;
        let claim = format!(
            "INSERT INTO slots (slot, state, slot_epoch, peer, attempt, since_epoch) \
             SELECT {}, 'owned', 2, '{}', 4711, epoch FROM shard",
            self.slot,
            name(old)
        );
        in_one_transaction(&mut sql, &claim).await?;
        let mut sql = masters[old].connect().await?;
        let farewell = format!(
            "UPDATE slots SET state = 'gone', slot_epoch = 2, peer = '{}', attempt = 4712, \
             since_epoch = (SELECT epoch FROM shard) WHERE slot = {}",
            name(new),
            self.slot
        );
        in_one_transaction(&mut sql, &farewell).await
    }

    /// The rows of the slot on a master.
    async fn rows(&self, master: &Server) -> Result<Vec<Row>> {
        let rows = table::rows(master).await?;
        Ok(rows
            .into_iter()
            .filter(|row| row.slot == self.slot)
            .collect())
    }
}

pub(crate) async fn in_one_transaction(sql: &mut Sql, change: &str) -> Result<()> {
    Ok(sql
        .run(&format!("BEGIN; {NEXT_EPOCH}; {change}; COMMIT"))
        .await?)
}

/// The router that learns of it in time, and one that was frozen meanwhile with requests on their
/// way.
async fn a_former_owner_gets_no_more_writes_ever(engine: Engine) -> Result<()> {
    let patient = "[server]\nrequest_timeout_ms = 60000\n";
    let mut cluster = Cluster::of_two(engine, patient).await?;
    let mut late = Router::configure(&shards(&cluster.masters), patient)?;
    late.serve().await?;
    let moved = Moved::new();
    let (old, new) = moved.owners();
    let mut plan = Plan::new("{moving}", seed());
    plan.timeout = Duration::from_secs(60);
    let through_late = Load::start(late.address(), &plan).await?;
    plan.prefix = "{moving}:too".to_owned();
    let through_other = Load::start(cluster.router.address(), &plan).await?;
    through_late.until_done(200).await?;
    through_other.until_done(200).await?;

    late.freeze()?;
    moved.change_hands(&cluster.masters).await?;
    let final_rows = moved.rows(&cluster.masters[old]).await?;
    through_other.until_done(200).await?;
    late.thaw()?;
    through_late.until_done(200).await?;
    for outcome in [through_late.stop().await?, through_other.stop().await?] {
        println!("{} calls; {:?}", outcome.done, outcome.failures);
        assert_eq!(outcome.history.count(Ending::Unknown), 0);
        // Until the new owner's claim is loaded, callers wait.
        assert_eq!(outcome.failures, [].into(), "nothing fails");
    }
    // New callers, on both routers.
    for router in [&late, &cluster.router] {
        let client = client(router).await?;
        for key in &moved.keys {
            client.put(key.clone(), "after").await?;
        }
    }
    assert!(
        moved.rows(&cluster.masters[old]).await? == final_rows,
        "the former owner was written to"
    );
    let arrived = moved.rows(&cluster.masters[new]).await?;
    for key in &moved.keys {
        let row = arrived.iter().find(|row| row.key == *key);
        assert_eq!(row.map(|row| row.value.as_str()), Some("after"), "{key}");
    }
    // A router that starts now believes the same.
    cluster.router.kill();
    cluster.router.serve().await?;
    cluster
        .client()
        .await?
        .put(moved.keys[0].clone(), "restarted")
        .await?;
    assert!(moved.rows(&cluster.masters[old]).await? == final_rows);
    other_slots_stay(&cluster, &moved).await
}

/// Everything but the slot that moved stays where it was.
async fn other_slots_stay(cluster: &Cluster, moved: &Moved) -> Result<()> {
    let (old, _) = moved.owners();
    for key in keys_of(old, 2, "others")
        .filter(|key| slot_of(key) != moved.slot)
        .take(100)
    {
        cluster.client().await?.put(key, "1").await?;
    }
    let others = table::rows(&cluster.masters[old]).await?;
    let stored = others.iter().filter(|row| row.key.starts_with("others"));
    assert_eq!(stored.count(), 100);
    Ok(())
}

/// Two shards that claim a slot with the same right: neither is served, and the operator is told.
async fn a_slot_with_two_equal_claims_is_served_by_neither(engine: Engine) -> Result<()> {
    let cluster = Cluster::of_two(engine, "").await?;
    let client = cluster.client().await?;
    let moved = Moved::new();
    let (_, new) = moved.owners();
    client.put(moved.keys[0].clone(), "before").await?;
    let claim = format!(
        "INSERT INTO slots (slot, state, slot_epoch, peer, attempt, since_epoch) \
         SELECT {}, 'owned', 1, NULL, 4711, epoch FROM shard",
        moved.slot
    );
    in_one_transaction(&mut cluster.masters[new].connect().await?, &claim).await?;
    until("the conflict to be seen", async || {
        Ok(client.put(moved.keys[0].clone(), "before").await.is_err())
    })
    .await?;
    match client.put(moved.keys[1].clone(), "during").await {
        Err(freehold_client::Error::Refused {
            code,
            reason,
            message,
        }) => {
            assert_eq!(code, tonic::Code::FailedPrecondition, "{message}");
            assert_eq!(reason, "MISCONFIGURED");
            assert!(
                message.contains("'a'") && message.contains("'b'"),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    let rows = moved.rows(&cluster.masters[moved.owners().0]).await?;
    assert!(rows.iter().all(|row| row.value != "during"), "{rows:?}");
    Ok(())
}

on_servers!(
    nothing_fails_when_the_epoch_changes,
    a_former_owner_gets_no_more_writes_ever,
    a_slot_with_two_equal_claims_is_served_by_neither,
);
