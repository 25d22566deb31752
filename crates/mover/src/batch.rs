//! A batch of slots: taken over, looked at, and brought on from where it is.

use std::collections::{BTreeMap, BTreeSet};

use freehold_core::{
    Key, Slot, SlotSet, SlotState,
    moving::{self, Aim, Phase, SlotRow, Step},
};
use freehold_storage::moves::MoveRun;
use tokio::time::{Duration, Instant};

use crate::{
    copy::LAG_WAIT_MAX,
    error::{Halt, MoveError},
    mover::Mover,
    progress::{Pause, Point},
    side::Side,
};

/// How often a batch whose rows differ is copied again by itself.
const COPIES_MAX: u32 = 3;

/// The slots of an attempt, and both sides of it.
pub(crate) struct Batch<'a> {
    pub(crate) mover: &'a Mover,
    run: &'a MoveRun,
    pub(crate) source: Side,
    pub(crate) target: Side,
    /// With which slot_epoch the source claims each slot, or claimed it.
    pub(crate) epochs: BTreeMap<Slot, u64>,
    /// Keys that differed when they were last looked at, and are written at the same time.
    pub(crate) suspects: BTreeSet<Key>,
    /// Since when writes wait.
    pub(crate) fenced_at: Option<Instant>,
    /// Since when they do to slots that were found so.
    pub(crate) found_since: Instant,
    /// Slots that wait for nothing if this attempt ends.
    pub(crate) fenced_slots: SlotSet,
    /// How long they have waited for what.
    pub(crate) pause: Pause,
}

/// What a batch came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Through {
    /// Slots that the target owns.
    pub(crate) moved: SlotSet,
    /// Slots that the source owns, after a cancel.
    pub(crate) returned: SlotSet,
}

/// One attempt at a batch, from the take-over to its end.
pub(crate) async fn attempt(
    mover: &Mover,
    run: &MoveRun,
    slots: &SlotSet,
    aim: Aim,
    waits_since: &mut Option<Instant>,
) -> Result<Through, Halt> {
    let attempt = mover.draw();
    mover.doing("taking over");
    let mut source = Side::open(&mover.source, attempt).await?;
    let mut target = Side::open(&mover.target, attempt).await?;
    if source.cluster_id != target.cluster_id {
        let (shard, why) = (
            target.name.clone(),
            "it belongs to another cluster".to_owned(),
        );
        return Err(MoveError::Shard { shard, why }.into());
    }
    source.take_over(run, slots, &target.name).await?;
    target.take_over(run, slots, &source.name).await?;
    mover.reached(Point::TakenOver).await;
    let seen = (source.rows(slots).await?, target.rows(slots).await?);
    let names = (source.name.clone().into(), target.name.clone().into());
    let phases = decide(&seen, &names, aim)?;
    let is_fenced = |(_, row): &(Slot, SlotRow<Box<str>>)| row.state == SlotState::Fenced;
    let unowned = phases.iter().any(|(phase, _)| *phase == Phase::Open);
    let waits = unowned || seen.0.iter().any(is_fenced);
    mover.holds_up(waits);
    let found_since = waits_since.unwrap_or_else(Instant::now);
    let epochs = seen.0.iter().map(|(slot, row)| match row.state {
        SlotState::Gone => (*slot, row.slot_epoch.saturating_sub(1)),
        _ => (*slot, row.slot_epoch),
    });
    let mut batch = Batch {
        epochs: epochs.collect(),
        mover,
        run,
        source,
        target,
        suspects: BTreeSet::new(),
        fenced_at: waits.then_some(found_since),
        found_since,
        fenced_slots: SlotSet::default(),
        pause: Pause::default(),
    };
    let states = seen.0.into_iter().map(|(slot, row)| (slot, row.state));
    let halt = match batch.run(&phases, &states.collect(), aim).await {
        Ok(through) => return Ok(through),
        Err(halt) => halt,
    };
    let let_go = batch.let_writes_go().await;
    *waits_since = batch.fenced_at;
    match (halt, let_go) {
        // Nobody would come by while writes wait.
        (Halt::Stop(error), Err(Halt::Again(why))) if !error.passes() => Err(Halt::Again(why)),
        (halt, _) => Err(halt),
    }
}

type Seen = Vec<(Slot, SlotRow<Box<str>>)>;
type Phases = Vec<(Phase, Slot)>;

fn decide(seen: &(Seen, Seen), names: &(Box<str>, Box<str>), aim: Aim) -> Result<Phases, Halt> {
    let rows = seen.0.iter().zip(&seen.1);
    let phases = rows.map(|((slot, source), (_, target))| {
        let phase = moving::decide(source, target, (&names.0, &names.1), aim);
        phase
            .map(|phase| (phase, *slot))
            .map_err(|why| MoveError::Unmovable { slot: *slot, why }.into())
    });
    phases.collect()
}

