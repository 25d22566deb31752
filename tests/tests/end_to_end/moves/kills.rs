//! Whoever a move needs is killed at every step of it, and comes back. Nobody has to do anything: the
//! mover itself goes on, or a router does.

use std::{collections::BTreeMap, time::Duration};

use freehold_core::moving::Aim;
use freehold_mover::{MoveError, Point};
use freehold_tests::{Engine, Server};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Busy, WITHIN,
    held::{Held, kill_at},
    plan,
    probes::Probes,
    slots,
};
use crate::{
    failover::kills::shares,
    scene::{Result, cases, seed, until},
};

/// Less than the default, so that the test need not wait, and longer than a busy machine keeps a mover
/// from its beats.
const IMPATIENT: &str = "[mover]\nabandoned_after_ms = 2500\n";

/// How long a move may go on after whoever was killed is back. What takes longer is counted, because
/// it says more of what else the machine does.
const ENDED_WITHIN: Duration = Duration::from_secs(30);

/// How long a slot may take no writes besides the time in which somebody was away; likewise.
const UNOWNED_MAX: Duration = Duration::from_secs(5);

const AWAY_MS_MAX: u64 = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Mover,
    Router,
    OtherRouter,
    Source,
    Target,
}

const VICTIMS: [Victim; 5] = [
    Victim::Mover,
    Victim::Router,
    Victim::OtherRouter,
    Victim::Source,
    Victim::Target,
];

/// What came of one kind of victim.
#[derive(Debug, Default)]
struct Sum {
    until_ended: Vec<Duration>,
    unowned: Vec<Duration>,
}

struct Scene {
    busy: Busy,
    /// Who has the slots.
    owner: usize,
    id: u64,
    random: StdRng,
    sums: BTreeMap<Victim, Sum>,
}

impl Scene {
    async fn strike(&mut self, victim: Victim, point: Point) -> Result<()> {
        self.id += 1;
        let (all, id, when) = (slots(), self.id, format!("{victim:?} at {point:?}"));
        let (mut aim, mut owner, mut state) = (Aim::Move, 1 - self.owner, "done");
        if point >= Point::Returned {
            let killed = self.busy.mover(self.owner, self.random.random())?;
            kill_at(killed, id, &all, Aim::Move, Point::Verified).await?;
            (aim, owner, state) = (Aim::Cancel, self.owner, "cancelled");
        }
        let mover = self.busy.mover(self.owner, self.random.random())?;
        let held = Held::at(mover, id, &all, aim, point).await?;
        let survivor = match victim {
            Victim::Router => &self.busy.other,
            _ => &self.busy.cluster.router,
        };
        let probes = Probes::start(survivor, &format!("probe{id}")).await?;

        let away = Duration::from_millis(self.random.random_range(0..AWAY_MS_MAX));
        let killed = Instant::now();
        let run = match victim {
            Victim::Mover => {
                held.kill().await;
                None
            }
            _ => {
                self.kill(victim);
                Some(held.go_on())
            }
        };
        match run {
            None => self.until_taken_over(id).await?,
            Some(_) => {
                sleep(away).await;
                self.start_again(victim).await?;
            }
        }
        let outage = killed.elapsed();
        let back = Instant::now();
        self.until_is(id, state)
            .await
            .map_err(|error| format!("{when}: {error}"))?;
        let ended = back.elapsed();
        if let Some(run) = run {
            let ended = timeout(WITHIN, run).await??;
            let harmless =
                |error: &MoveError| error.passes() || matches!(error, MoveError::TakenOver);
            assert!(
                ended.as_ref().err().is_none_or(harmless),
                "{when}: {ended:?}"
            );
        }
        self.owner = owner;
        self.busy.are_settled_at(owner, &when).await?;
        let unowned = probes.stop().await.saturating_sub(outage);
        println!(
            "{when}: {state} {ended:?} after it was back, which took {outage:?}; no writes for \
             {unowned:?} besides"
        );
        let sum = self.sums.entry(victim).or_default();
        sum.until_ended.push(ended);
        sum.unowned.push(unowned);
        self.busy.goes_on().await
    }

    fn server(&mut self, victim: Victim) -> &mut Server {
        let place = match victim {
            Victim::Source => self.owner,
            _ => 1 - self.owner,
        };
        &mut self.busy.cluster.masters[place]
    }

    fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Router => self.busy.cluster.router.kill(),
            Victim::OtherRouter => self.busy.other.kill(),
            _ => self.server(victim).kill(),
        }
    }

    async fn start_again(&mut self, victim: Victim) -> Result<()> {
        match victim {
            Victim::Router => self.busy.cluster.router.serve().await?,
            Victim::OtherRouter => self.busy.other.serve().await?,
            _ => self.server(victim).start_again().await?,
        }
        Ok(())
    }

    /// A router runs the move.
    async fn until_taken_over(&self, id: u64) -> Result<()> {
        let query =
            format!("SELECT COUNT(*) FROM moves WHERE id = {id} AND mover NOT LIKE 'test %'");
        let mut sql = self.busy.cluster.masters[self.owner].connect().await?;
        until("a router to go on with the move", async || {
            Ok(sql.one::<u64>(&query).await? == 1)
        })
        .await
    }

    /// Both shards have written down that the move is over.
    async fn until_is(&self, id: u64, state: &str) -> Result<()> {
        let query = format!("SELECT COUNT(*) FROM moves WHERE id = {id} AND state = '{state}'");
        for master in &self.busy.cluster.masters {
            let mut sql = master.connect().await?;
            until("the move to be over", async || {
                Ok(sql.one::<u64>(&query).await? == 1)
            })
            .await?;
        }
        Ok(())
    }
}

fn longer(times: &[Duration], than: Duration) -> usize {
    times.iter().filter(|time| **time > than).count()
}

async fn a_move_ends_whoever_is_killed_at_whatever_step(engine: Engine) -> Result<()> {
    let seed = seed();
    let mut scene = Scene {
        busy: Busy::replicated(engine, IMPATIENT, &plan(seed)).await?,
        owner: 0,
        id: 0,
        random: StdRng::seed_from_u64(seed),
        sums: BTreeMap::new(),
    };
    for (number, victim) in (0..).zip(VICTIMS) {
        for point in cases(&Point::ALL, 1, seed.wrapping_add(number)) {
            scene.strike(victim, point).await?;
        }
    }
    println!("{engine}: killed at the steps of a move");
    for (victim, sum) in &mut scene.sums {
        println!(
            "  {victim:?}, {} times\n    from its return to the end of the move: {}; {} longer than \
             {ENDED_WITHIN:?}\n    no writes to a slot besides the outage: {}; {} longer than \
             {UNOWNED_MAX:?}",
            sum.unowned.len(),
            shares(&mut sum.until_ended),
            longer(&sum.until_ended, ENDED_WITHIN),
            shares(&mut sum.unowned),
            longer(&sum.unowned, UNOWNED_MAX)
        );
    }
    scene.busy.ended_after_faults().await.map(drop)
}

on_servers!(a_move_ends_whoever_is_killed_at_whatever_step);
