//! One slot changes its owner again and again while many write to it without pause.

use std::time::Duration;

use freehold_core::{SlotSet, moving::Aim};
use freehold_mover::Pause;
use freehold_tests::Engine;
use tokio::time::timeout;

use super::{ALONE, Busy, WITHIN};
use crate::{
    failover::kills::shares,
    load::Plan,
    scene::{Result, is_full, rounds, seed, slot_of},
};

/// Changes of the owner in a round.
const CHANGES: usize = 20;

/// And in CI.
const CHANGES_IN_CI: usize = 4;

/// Of both routers.
const CALLERS: usize = 64;

/// What all keys begin with, so that they are in one slot.
const TAG: &str = "{moving}";

async fn callers_of_a_slot_that_moves_again_and_again_wait_and_lose_nothing(
    engine: Engine,
) -> Result<()> {
    let seed = seed();
    let plan = Plan {
        timeout: WITHIN,
        unary: CALLERS / 4,
        pipelined: CALLERS / 4,
        // Replicas have to follow.
        pause: Duration::from_millis(20),
        ..Plan::new(TAG, seed)
    };
    let busy = Busy::replicated(engine, ALONE, &plan).await?;
    let slot = slot_of(TAG);
    let slots: SlotSet = slot.to_string().parse()?;
    // As `init` dealt them out.
    let mut owner = usize::from(slot > u16::MAX / 2);
    let changes = match is_full() {
        true => CHANGES * rounds(1),
        false => CHANGES_IN_CI,
    };
    let mut pauses = Vec::new();
    for change in 0..changes {
        let mover = busy.mover(owner, seed.wrapping_add(change as u64))?;
        let moved = timeout(WITHIN, mover.run(change as u64 + 1, &slots, Aim::Move)).await??;
        assert_eq!(moved.moved, slots);
        pauses.extend(moved.progress.pauses);
        owner = 1 - owner;
    }
    let mut longest = Vec::new();
    for outcome in busy.ended().await? {
        longest.extend(outcome.longest_of_each);
    }
    assert_eq!(longest.len(), CALLERS);
    println!(
        "{engine}: {changes} changes of owner of a slot that {CALLERS} callers write to without \
         pause: nothing failed, nothing lost\n  each caller's longest wait: {}",
        shares(&mut longest)
    );
    println!("    of each of them: {longest:?}");
    print_pauses(&pauses);
    Ok(())
}

fn print_pauses(pauses: &[Pause]) {
    let print = |what: &str, part: fn(&Pause) -> Duration| {
        let mut parts: Vec<Duration> = pauses.iter().map(part).collect();
        println!("    {what}: {}", shares(&mut parts));
    };
    println!("  {} pauses of writes, as movers saw them", pauses.len());
    print("whole", Pause::whole);
    print("fence", |pause| pause.fence);
    print("drain", |pause| pause.drain);
    print("replicas", |pause| pause.replicas);
    print("opening", |pause| pause.opening);
}

on_servers!(callers_of_a_slot_that_moves_again_and_again_wait_and_lose_nothing);
