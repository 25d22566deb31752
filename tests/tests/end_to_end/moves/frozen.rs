//! A router that is frozen while slots change their owner: what it was asked before, and what it is
//! asked meanwhile, is never applied where the slots were.
//!
//! On a busy machine it may be frozen for longer than some of its time limits, and tells so when it
//! wakes up. What is acknowledged counts.

use std::{collections::BTreeMap, time::Duration};

use freehold_core::moving::Aim;
use freehold_mover::Point;
use freehold_tests::{Engine, Server};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{ALONE, Busy, SLOTS_SQL, WITHIN, held::Held, plan, probes::moving_keys, slots};
use crate::{
    history::Ending,
    load::of_error,
    scene::{Result, asked, cases, client, seed},
};

/// Where the router is frozen: before the change, in it, and after.
const POINTS: [Point; 11] = [
    Point::Announced,
    Point::PageCopied,
    Point::Copied,
    Point::Drained,
    Point::Verified,
    Point::Fenced,
    Point::LastDrained,
    Point::Reached,
    Point::GivenAway,
    Point::GoneEverywhere,
    Point::Opened,
];

/// How many of them CI draws.
const POINTS_IN_CI: usize = 6;

/// Late writes at each point.
const WRITES: usize = 32;

/// How long writes are under way before the freeze, at most.
const UNDER_WAY_MS_MAX: u64 = 20;

struct Scene {
    busy: Busy,
    /// Who has the slots.
    owner: usize,
    id: u64,
    random: StdRng,
    writes: usize,
    acknowledged: usize,
    refused: usize,
    unknown: usize,
}

impl Scene {
    async fn freeze_at(&mut self, point: Point) -> Result<()> {
        self.id += 1;
        let (all, id, when) = (slots(), self.id, format!("frozen at {point:?}"));
        let prefix = format!("late{id}");
        let keys: Vec<String> = moving_keys(&prefix).take(self.writes).collect();
        let late = client(&self.busy.other).await?;
        let mut writes = JoinSet::new();
        let mut write = |keys: &[String]| {
            for key in keys {
                let key = key.clone();
                let put = late.put(key.clone(), key.clone()).timeout(WITHIN);
                writes.spawn(async move { (key, put.await) });
            }
        };
        let mover = self.busy.mover(self.owner, self.random.random())?;
        let held = Held::at(mover, id, &all, Aim::Move, point).await?;
        let (before, meanwhile) = keys.split_at(keys.len() / 2);
        write(before);
        // So that what was sent is anywhere between the router and the row.
        let under_way = self.random.random_range(0..UNDER_WAY_MS_MAX);
        sleep(Duration::from_millis(under_way)).await;
        self.busy.other.freeze()?;
        write(meanwhile);
        let moved = timeout(WITHIN, held.go_on()).await???.moved;
        assert_eq!(moved, all, "{when}");
        self.owner = 1 - self.owner;
        self.busy.are_settled_at(self.owner, &when).await?;
        self.busy.other.thaw()?;
        let written = timeout(2 * WITHIN, writes.join_all()).await?;
        // No row of them is where they were, and each is where they are.
        self.busy.are_settled_at(self.owner, &when).await?;
        let stored = stored(&self.busy.cluster.masters[self.owner], &prefix).await?;
        for (key, written) in written {
            let value = stored.get(key.as_bytes());
            let is_there = value.is_some_and(|value| *value == key.as_bytes());
            match written.map_err(|error| of_error(&error)) {
                Ok(_) => {
                    assert!(is_there, "{when}: {key} was acknowledged");
                    self.acknowledged += 1;
                }
                Err((Ending::NotApplied, words)) => {
                    assert!(!is_there, "{when}: {key}: {words}");
                    self.refused += 1;
                }
                Err(_) => self.unknown += 1,
            }
        }
        self.busy.goes_on().await
    }
}

/// The late writes that a master has.
async fn stored(master: &Server, prefix: &str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let query =
        format!("SELECT `key`, value FROM store WHERE `key` LIKE '{prefix}:%' AND {SLOTS_SQL}");
    let rows: Vec<(Vec<u8>, Vec<u8>)> = master.connect().await?.rows(&query).await?;
    Ok(rows.into_iter().collect())
}

async fn a_router_frozen_at_any_step_writes_nothing_to_the_former_owner(
    engine: Engine,
) -> Result<()> {
    let seed = seed();
    let mut scene = Scene {
        busy: Busy::replicated(engine, ALONE, &plan(seed)).await?,
        owner: 0,
        id: 0,
        random: StdRng::seed_from_u64(seed),
        writes: asked("FREEHOLD_TEST_WRITES").unwrap_or(WRITES),
        acknowledged: 0,
        refused: 0,
        unknown: 0,
    };
    let points = cases(&POINTS, POINTS_IN_CI, seed);
    for point in &points {
        scene.freeze_at(*point).await?;
    }
    println!(
        "{engine}: a router frozen {} times, with {} late writes each: {} acknowledged, all of them \
         with the new owner; {} refused, {} unknown; 0 on the former owner; at {points:?}",
        points.len(),
        scene.writes,
        scene.acknowledged,
        scene.refused,
        scene.unknown
    );
    assert!(scene.acknowledged > 0, "nothing was shown");
    let of_both = scene.busy.ended_after_faults().await?;
    assert_eq!(
        of_both[0].failures,
        [].into(),
        "nothing fails on the other router"
    );
    Ok(())
}

on_servers!(a_router_frozen_at_any_step_writes_nothing_to_the_former_owner);
