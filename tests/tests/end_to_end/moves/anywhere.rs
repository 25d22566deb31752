//! Movers that end, or fall asleep, at every step: somebody else goes on with the move, or takes it
//! back, and whoever wakes up later can do nothing any more.

use freehold_core::moving::Aim;
use freehold_mover::{MoveError, Mover, Point};
use freehold_tests::Engine;
use tokio::time::timeout;

use super::{
    ALONE, Busy, WITHIN,
    held::{Held, kill_at},
    plan, slots,
};
use crate::scene::{Result, is_full, rounds, seed};

/// What was done.
#[derive(Debug, Default)]
struct Sum {
    resumed: usize,
    cancelled: usize,
    /// Of both: how many movers only slept.
    woken: usize,
}

struct Scene {
    busy: Busy,
    /// Who has the slots.
    owner: usize,
    seed: u64,
    id: u64,
    sum: Sum,
}

impl Scene {
    /// A new number, of a mover or a move.
    fn next(&mut self) -> u64 {
        self.id += 1;
        self.seed.wrapping_add(self.id)
    }

    /// A new mover.
    fn mover_from(&mut self, source: usize) -> Result<Mover> {
        let seed = self.next();
        self.busy.mover(source, seed)
    }

    async fn end_of(&mut self, point: Point, aim: Aim, sleeps: bool) -> Result<()> {
        let when = format!("{point:?} {aim:?} sleeps={sleeps}");
        let (all, id) = (slots(), self.next());
        let mut its_aim = Aim::Move;
        if point >= Point::Returned {
            let killed = self.mover_from(self.owner)?;
            kill_at(killed, id, &all, Aim::Move, Point::Verified).await?;
            its_aim = Aim::Cancel;
        }
        let first = self.mover_from(self.owner)?;
        let held = Held::at(first, id, &all, its_aim, point).await?;
        let asleep = match sleeps {
            true => Some(held),
            false => {
                held.kill().await;
                None
            }
        };
        let later = self.mover_from(self.owner)?;
        let outcome = timeout(WITHIN, later.run(id, &all, aim)).await??;
        println!("{when}: {} slots moved", outcome.moved.len());
        let mut owner = self.owner;
        match aim {
            Aim::Move => {
                assert_eq!(outcome.moved, all, "{when}");
                self.sum.resumed += 1;
                owner = 1 - owner;
            }
            Aim::Cancel => {
                // The first batch may have its new owner, and the others are where they were.
                let late = (Point::GivenAway..Point::Returned).contains(&point);
                assert_eq!(outcome.moved.is_empty(), !late, "{when}");
                self.sum.cancelled += 1;
            }
        }
        if let Some(asleep) = asleep {
            let woken = timeout(WITHIN, asleep.go_on()).await??;
            assert!(
                matches!(woken, Err(MoveError::TakenOver)),
                "{when}: {woken:?}"
            );
            self.sum.woken += 1;
        }
        if aim == Aim::Cancel && !outcome.moved.is_empty() {
            let back = self.mover_from(1 - owner)?;
            let id = self.next();
            timeout(WITHIN, back.run(id, &outcome.moved, Aim::Move)).await??;
        }
        self.owner = owner;
        self.busy.are_settled_at(owner, &when).await?;
        self.busy.goes_on().await
    }
}

async fn a_mover_killed_anywhere_is_resumed_or_cancelled_under_load(engine: Engine) -> Result<()> {
    let seed = seed();
    let mut scene = Scene {
        busy: Busy::replicated(engine, ALONE, &plan(seed)).await?,
        owner: 0,
        seed,
        id: 0,
        sum: Sum::default(),
    };
    let ways = [Aim::Move, Aim::Cancel];
    // In a round each step is once resumed and once cancelled; in CI one of the two.
    let turns = if is_full() { 2 * rounds(1) } else { 1 };
    for turn in 0..turns {
        for (number, point) in Point::ALL.into_iter().enumerate() {
            // A cancel is not turned into a move again.
            let aim = match point >= Point::Returned {
                true => Aim::Cancel,
                false => ways[(number + turn) % 2],
            };
            let sleeps = (number / 2 + turn / 2) % 2 == 1;
            scene.end_of(point, aim, sleeps).await?;
        }
    }
    println!(
        "{engine}: movers stopped at {} steps: {:?}; nothing of a move is left",
        turns * Point::ALL.len(),
        scene.sum
    );
    scene.busy.end().await
}

on_servers!(a_mover_killed_anywhere_is_resumed_or_cancelled_under_load);
