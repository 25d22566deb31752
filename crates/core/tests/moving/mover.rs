//! A mover, as a program of steps each of which is one round trip to one server.

use freehold_core::{
    SlotState,
    moving::{self, Aim, Phase, SlotRow, Step, Work},
};

use crate::{
    guards::{Guard, Guards},
    system::{FRESH, Side, System, Tables},
};

/// What a mover does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Next {
    /// Nothing: it ended, or was killed.
    Idle,
    TakeSource,
    TakeTarget,
    LookAtSource,
    LookAtTarget,
    /// Step 1.
    WaitForOwned,
    Receive,
    EmptyTarget,
    Announce,
    /// Step 3.
    ReadPage,
    WritePage,
    /// Step 4, and the last drain of step 7.
    ReadLog,
    WriteLogged,
    Forget,
    Fence,
    /// Step 7.
    ReadForCheck,
    Check,
    WaitForFenced,
    Reopen,
    GiveAway,
    WaitForGone,
    Open,
    Clean,
    /// A cancel.
    Return,
    WaitForReturned,
    Close,
    ClearLog,
}

/// A position that the server that leads now does not have.
pub(crate) const LOST: u8 = u8::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mover {
    pub(crate) next: Next,
    pub(crate) aim: Aim,
    pub(crate) source: Side,
    /// On each side; the same number unless they are counters.
    pub(crate) attempts: [u8; 2],
    /// The terms to which the work is bound.
    pub(crate) terms: [u8; 2],
    /// With which the source claims, or claimed, the slot.
    pub(crate) slot_epoch: u8,
    /// The source's row when it was looked at, as long as it matters.
    pub(crate) seen: Option<SlotRow<Side>>,
    /// What was decided, where that is before the take-over.
    pub(crate) phase: Option<Phase>,
    /// `n` and value that were read of the source.
    pub(crate) held: (u8, u8),
    /// Whether nobody knows how good the copy is: everything has to be verified.
    pub(crate) doubts: bool,
    /// Whether the key is among those that the last drain copied.
    pub(crate) drained: bool,
    /// The positions that were noted: how many transactions of each shard its replica has yet to
    /// apply before it has what this mover last read or wrote there; or [`LOST`].
    pub(crate) behind: [u8; 2],
}

impl Mover {
    pub(crate) const IDLE: Self = Self {
        next: Next::Idle,
        aim: Aim::Move,
        source: Side::A,
        attempts: [0; 2],
        terms: [0; 2],
        slot_epoch: 0,
        seen: None,
        phase: None,
        held: (0, 0),
        doubts: false,
        drained: false,
        behind: [0; 2],
    };

    pub(crate) fn started(guards: Guards, aim: Aim, source: Side) -> Self {
        let first = if guards.holds(Guard::TakesOverBeforeItDecides) {
            Next::TakeSource
        } else {
            Next::LookAtSource
        };
        Self {
            next: first,
            aim,
            source,
            ..Self::IDLE
        }
    }

    /// Begins again with a take-over, aiming for the same.
    fn again(self, guards: Guards) -> Self {
        Self::started(guards, self.aim, self.source)
    }

    fn at(self, next: Next) -> Self {
        Self { next, ..self }
    }
}

/// One transaction of a mover on one side.
struct Round<'a> {
    guards: Guards,
    system: &'a System,
    number: usize,
    mover: Mover,
}

