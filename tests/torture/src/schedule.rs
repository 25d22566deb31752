//! Which faults come when: a pure function of the seed.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::handover::SLOTS_MAX;
use crate::link::Mode;
use crate::moves::SLOTS_MAX as MOVED_MAX;
use crate::options::Kind;

/// Routers and shards of the cluster.
pub const ROUTERS: usize = 2;
/// Shards, each with replicas.
pub const SHARDS: usize = 2;

/// From the end of a master until everybody is where it belongs. What comes next does not wait for it.
const FAILOVER_TAKES: Duration = Duration::from_secs(4);

/// How a process is ended, or made to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL, and a new start.
    Kill,
    /// SIGSTOP, and SIGCONT.
    Freeze,
    /// SIGTERM, and a new start.
    Stop,
}

/// What keeps a replica behind its master while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// What it receives is not applied.
    Applier,
    /// It receives nothing.
    Receiver,
    /// Everything is applied one second late.
    Delayed,
}

/// A database server, by what it is when something happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which shard.
    pub shard: usize,
    /// 0 is whoever leads the shard then; the others follow in their order.
    pub rank: usize,
}

impl Place {
    /// Who leads a shard.
    pub fn leader(shard: usize) -> Self {
        Self { shard, rank: 0 }
    }

    /// Whether it copies another one.
    pub fn is_replica(self) -> bool {
        self.rank > 0
    }
}

/// Why a master is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// SIGKILL.
    Killed,
    /// SIGSTOP: it wakes up when another one leads.
    Frozen,
    /// No router reaches it, until another one leads.
    CutOff,
}

/// Something to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A router's process.
    Router(usize, Blow),
    /// A database's process.
    Server(Place, Blow),
    /// A master is started again read-only, and then as it was.
    ReadOnly(usize),
    /// A master has no connection left.
    Exhausted(usize),
    /// A replica falls behind.
    Behind(Place, Stall),
    /// The network from a router to a database.
    Network(usize, Place, Mode),
    /// The network from all clients to a router.
    Clients(usize, Mode),
    /// A shard gives slots that it owns then, from this one on, to the other.
    Handover(usize, u16),
    /// The command moves slots that the other shard owns then, from this one on, to a shard, with the
    /// config of a router; what becomes of the mover, and whether the move is taken back then.
    Move(usize, u16, usize, Option<Blow>, bool),
    /// A server's disk is full.
    FullDisk(Place),
    /// A server's disk is slow.
    SlowDisk(Place),
    /// A server's clock is so many seconds ahead.
    Clock(Place, i64),
    /// Another server of a shard is promoted. Whether the former master takes writes when it is
    /// back, before it becomes a replica.
    Failover(usize, Cause, bool),
}

/// When to break it, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// After the round began.
    pub at: Duration,
    /// How long it stays so, at least.
    pub lasts: Duration,
    /// What.
    pub fault: Fault,
}

/// Faults for a round: two tracks, so that they come alone and together. Each shard has so many
/// replicas.
pub fn draw(random: &mut StdRng, kinds: &[Kind], replicas: usize, round: Duration) -> Vec<Planned> {
    let mut all = Vec::new();
    // Where a clock was stepped, expiry can be checked to the hour: not in every round.
    let steps_clocks = kinds == [Kind::Clocks] || random.random_bool(0.2);
    let mut kinds = kinds.to_vec();
    kinds.retain(|kind| steps_clocks || *kind != Kind::Clocks);
    for track in 0..2 {
        let mut at = Duration::from_millis(random.random_range(300..1_500) * (track + 1));
        // The last one is over when the round is.
        while at + Duration::from_millis(2_500) < round {
            let Some(kind) = kinds.choose(random) else {
                break;
            };
            let fault = fault(random, *kind, replicas);
            let lasts = Duration::from_millis(random.random_range(lasts_ms(&fault)));
            all.push(Planned { at, lasts, fault });
            let pause = random.random_range(300..1_500) * (track * 2 + 1);
            at += lasts + Duration::from_millis(pause);
            if matches!(fault, Fault::Failover(..)) {
                at += FAILOVER_TAKES;
            }
        }
    }
    all.sort_by_key(|planned| planned.at);
    all
}