impl Batch<'_> {
    async fn run(
        &mut self,
        phases: &Phases,
        states: &BTreeMap<Slot, SlotState>,
        aim: Aim,
    ) -> Result<Through, Halt> {
        let of = |wanted: &[Phase]| -> SlotSet {
            let slots = phases.iter().filter(|(phase, _)| wanted.contains(phase));
            slots.map(|(_, slot)| *slot).collect()
        };
        let in_state = |slots: &SlotSet, state: SlotState| -> SlotSet {
            let slots = slots.iter();
            slots.filter(|slot| states[slot] == state).collect()
        };
        // What is nearest to its end first: without an owner nobody is served.
        let open = of(&[Phase::Open]);
        if !open.is_empty() {
            self.open(&open).await?;
        }
        let late = of(&[Phase::Yield]);
        self.source_step(Step::GiveAway, &late).await?;

        let mut verify = of(&[Phase::Verify]);
        if !verify.is_empty() && !self.hand_over(&verify, true).await? {
            // It was opened for writes again, and is copied again.
            verify = SlotSet::default();
        }
        let returned = of(&[Phase::Return]);
        if !returned.is_empty() {
            let taken = returned
                .iter()
                .filter(|slot| states[slot] != SlotState::Owned);
            self.give_back(&returned, &taken.collect()).await?;
        }

        let left = of(&[Phase::Leave]);
        if !left.is_empty() {
            self.leave(&left).await?;
        }

        let start = of(&[Phase::Start]);
        let again = of(&[Phase::Verify]);
        let again = again.without(&verify);
        let copied: SlotSet = of(&[Phase::Copy, Phase::Start])
            .iter()
            .chain(again.iter())
            .collect();
        if !copied.is_empty() {
            let fenced = in_state(&start, SlotState::Fenced);
            self.source_step(Step::Reopen, &fenced).await?;
            self.end_pause(fenced.len());
            // Before writes wait for anything nobody measures, nor rests.
            self.mover.first_beats(self.run.id).await;
            self.keep_apart().await?;
            // A copy that could not be handed over is not begun. What is behind because of the batch
            // before gets there.
            let max = match self.mover.has_moved() && !self.mover.is_holding_up() {
                true => LAG_WAIT_MAX,
                false => self.mover.settings.wait_max,
            };
            self.wait_for_replicas(&copied, max).await?;
            self.receive(&start).await?;
            let owned = in_state(&copied, SlotState::Owned);
            self.empty_target(&copied.without(&start)).await?;
            self.source_step(Step::Announce, &owned).await?;
            self.mover.reached(Point::Announced).await;
            self.bring_over(&copied).await?;
        }
        debug_assert!(
            aim == Aim::Move || copied.is_empty(),
            "a cancel copies nothing"
        );

        let moved: SlotSet = phases
            .iter()
            .filter(|(phase, _)| !matches!(phase, Phase::Return | Phase::Leave))
            .map(|(_, slot)| *slot)
            .collect();
        if !moved.is_empty() {
            self.settle_target(&moved).await?;
            self.clean_source(&moved).await?;
        }
        Ok(Through { moved, returned })
    }

    /// Steps 3 to 9.
    async fn bring_over(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        let mut left = slots.clone();
        for copies in 1.. {
            self.copy(&left).await?;
            // Here, where nobody else waits.
            self.wait_for_replicas(&left, LAG_WAIT_MAX).await?;
            self.drain_until_few(&left, None).await?;
            self.mover.reached(Point::Drained).await;
            self.verify(&left).await?;
            self.mover.reached(Point::Verified).await;
            left = self.hand_over_in_parts(&left).await?;
            if left.is_empty() {
                return Ok(());
            }
            if copies >= COPIES_MAX {
                break;
            }
            self.empty_target(&left).await?;
        }
        let keys = self.suspects.iter().cloned().collect();
        Err(MoveError::Differs { keys }.into())
    }

    async fn wait_for_replicas(&mut self, slots: &SlotSet, max: Duration) -> Result<(), Halt> {
        self.mover.doing("waiting for replicas");
        self.source.wait(self.mover, slots, max).await?;
        self.target.wait(self.mover, slots, max).await
    }

    /// Step 1. The rows of a slot that was here before may still be there.
    async fn receive(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        if slots.is_empty() {
            return Ok(());
        }
        self.check_clocks().await?;
        let wait_max = self.mover.settings.wait_max;
        self.source.wait(self.mover, slots, wait_max).await?;
        self.empty_target(slots).await?;
        self.target_step(Step::Receive, slots).await?;
        self.mover.reached(Point::Received).await;
        Ok(())
    }

    /// How far the masters' clocks are apart, as far as two round trips can tell.
    async fn check_clocks(&mut self) -> Result<(), Halt> {
        let before = self.source.moves.now_ms().await?;
        let there = self.target.moves.now_ms().await?;
        let after = self.source.moves.now_ms().await?;
        let skew_ms = match there {
            early if early < before => before.abs_diff(early),
            late if late > after => late.abs_diff(after),
            _ => 0,
        };
        let max = self.mover.settings.clock_skew_max;
        if u128::from(skew_ms) > max.as_millis() {
            return Err(MoveError::Clocks { skew_ms, max }.into());
        }
        Ok(())
    }

    pub(crate) async fn source_step(&mut self, step: Step, slots: &SlotSet) -> Result<(), Halt> {
        let epochs = &self.epochs;
        let claimed = |slot: Slot, _: &SlotRow<Box<str>>| epochs[&slot];
        let peer = self.target.name.clone();
        let began = Instant::now();
        self.source.step(step, slots, &peer, claimed).await?;
        self.mover.changed_fence(began.elapsed());
        Ok(())
    }

    pub(crate) async fn target_step(&mut self, step: Step, slots: &SlotSet) -> Result<(), Halt> {
        let epochs = &self.epochs;
        let claimed = |slot: Slot, row: &SlotRow<Box<str>>| match step {
            // Also what stands for nothing is closed.
            Step::Close => row.slot_epoch.saturating_sub(1),
            _ => epochs[&slot],
        };
        let peer = self.source.name.clone();
        let began = Instant::now();
        self.target.step(step, slots, &peer, claimed).await?;
        self.mover.changed_fence(began.elapsed());
        Ok(())
    }
}