/// The system after the mover's next step; `None` while it has to wait.
pub(crate) fn step(guards: Guards, system: &System, number: usize) -> Option<System> {
    let mover = system.movers[number];
    let round = Round {
        guards,
        system,
        number,
        mover,
    };
    let (source, target) = (mover.source, mover.source.other());
    let takes_over_first = guards.holds(Guard::TakesOverBeforeItDecides);
    match mover.next {
        Next::Idle => None,
        Next::TakeSource => round.take_over(source, Next::TakeTarget),
        Next::TakeTarget if takes_over_first => round.take_over(target, Next::LookAtSource),
        Next::TakeTarget => round.take_over(target, Next::Idle)?.decided(guards, number),
        Next::LookAtSource => round.read(source, takes_over_first, |mover, tables| Mover {
            seen: tables.row,
            ..mover.at(Next::LookAtTarget)
        }),
        Next::LookAtTarget => round.read(target, takes_over_first, |mover, tables| {
            look_at_target(guards, mover, tables)
        }),
        Next::WaitForOwned => round.wait_for_owned(),
        Next::Receive => round.change(target, Step::Receive, |mover| match mover.seen {
            Some(row) if row.state == SlotState::Owned => mover.at(Next::Announce),
            _ => mover.at(Next::ReadPage),
        }),
        Next::EmptyTarget => {
            let empty = |tables: &mut Tables| tables.value = 0;
            round.work(target, Work::Empty, empty, |mover| match mover.seen {
                Some(row) if row.state == SlotState::Owned => mover.at(Next::Announce),
                _ => mover.at(Next::ReadPage),
            })
        }
        Next::Announce => round.change(source, Step::Announce, |mover| mover.at(Next::ReadPage)),
        Next::ReadPage => round.read(source, false, |mover, tables| Mover {
            held: (0, tables.value),
            ..mover.at(Next::WritePage)
        }),
        Next::WritePage => {
            let value = mover.held.1;
            let write = move |tables: &mut Tables| match value {
                // A page brings rows; what is not there it does not mention.
                0 => {}
                value => tables.value = value,
            };
            round.work(target, Work::Copy, write, |mover| mover.at(Next::ReadLog))
        }
        Next::ReadLog => round.read(source, false, |mover, tables| {
            read_log(guards, mover, tables)
        }),
        Next::WriteLogged => {
            let value = mover.held.1;
            round.work(
                target,
                Work::Copy,
                move |tables| tables.value = value,
                |mover| mover.at(Next::Forget),
            )
        }
        Next::Forget => {
            let (n, checks) = (mover.held.0, guards.holds(Guard::ForgetsOnlyWhatItRead));
            let forget = move |tables: &mut Tables| {
                if tables.logged == n || !checks {
                    tables.logged = 0;
                }
            };
            round.work(source, Work::Forget, forget, |mover| {
                mover.at(Next::ReadLog)
            })
        }
        Next::Fence => round.change(source, Step::Fence, |mover| {
            if guards.holds(Guard::DrainsUnderTheFence) {
                mover.at(Next::ReadLog)
            } else {
                mover.at(Next::ReadForCheck)
            }
        }),
        Next::ReadForCheck => round.read(source, true, |mover, tables| Mover {
            held: (0, tables.value),
            ..mover.at(Next::Check)
        }),
        Next::Check => round.check(target),
        Next::Reopen => round.change(source, Step::Reopen, |mover| mover.again(guards)),
        Next::WaitForFenced => round.wait_for_fenced(),
        Next::GiveAway => round.change(source, Step::GiveAway, |mover| {
            if !guards.holds(Guard::GivesAwayBeforeItOpens) || mover.phase == Some(Phase::Yield) {
                mover.at(Next::Clean)
            } else {
                mover.at(Next::WaitForGone)
            }
        }),
        Next::WaitForGone => round.wait(&[source], Next::Open, |tables| {
            tables.state() == Some(SlotState::Gone)
        }),
        Next::Open => round.change(target, Step::Open, |mover| {
            if guards.holds(Guard::GivesAwayBeforeItOpens) {
                mover.at(Next::Clean)
            } else {
                mover.at(Next::GiveAway)
            }
        }),
        Next::Clean => {
            let clean = |tables: &mut Tables| (tables.value, tables.logged) = (0, 0);
            round.work(source, Work::Empty, clean, |_| Mover::IDLE)
        }
        Next::Return => round.change(source, Step::Return, |mover| {
            mover.at(Next::WaitForReturned)
        }),
        Next::WaitForReturned => round.wait_for_returned(),
        Next::Close => round.close(target),
        Next::ClearLog => {
            let clear = |tables: &mut Tables| tables.logged = 0;
            round.work(source, Work::ClearLog, clear, |_| Mover::IDLE)
        }
    }
}

