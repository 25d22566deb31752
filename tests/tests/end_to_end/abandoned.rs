//! Moves whose mover died: routers go on with them by themselves.

use freehold_core::{SlotSet, moving::Aim};
use freehold_mover::{MoveError, Point};
use freehold_tests::{Engine, Router};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::{
    moves::{Busy, SLOTS, WITHIN, has, kill_at, plan, slots},
    scene::{Cluster, Result, seed, shards, until},
};

/// Less than the default, so that the test need not wait, and longer than a busy machine keeps a mover
/// from its beats.
const IMPATIENT: &str = "[mover]\nabandoned_after_ms = 2500\n";

/// The record of a move, as `freehold moves` shows it.
async fn record(router: &Router, id: u64) -> Result<Value> {
    let list = router.admin_cli(&["--json", "moves"]).await?.success()?;
    let list: Value = serde_json::from_str(&list)?;
    let id = format!("{id:016x}");
    let moves = list["moves"].as_array().expect("moves");
    let found = moves.iter().find(|record| record["id"] == *id);
    Ok(found.cloned().unwrap_or_default())
}

async fn until_is(router: &Router, id: u64, state: &str) -> Result<Value> {
    until(&format!("the move to be {state}"), async || {
        Ok(record(router, id).await?["state"] == state)
    })
    .await?;
    record(router, id).await
}

async fn a_move_whose_mover_died_is_ended_by_a_router(engine: Engine) -> Result<()> {
    let cluster = Cluster::of_two(engine, IMPATIENT).await?;
    let on = shards(&cluster.masters);
    let mut seed = seed();
    let busy = Busy::start(cluster, &on, IMPATIENT, &plan(seed)).await?;
    let masters = &busy.cluster.masters;
    let router = &busy.cluster.router;
    let all = slots();

    // One that somebody stopped waits for somebody's word.
    let stopped = busy.mover(0, seed)?;
    stopped.stop();
    let paused: SlotSet = "1000-1001".parse()?;
    let ended = timeout(WITHIN, stopped.run(1, &paused, Aim::Move)).await?;
    assert!(matches!(ended, Err(MoveError::Interrupted)), "{ended:?}");

    for (id, point, aim) in [
        // Writes wait.
        (2, Point::Fenced, Aim::Move),
        // Nobody owns the slots.
        (3, Point::GivenAway, Aim::Move),
        (4, Point::Returned, Aim::Cancel),
    ] {
        seed = seed.wrapping_add(3);
        if aim == Aim::Cancel {
            kill_at(busy.mover(0, seed)?, id, &all, Aim::Move, Point::Verified).await?;
        }
        kill_at(busy.mover(0, seed + 1)?, id, &all, aim, point).await?;
        let killed = Instant::now();
        let (state, owner, other) = match aim {
            Aim::Move => ("done", 1, 0),
            Aim::Cancel => ("cancelled", 0, 1),
        };
        let ended = until_is(router, id, state).await?;
        println!(
            "{point:?}, {aim:?}: {state} {:?} after it died",
            killed.elapsed()
        );
        assert!(
            ended["mover"]
                .as_str()
                .is_some_and(|by| by.contains("process")),
            "{ended}"
        );
        assert_eq!(ended["slots"], SLOTS, "{ended}");
        assert_eq!(has(&masters[owner]).await?.0, all.len() as u64, "{point:?}");
        assert_eq!(has(&masters[other]).await?, (0, 0, 0), "{point:?} {aim:?}");
        busy.goes_on().await?;
        if aim == Aim::Move {
            let back = busy.mover(1, seed + 2)?;
            timeout(WITHIN, back.run(id + 100, &all, Aim::Move)).await??;
        }
    }
    let (_, one) = router.http_get("/metrics").await?;
    let (_, other) = busy.other.http_get("/metrics").await?;
    let picked_up = [one, other].map(|text| counter(&text, "freehold_mover_picked_up_total"));
    assert!(picked_up.iter().sum::<u64>() >= 3, "{picked_up:?}");
    assert_eq!(record(router, 1).await?["state"], "stopped");
    // Until then its slots are in no other move, whoever begins one.
    let other = ["move", "--slots", "1000", "--to", "b", "--yes"];
    let other = router.with_config(&other).await?;
    assert_eq!(other.code, Some(3), "{}", other.stderr);
    assert!(
        other
            .stderr
            .contains("move 0000000000000001 from 'a' to 'b' is about 1000 and is open"),
        "{}",
        other.stderr
    );
    let id = format!("{:016x}", 1);
    let cancelled = router
        .admin_cli(&["moves", "--cancel", "--id", &id])
        .await?
        .success()?;
    assert!(cancelled.contains(&id), "{cancelled}");
    until_is(router, 1, "cancelled").await?;
    let unknown = ["moves", "--resume", "--id", &id];
    let unknown = router.admin_cli(&unknown).await?;
    assert!(
        unknown.stderr.contains("no move that is open has the id"),
        "{}",
        unknown.stderr
    );
    busy.end().await
}

/// A counter without labels.
fn counter(text: &str, name: &str) -> u64 {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or(0)
}

on_servers!(a_move_whose_mover_died_is_ended_by_a_router);
