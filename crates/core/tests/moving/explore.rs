//! What may happen next, and what must hold whatever happens.

use freehold_core::{
    SlotState,
    adoption::{Comparison, compare},
    moving::{Aim, SlotRow, take_over},
};
use stateright::{Model, Property};

use crate::{
    guards::{Guard, Guards},
    mover::{self, Mover, Next},
    recovery,
    routers::{self, Belief},
    system::{FRESH, Shard, Side, System, Tables},
};

/// How much may happen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Writes of callers.
    pub(crate) writes: u8,
    /// Failovers of both shards together.
    pub(crate) failovers: u8,
    /// Whether only A fails over.
    pub(crate) of_a_only: bool,
    /// Starts, resumes and cancels.
    pub(crate) starts: u8,
}

/// The model: all that may come of a slot of shard A that is to be moved to B.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moving {
    pub(crate) bounds: Bounds,
    pub(crate) guards: Guards,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// A router that knows everything writes.
    Write(Side),
    /// The other router looks at a shard.
    Look(Side),
    /// It writes as it believes.
    WriteLate,
    /// A master dies, and its replica is promoted with so many of the last transactions.
    Promote(Side, u8),
    /// The former master comes back as a replica.
    Return(Side),
    /// The adopter of a shard draws a new attempt for the peer's `incoming`.
    StopPeer(Side),
    /// A promoted server is adopted.
    Adopt(Side),
    /// A mover starts, resumes or cancels the move of the slot away from this shard.
    Start(usize, Aim, Side),
    /// It does its next step.
    Step(usize),
    /// It waited for too long, and cancels.
    GiveUp(usize),
    /// It dies.
    Kill(usize),
}

const SLOT_EPOCH: u64 = 2;

impl Model for Moving {
    type State = System;
    type Action = Event;

    /// A owns the slot; its replica may or may not have the end of the move that brought it.
    fn init_states(&self) -> Vec<System> {
        let row = |state, peer| SlotRow {
            state,
            slot_epoch: SLOT_EPOCH,
            peer: Some(peer),
            attempt: 1,
        };
        let tables = |row, value, server, stamp| Tables {
            row,
            value,
            logged: 0,
            server,
            term: 1,
            stamp,
        };
        let shard = |master: Tables, replica: Tables| Shard {
            leader: 0,
            master,
            replica,
            follows: true,
            tail: if master == replica {
                vec![]
            } else {
                vec![master]
            },
            has_stopped_peer: false,
        };
        let system = |shards| System {
            shards,
            movers: [Mover::IDLE; 2],
            belief: None,
            truth: 9,
            truth_in: None,
            writes: 0,
            failovers: 0,
            starts: 0,
        };
        let owned = tables(Some(row(SlotState::Owned, Side::B)), 9, 0, 2);
        let incoming = tables(Some(row(SlotState::Incoming, Side::B)), 9, 0, 1);
        let never = tables(None, 0, 0, 3);
        let given = tables(Some(row(SlotState::Gone, Side::A)), 0, 0, 3);
        vec![
            system([shard(owned, owned), shard(never, never)]),
            system([shard(owned, incoming), shard(given, given)]),
        ]
    }

    fn actions(&self, system: &System, events: &mut Vec<Event>) {
        for side in Side::BOTH {
            let shard = system.shard(side);
            if system.writes < self.bounds.writes {
                events.extend([Event::Write(side), Event::Look(side)]);
            }
            if !shard.follows {
                events.push(Event::Return(side));
            } else if self.may_fail(side)
                && shard.is_adopted()
                && system.failovers < self.bounds.failovers
            {
                let all = shard.tail.len() as u8;
                events.extend((0..=all).map(|arrived| Event::Promote(side, arrived)));
            }
            if !shard.is_adopted() {
                events.extend([Event::StopPeer(side), Event::Adopt(side)]);
            }
        }
        if system.writes < self.bounds.writes {
            events.push(Event::WriteLate);
        }
        for number in 0..2 {
            self.events_of_mover(system, number, events);
        }
    }

    fn next_state(&self, system: &System, event: Event) -> Option<System> {
        let mut next = self.happen(system, event)?;
        for side in Side::BOTH {
            // Where no server will be promoted any more, what the replica has matters to nobody.
            if next.failovers == self.bounds.failovers || !self.may_fail(side) {
                next.catch_up(side);
            }
        }
        next.rename(self.guards);
        (next != *system).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one owner", |_, system: &System| {
                let writable = |side: &Side| {
                    let state = system.tables(*side).state();
                    system.shard(*side).is_adopted() && state.is_some_and(SlotState::is_writable)
                };
                Side::BOTH.iter().filter(|side| writable(side)).count() < 2
            }),
            // Also: no reader of a shard that claims the slot finds anything older.
            Property::always("no acknowledged write is lost", |_, system: &System| {
                Side::BOTH.iter().all(|side| {
                    let tables = system.tables(*side);
                    let claims = tables.state().is_some_and(SlotState::is_claim);
                    !claims || !system.shard(*side).is_adopted() || tables.value == system.truth
                })
            }),
            Property::always("always a way forward", |model: &Self, system: &System| {
                let idle = |mover: &Mover| mover.next == Next::Idle;
                !system.movers.iter().all(idle) || recovery::is_possible(model, system)
            }),
        ]
    }
}