/// A mover that has seen both rows decides.
fn look_at_target(guards: Guards, mover: Mover, tables: &Tables) -> Mover {
    let names = (&mover.source, &mover.source.other());
    // Who decides before it takes over may find no row there yet.
    let row = tables
        .row
        .unwrap_or_else(|| moving::take_over(None, 0, mover.source).next);
    let rows = mover.seen.map(|seen| (seen, row));
    let phase = rows.map(|(source, target)| moving::decide(&source, &target, names, mover.aim));
    let Some(Ok(phase)) = phase else {
        return Mover::IDLE;
    };
    let decided = Mover {
        phase: Some(phase),
        ..mover
    };
    if guards.holds(Guard::TakesOverBeforeItDecides) {
        enter(guards, decided, phase)
    } else {
        decided.at(Next::TakeSource)
    }
}

/// Where a phase begins.
pub(crate) fn enter(guards: Guards, mover: Mover, phase: Phase) -> Mover {
    let Some(row) = mover.seen else {
        return Mover::IDLE;
    };
    let slot_epoch = match row.state {
        SlotState::Gone => row.slot_epoch - 1,
        _ => row.slot_epoch,
    };
    let mover = Mover {
        slot_epoch: slot_epoch as u8,
        phase: (phase == Phase::Yield).then_some(phase),
        doubts: phase == Phase::Verify,
        ..mover
    };
    match phase {
        Phase::Start if row.state == SlotState::Fenced => mover.at(Next::Reopen),
        Phase::Start if guards.holds(Guard::WaitsAtStart) => mover.at(Next::WaitForOwned),
        Phase::Start => mover.at(Next::Receive),
        Phase::Copy => mover.at(Next::EmptyTarget),
        Phase::Verify => mover.at(Next::ReadLog),
        Phase::Open if guards.holds(Guard::WaitsBeforeOpening) => mover.at(Next::WaitForGone),
        Phase::Open => mover.at(Next::Open),
        Phase::Yield => mover.at(Next::GiveAway),
        Phase::Clean => mover.at(Next::Clean),
        Phase::Return if row.state == SlotState::Owned => mover.at(Next::WaitForReturned),
        Phase::Return => mover.at(Next::Return),
        // Between two shards another move is one back, which leaves this one nothing.
        Phase::Leave => Mover::IDLE,
    }
}

fn read_log(guards: Guards, mover: Mover, tables: &Tables) -> Mover {
    if tables.logged > 0 {
        return Mover {
            held: (tables.logged, tables.value),
            drained: true,
            ..mover.at(Next::WriteLogged)
        };
    }
    match tables.state() {
        Some(SlotState::Outgoing) => Mover {
            drained: false,
            ..mover.at(Next::Fence)
        },
        Some(SlotState::Fenced) => mover.at(Next::ReadForCheck),
        _ => mover.again(guards),
    }
}

impl System {
    /// A mover that decided before it took over goes on as it had decided.
    fn decided(mut self, guards: Guards, number: usize) -> Option<Self> {
        let mover = self.movers[number];
        self.movers[number] = enter(guards, mover, mover.phase?);
        Some(self)
    }
}