fn lasts_ms(fault: &Fault) -> Range<u64> {
    match fault {
        // Restarts take their own time.
        Fault::Router(_, Blow::Kill | Blow::Stop) | Fault::Server(_, Blow::Kill | Blow::Stop) => {
            0..500
        }
        Fault::Network(_, _, Mode::CutReplies) | Fault::Clients(_, Mode::CutReplies) => 100..800,
        Fault::Handover(..) => 0..10,
        // Into a move, which takes about as long.
        Fault::Move(..) => 100..4_000,
        _ => 200..2_400,
    }
}

fn fault(random: &mut StdRng, kind: Kind, replicas: usize) -> Fault {
    let blow = *[Blow::Kill, Blow::Freeze, Blow::Stop]
        .choose(random)
        .unwrap_or(&Blow::Kill);
    let shard = random.random_range(0..SHARDS);
    let router = random.random_range(0..ROUTERS);
    let is_replica = match kind {
        Kind::Replicas => true,
        Kind::Network => random.random_bool(0.2),
        Kind::FullDisks | Kind::SlowDisks | Kind::Clocks => random.random_bool(0.4),
        _ => false,
    };
    let rank = match is_replica {
        true => random.random_range(1..=replicas),
        false => 0,
    };
    let place = Place { shard, rank };
    match kind {
        Kind::Routers => Fault::Router(router, blow),
        Kind::Masters => match random.random_range(0..5) {
            0 => Fault::ReadOnly(shard),
            1 => Fault::Exhausted(shard),
            _ => Fault::Server(place, blow),
        },
        Kind::Replicas => match random.random_range(0..6) {
            0 => Fault::Behind(place, Stall::Applier),
            1 => Fault::Behind(place, Stall::Receiver),
            2 => Fault::Behind(place, Stall::Delayed),
            _ => Fault::Server(place, blow),
        },
        Kind::Network => Fault::Network(router, place, mode(random)),
        Kind::Clients => Fault::Clients(router, mode(random)),
        Kind::Handovers => Fault::Handover(shard, random.random_range(0..=u16::MAX - SLOTS_MAX)),
        Kind::Moves => {
            let blow = random.random_bool(0.8).then_some(blow);
            let first = random.random_range(0..=u16::MAX - MOVED_MAX);
            Fault::Move(shard, first, router, blow, random.random_bool(0.5))
        }
        Kind::FullDisks => Fault::FullDisk(place),
        Kind::SlowDisks => Fault::SlowDisk(place),
        Kind::Clocks => {
            let ahead_s = if random.random_bool(0.5) {
                3_600
            } else {
                -3_600
            };
            Fault::Clock(place, ahead_s)
        }
        Kind::Failovers => {
            let causes = [Cause::Killed, Cause::Frozen, Cause::CutOff];
            let cause = *causes.choose(random).unwrap_or(&Cause::Killed);
            Fault::Failover(shard, cause, random.random_bool(0.5))
        }
    }
}