impl Moving {
    fn may_fail(&self, side: Side) -> bool {
        side == Side::A || !self.bounds.of_a_only
    }

    fn events_of_mover(&self, system: &System, number: usize, events: &mut Vec<Event>) {
        let mover = system.movers[number];
        match mover.next {
            // The two are alike: the second one starts only when the first one is at it.
            Next::Idle if number == 1 && system.movers[0].next == Next::Idle => {}
            Next::Idle => {
                if system.starts < self.bounds.starts {
                    for aim in [Aim::Move, Aim::Cancel] {
                        events.push(Event::Start(number, aim, Side::A));
                    }
                    if recovery::is_incoming(system, Side::A) {
                        events.push(Event::Start(number, Aim::Move, Side::B));
                    }
                }
            }
            next => {
                events.extend([Event::Step(number), Event::Kill(number)]);
                if next == Next::WaitForFenced {
                    events.push(Event::GiveUp(number));
                }
            }
        }
    }

    pub(crate) fn happen(&self, system: &System, event: Event) -> Option<System> {
        let mut next = system.clone();
        match event {
            Event::Write(side) => {
                let belief = routers::look(self.guards, system, side)?;
                return routers::write(self.guards, system, belief);
            }
            Event::WriteLate => {
                let belief: Belief = system.belief?;
                return routers::write(self.guards, system, belief);
            }
            Event::Look(side) => next.belief = Some(routers::look(self.guards, system, side)?),
            Event::Promote(side, arrived) => next.promote(side, arrived),
            Event::Return(side) => next.shards[side.index()].follows = true,
            Event::StopPeer(side) => self.stop_peer(&mut next, side)?,
            Event::Adopt(side) => self.adopt(&mut next, side)?,
            Event::Start(number, aim, source) => {
                next.starts += 1;
                next.movers[number] = Mover::started(self.guards, aim, source);
            }
            Event::Step(number) => return mover::step(self.guards, system, number),
            Event::GiveUp(number) => {
                let source = system.movers[number].source;
                next.movers[number] = Mover::started(self.guards, Aim::Cancel, source);
            }
            Event::Kill(number) => next.movers[number] = Mover::IDLE,
        }
        Some(next)
    }

    /// Whether a promoted server's slot needs a look at its peer before it is served.
    fn asks_peer(system: &System, side: Side) -> bool {
        let state = system.tables(side).state();
        matches!(state, Some(SlotState::Outgoing | SlotState::Fenced))
    }

    fn stop_peer(&self, next: &mut System, side: Side) -> Option<()> {
        let (shard, peer) = (next.shard(side), side.other());
        let stops = self.guards.holds(Guard::AdopterStopsThePeer);
        let is_done = shard.is_adopted() || shard.has_stopped_peer;
        if is_done || !stops || !Self::asks_peer(next, side) || !next.shard(peer).is_adopted() {
            return None;
        }
        let (mine, theirs) = (next.tables(side).row?, next.tables(peer).row);
        if let Some(theirs) = theirs
            && compare(&mine, Some(&theirs)) == Comparison::StopFirst
        {
            let attempt = match self.guards.holds(Guard::AttemptsAreRandom) {
                true => FRESH.into(),
                false => theirs.attempt + 1,
            };
            let taken = take_over(Some(&theirs), attempt, side).next;
            next.commit(peer, |tables| tables.row = Some(taken));
        }
        next.shards[side.index()].has_stopped_peer = true;
        Some(())
    }

    fn adopt(&self, next: &mut System, side: Side) -> Option<()> {
        let shard = next.shard(side);
        let stops = self.guards.holds(Guard::AdopterStopsThePeer);
        if shard.is_adopted() || (Self::asks_peer(next, side) && !shard.has_stopped_peer && stops) {
            return None;
        }
        let random = self.guards.holds(Guard::StampsAreRandom);
        let leader = shard.leader;
        next.commit(side, |tables| {
            tables.server = leader;
            tables.term += 1;
            tables.stamp = if random { FRESH } else { tables.stamp + 1 };
        });
        Some(())
    }
}