impl Round<'_> {
    /// The system after a transaction, and the mover after it.
    fn done(&self, side: Side, change: impl FnOnce(&mut Tables), mover: Mover) -> Option<System> {
        let mut next = self.system.clone();
        next.movers[self.number] = mover;
        next.commit(side, change);
        let behind = next.shard(side).tail.len() as u8;
        next.movers[self.number].note(side, behind);
        Some(next)
    }

    fn ended(&self, mover: Mover) -> Option<System> {
        let mut next = self.system.clone();
        next.movers[self.number] = mover;
        Some(next)
    }

    /// Whether the server that leads is the one to which the work is bound.
    fn leads(&self, side: Side) -> bool {
        let bound = self.mover.terms[side.index()];
        !self.guards.holds(Guard::SeesFailovers) || self.system.tables(side).term == bound
    }

    /// Whether a step may think so.
    fn seems_to_lead(&self, side: Side) -> bool {
        !self.guards.holds(Guard::StepsProveTheTerm) || self.leads(side)
    }

    fn attempt(&self, side: Side) -> u64 {
        self.mover.attempts[side.index()].into()
    }

    fn take_over(&self, side: Side, next: Next) -> Option<System> {
        let shard = self.system.shard(side);
        if !shard.is_adopted() {
            return None;
        }
        let row = shard.master.row;
        let attempt = match (self.guards.holds(Guard::AttemptsAreRandom), row) {
            (true, _) => FRESH.into(),
            (false, row) => row.map_or(1, |row| row.attempt + 1),
        };
        // One random number for both sides.
        let attempt = match (self.guards.holds(Guard::AttemptsAreRandom), self.mover.next) {
            (true, Next::TakeTarget) => self.mover.attempts[self.mover.source.index()].into(),
            _ => attempt,
        };
        let change = moving::take_over(row.as_ref(), attempt, side.other());
        let mut mover = self.mover.at(next);
        mover.attempts[side.index()] = attempt as u8;
        mover.terms[side.index()] = shard.master.term;
        self.done(side, |tables| tables.row = Some(change.next), mover)
    }

    /// Reads what a server shows while it leads; `proves` the attempt, too.
    fn read(
        &self,
        side: Side,
        proves: bool,
        then: impl FnOnce(Mover, &Tables) -> Mover,
    ) -> Option<System> {
        let shard = self.system.shard(side);
        if !shard.is_adopted() {
            return None;
        }
        let has_decided_early = !self.guards.holds(Guard::TakesOverBeforeItDecides)
            && matches!(self.mover.next, Next::LookAtSource | Next::LookAtTarget);
        if !has_decided_early && !self.seems_to_lead(side) {
            return self.ended(self.mover.again(self.guards));
        }
        let attempt = shard.master.row.map(|row| row.attempt);
        if proves && attempt != Some(self.attempt(side)) {
            return self.ended(Mover::IDLE);
        }
        let mut mover = then(self.mover, &shard.master);
        mover.note(side, shard.tail.len() as u8);
        self.ended(mover)
    }

    /// A change of the row.
    fn change(&self, side: Side, step: Step, then: impl FnOnce(Mover) -> Mover) -> Option<System> {
        let shard = self.system.shard(side);
        if !shard.is_adopted() {
            return None;
        }
        if !self.seems_to_lead(side) {
            return self.ended(self.mover.again(self.guards));
        }
        let row = shard.master.row?;
        let slot_epoch = match step {
            // Also what stands for nothing is closed.
            Step::Close => row.slot_epoch.saturating_sub(1),
            _ => self.mover.slot_epoch.into(),
        };
        let change = moving::change(step, &row, self.attempt(side), side.other(), slot_epoch);
        let change = match change {
            Ok(change) => change,
            Err(moving::Illegal::TakenOver) => return self.ended(Mover::IDLE),
            Err(moving::Illegal::State { .. }) => return self.ended(self.mover.again(self.guards)),
        };
        let counter = shard.master.stamp + 1;
        let stamp = if self.guards.holds(Guard::StampsAreRandom) {
            FRESH
        } else {
            counter
        };
        self.done(
            side,
            |tables| {
                tables.row = Some(change.next);
                tables.stamp = stamp;
                if change.finds_no_rows {
                    tables.value = 0;
                }
            },
            then(self.mover),
        )
    }

    /// Work on rows or on the log, as far as state and attempt allow it.
    fn work(
        &self,
        side: Side,
        work: Work,
        change: impl FnOnce(&mut Tables),
        then: impl FnOnce(Mover) -> Mover,
    ) -> Option<System> {
        let shard = self.system.shard(side);
        if !shard.is_adopted() {
            return None;
        }
        if !self.seems_to_lead(side) {
            return self.ended(self.mover.again(self.guards));
        }
        let row = shard.master.row?;
        let proves = work != Work::Copy || self.guards.holds(Guard::PageWritesProveTheAttempt);
        if proves && row.attempt != self.attempt(side) {
            return self.ended(Mover::IDLE);
        }
        if !work.is_allowed(&row, row.attempt) {
            return self.ended(self.mover.again(self.guards));
        }
        self.done(side, change, then(self.mover))
    }

    fn close(&self, target: Side) -> Option<System> {
        let row = self.system.tables(target).row?;
        if row.state == SlotState::Incoming {
            return self.change(target, Step::Close, |mover| mover.at(Next::ClearLog));
        }
        let empty = |tables: &mut Tables| tables.value = 0;
        self.work(target, Work::Empty, empty, |mover| mover.at(Next::ClearLog))
    }

    fn check(&self, target: Side) -> Option<System> {
        let verifies = self.guards.holds(Guard::VerifiesUnderTheFence);
        self.read(target, true, |mover, tables| {
            let looks = (mover.doubts || mover.drained) && verifies;
            if looks && tables.value != mover.held.1 {
                mover.at(Next::Reopen)
            } else {
                mover.at(Next::WaitForFenced)
            }
        })
    }

    fn wait_for_owned(&self) -> Option<System> {
        let (source, slot_epoch) = (self.mover.source, u64::from(self.mover.slot_epoch));
        self.wait(&[source], Next::Receive, |tables| {
            let claims = |row: SlotRow<Side>| row.state.is_claim() && row.slot_epoch == slot_epoch;
            tables.row.is_some_and(claims)
        })
    }

    fn wait_for_fenced(&self) -> Option<System> {
        let next = if self.guards.holds(Guard::GivesAwayBeforeItOpens) {
            Next::GiveAway
        } else {
            Next::Open
        };
        if !self.guards.holds(Guard::WaitsBeforeGivingAway) {
            return self.ended(self.mover.at(next));
        }
        let (source, target) = (self.mover.source, self.mover.source.other());
        self.wait(&[source, target], next, |tables| {
            matches!(
                tables.state(),
                Some(SlotState::Fenced | SlotState::Incoming)
            )
        })
    }

    fn wait_for_returned(&self) -> Option<System> {
        if !self.guards.holds(Guard::CancelWaits) {
            return self.ended(self.mover.at(Next::Close));
        }
        self.wait(&[self.mover.source], Next::Close, |tables| {
            tables.state() == Some(SlotState::Owned)
        })
    }

    /// Waits until the replicas of these shards have what was noted, under the same leaders.
    fn wait(&self, sides: &[Side], next: Next, shows: impl Fn(&Tables) -> bool) -> Option<System> {
        if self.mover.next == Next::WaitForGone && !self.guards.holds(Guard::WaitsBeforeOpening) {
            return self.ended(self.mover.at(next));
        }
        let mut waited = self.system.clone();
        for side in sides {
            let shard = self.system.shard(*side);
            if !shard.is_adopted() {
                return None;
            }
            let lost = self.mover.behind[side.index()] == LOST;
            if !self.leads(*side) || (lost && self.guards.holds(Guard::SeesLostPositions)) {
                return self.ended(self.mover.again(self.guards));
            }
            match self.arrived(*side, &shows) {
                Some(arrived) if shard.follows => {
                    (0..arrived).for_each(|_| waited.replicate(*side));
                }
                // A server that is away, or has just become the master, has not been waited for.
                _ if shard.follows || self.guards.holds(Guard::SeesFailovers) => return None,
                _ => {}
            }
        }
        waited.movers[self.number] = waited.movers[self.number].at(next);
        Some(waited)
    }

    /// How many transactions of the tail the replica must have for the wait to end.
    fn arrived(&self, side: Side, shows: impl Fn(&Tables) -> bool) -> Option<usize> {
        let shard = self.system.shard(side);
        let tied = self.guards.holds(Guard::WaitsForWhatWasVerified);
        let noted = match self.mover.behind[side.index()] {
            LOST => 0,
            behind => behind.into(),
        };
        let states = std::iter::once(&shard.replica).chain(&shard.tail);
        let mut arrived = states.enumerate().skip(if tied { noted } else { 0 });
        arrived
            .find(|(_, tables)| shows(tables))
            .map(|(arrived, _)| arrived)
    }
}

impl Mover {
    fn note(&mut self, side: Side, behind: u8) {
        let noted = &mut self.behind[side.index()];
        if self.next == Next::Idle {
            *noted = 0;
        } else if *noted != LOST {
            *noted = behind;
        }
    }
}
