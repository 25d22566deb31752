//! What the model is about: two shards, their servers' tables, and what is in their binlogs.

use freehold_core::{SlotState, moving::SlotRow};

use crate::{
    guards::{Guard, Guards},
    mover::{LOST, Mover},
    routers::Belief,
};

/// Transactions by which a replica may lag. With one more, the oldest arrives.
pub(crate) const LAG_MAX: usize = 4;

/// A shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::A, Self::B];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// One server's tables, as far as one slot with one key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tables {
    pub(crate) row: Option<SlotRow<Side>>,
    /// The key's value; 0: there is no live row.
    pub(crate) value: u8,
    /// `n` of the key's log entry; 0: there is none.
    pub(crate) logged: u8,
    /// The server that the fence names.
    pub(crate) server: u8,
    pub(crate) term: u8,
    pub(crate) stamp: u8,
}

impl Tables {
    pub(crate) fn state(&self) -> Option<SlotState> {
        self.row.map(|row| row.state)
    }
}

/// A shard's two servers, of which one leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shard {
    /// Which server leads, 0 or 1.
    pub(crate) leader: u8,
    pub(crate) master: Tables,
    /// What the other server has at least; while it is away, that with which it comes back.
    pub(crate) replica: Tables,
    /// Whether the other server follows, so that it may be promoted, and can say what it has.
    pub(crate) follows: bool,
    /// The master's tables after each transaction that the replica may not have yet. How many it has
    /// is decided where it first matters: when it is promoted, or when somebody waits for it.
    pub(crate) tail: Vec<Tables>,
    /// Whether the adopter of this leader has drawn a new attempt for the peer.
    pub(crate) has_stopped_peer: bool,
}

impl Shard {
    /// Whether the leader takes writes: it was adopted, or led from the beginning.
    pub(crate) fn is_adopted(&self) -> bool {
        self.master.server == self.leader
    }
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct System {
    pub(crate) shards: [Shard; 2],
    pub(crate) movers: [Mover; 2],
    /// What the router believes that may be late by any time; the other one is never late.
    pub(crate) belief: Option<Belief>,
    /// What a reader must find: the last write that was acknowledged, unless a failover took it.
    pub(crate) truth: u8,
    /// Where in a shard's tail that write is, if its replica has it not yet.
    pub(crate) truth_in: Option<(Side, u8)>,
    pub(crate) writes: u8,
    pub(crate) failovers: u8,
    pub(crate) starts: u8,
}

impl System {
    pub(crate) fn shard(&self, side: Side) -> &Shard {
        &self.shards[side.index()]
    }

    pub(crate) fn tables(&self, side: Side) -> &Tables {
        &self.shard(side).master
    }

    /// Commits one transaction on a shard's leader.
    pub(crate) fn commit(&mut self, side: Side, change: impl FnOnce(&mut Tables)) {
        let shard = &mut self.shards[side.index()];
        let before = shard.master;
        change(&mut shard.master);
        if shard.master == before {
            return;
        }
        shard.tail.push(shard.master);
        if shard.tail.len() > LAG_MAX {
            self.replicate(side);
        }
    }

    /// The replica has one transaction more.
    pub(crate) fn replicate(&mut self, side: Side) {
        let shard = &mut self.shards[side.index()];
        shard.replica = shard.tail.remove(0);
        self.truth_in = match self.truth_in {
            Some((at, place)) if at == side => place.checked_sub(1).map(|place| (at, place)),
            other => other,
        };
        for mover in &mut self.movers {
            let behind = &mut mover.behind[side.index()];
            if *behind != LOST {
                *behind = behind.saturating_sub(1);
            }
        }
    }

    /// The replica has everything.
    pub(crate) fn catch_up(&mut self, side: Side) {
        while !self.shard(side).tail.is_empty() {
            self.replicate(side);
        }
    }

    /// The leader dies, and its replica, which has so many transactions of the tail, leads.
    pub(crate) fn promote(&mut self, side: Side, arrived: u8) {
        for _ in 0..arrived {
            self.replicate(side);
        }
        let shard = &mut self.shards[side.index()];
        shard.master = shard.replica;
        shard.leader = 1 - shard.leader;
        shard.follows = false;
        shard.tail.clear();
        shard.has_stopped_peer = false;
        for mover in &mut self.movers {
            let behind = &mut mover.behind[side.index()];
            *behind = if *behind > 0 { LOST } else { 0 };
        }
        // Asynchronous replication may lose what it had not sent: that is not the move's doing.
        if self.truth_in.is_some_and(|(at, _)| at == side) {
            self.truth = self.shards[side.index()].master.value;
            self.truth_in = None;
        }
        self.failovers += 1;
    }

    /// A write that a router was told is applied.
    pub(crate) fn write(&mut self, side: Side, logs: bool) {
        self.writes += 1;
        // Every second one is a DELETE.
        let value = self.writes * (self.writes % 2);
        self.commit(side, |tables| {
            tables.value = value;
            tables.logged += u8::from(logs);
        });
        self.truth = value;
        let place = self.shard(side).tail.len() as u8;
        self.truth_in = place.checked_sub(1).map(|place| (side, place));
    }

    /// A number that is nowhere: stands for a random one. Numbers are given out anew in each state,
    /// in the order in which they stand there, so that only which of them are equal counts.
    pub(crate) fn rename(&mut self, guards: Guards) {
        let mut attempts = Renaming::of(guards.holds(Guard::AttemptsAreRandom));
        let mut stamps = Renaming::of(guards.holds(Guard::StampsAreRandom));
        for shard in &mut self.shards {
            let all = shard.tail.iter_mut();
            for tables in all.chain([&mut shard.master, &mut shard.replica]) {
                stamps.rename(&mut tables.stamp);
                if let Some(row) = &mut tables.row {
                    let mut attempt = row.attempt as u8;
                    attempts.rename(&mut attempt);
                    row.attempt = attempt.into();
                }
            }
        }
        for mover in &mut self.movers {
            for attempt in &mut mover.attempts {
                attempts.rename(attempt);
            }
        }
        // One that is nowhere any more can never be right again.
        let proves = guards.holds(Guard::WriteProvesTheFence);
        let is_dead = |belief: &Belief| proves && stamps.is_nowhere(belief.stamp);
        if self.belief.as_ref().is_some_and(is_dead) {
            self.belief = None;
        }
        if let Some(belief) = &mut self.belief {
            stamps.rename(&mut belief.stamp);
        }
    }
}

/// Higher than any number that [`System::rename`] gives out.
pub(crate) const FRESH: u8 = 40;

struct Renaming {
    /// Counters mean something and keep their values.
    renames: bool,
    seen: Vec<u8>,
}

impl Renaming {
    fn of(renames: bool) -> Self {
        let seen = Vec::new();
        Self { renames, seen }
    }

    fn is_nowhere(&self, number: u8) -> bool {
        self.renames && !self.seen.contains(&number)
    }

    /// 0 stands for none.
    fn rename(&mut self, number: &mut u8) {
        if *number == 0 || !self.renames {
            return;
        }
        let place = self.seen.iter().position(|seen| seen == number);
        let place = place.unwrap_or_else(|| {
            self.seen.push(*number);
            self.seen.len() - 1
        });
        *number = place as u8 + 1;
    }
}