fn mode(random: &mut StdRng) -> Mode {
    match random.random_range(0..8) {
        0 => Mode::Slow(Duration::from_millis(random.random_range(5..200))),
        1 => Mode::Narrow(random.random_range(2_000..200_000)),
        2 => Mode::KeepRequests,
        3 => Mode::KeepReplies,
        4 => Mode::KeepAll,
        5 => Mode::Gone,
        _ => Mode::CutReplies,
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rank {
            0 => write!(f, "master {}", self.shard),
            rank => write!(f, "replica {rank} of {}", self.shard),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router(router, blow) => write!(f, "router {router}: {blow:?}"),
            Self::Server(place, blow) => write!(f, "{place}: {blow:?}"),
            Self::ReadOnly(shard) => write!(f, "master {shard}: ReadOnly"),
            Self::Exhausted(shard) => write!(f, "master {shard}: Exhausted"),
            Self::Behind(place, stall) => write!(f, "{place}: {stall:?}"),
            Self::Network(router, place, mode) => {
                write!(f, "network of router {router} to {place}: {mode:?}")
            }
            Self::Handover(shard, first) => {
                write!(f, "shard {shard} gives away slots from {first} on")
            }
            Self::Move(to, first, router, blow, cancels) => {
                let end = if *cancels { "cancelled" } else { "resumed" };
                let names =
                    format!("slots from {first} on to shard {to} as router {router} has it");
                match blow {
                    None => write!(f, "moves {names}"),
                    Some(blow) => write!(f, "moves {names}: {blow:?}, {end}"),
                }
            }
            Self::FullDisk(place) => write!(f, "{place}: its disk is full"),
            Self::SlowDisk(place) => write!(f, "{place}: its disk is slow"),
            Self::Clock(place, ahead_s) => write!(f, "{place}: its clock is {ahead_s:+} s ahead"),
            Self::Failover(shard, cause, is_open) => {
                let back = if *is_open { "open" } else { "closed" };
                write!(f, "master {shard}: {cause:?} and replaced, back {back}")
            }
            Self::Clients(router, mode) => {
                write!(f, "network of clients to router {router}: {mode:?}")
            }
        }
    }
}

impl Fault {
    /// What is counted together: the fault without its target and its numbers.
    pub fn family(&self) -> String {
        let name = |mode: &Mode| {
            let name = format!("{mode:?}");
            name.split('(').next().unwrap_or_default().to_owned()
        };
        let role = |place: &Place| match place.is_replica() {
            true => "replica",
            false => "master",
        };
        match self {
            Self::Router(_, blow) => format!("router {blow:?}"),
            Self::Server(place, blow) => format!("{} {blow:?}", role(place)),
            Self::ReadOnly(_) => "master ReadOnly".to_owned(),
            Self::Exhausted(_) => "master Exhausted".to_owned(),
            Self::Behind(_, stall) => format!("replica {stall:?}"),
            Self::Network(_, _, mode) => format!("network {}", name(mode)),
            Self::Clients(_, mode) => format!("clients {}", name(mode)),
            Self::Handover(..) => "handover".to_owned(),
            Self::Move(_, _, _, None, _) => "move".to_owned(),
            Self::Move(_, _, _, Some(blow), cancels) => {
                let end = if *cancels { "cancelled" } else { "resumed" };
                format!("move {blow:?} {end}")
            }
            Self::FullDisk(place) => format!("{} FullDisk", role(place)),
            Self::SlowDisk(place) => format!("{} SlowDisk", role(place)),
            Self::Clock(place, ahead_s) if *ahead_s > 0 => format!("{} ClockAhead", role(place)),
            Self::Clock(place, _) => format!("{} ClockBehind", role(place)),
            Self::Failover(_, cause, _) => format!("failover {cause:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng as _;

    use super::*;

    fn drawn(seed: u64) -> Vec<Planned> {
        let mut random = StdRng::seed_from_u64(seed);
        draw(&mut random, &Kind::ALL, 2, Duration::from_secs(20))
    }

    #[test]
    fn a_seed_says_everything() {
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn every_fault_comes_sooner_or_later() {
        let families: BTreeSet<String> = (0..200)
            .flat_map(drawn)
            .map(|planned| planned.fault.family())
            .collect();
        // 3 of routers, 5 of masters, 6 of replicas, 7 of each network, hand-overs, 7 moves, 2 disks and
        // 2 clocks of masters and replicas, 3 failovers.
        assert_eq!(families.len(), 47, "{families:?}");
    }
}
