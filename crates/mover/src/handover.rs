//! Steps 6 to 9: the part in which writes to the slots wait.

use freehold_core::{Key, SlotSet, moving::Step};
use tokio::time::{Duration, Instant, sleep};

use crate::{
    batch::Batch,
    error::{Halt, MoveError},
    progress::{Pause, Point},
    side::RANGES_MAX,
};

/// How long it is until a clock that is behind is looked at again.
const CLOCK_POLL: Duration = Duration::from_millis(1);

impl Batch<'_> {
    /// Steps 6 to 9, for as many slots at a time as keep the pause short. Those that it answers stay
    /// with the source, because rows differ.
    pub(crate) async fn hand_over_in_parts(&mut self, slots: &SlotSet) -> Result<SlotSet, Halt> {
        let (mut rest, mut differ) = (slots.clone(), Vec::new());
        while let Some(part) = rest
            .parts(self.mover.part_slots(), RANGES_MAX)
            .into_iter()
            .next()
        {
            self.keep_apart().await?;
            // Written while the parts before had their turn, or requests theirs.
            let mut keys = std::mem::take(&mut self.suspects);
            self.drain_until_few(&part, Some(&mut keys)).await?;
            self.suspects = keys;
            self.clear_doubts(&part).await?;
            self.fence(&part).await?;
            if !self.hand_over(&part, false).await? {
                differ.extend(part.iter());
            }
            rest = rest.without(&part);
        }
        Ok(differ.into_iter().collect())
    }

    /// Step 6.
    async fn fence(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        self.mover.doing("handing over");
        let began = Instant::now();
        self.fenced_at = Some(began);
        self.mover.holds_up(true);
        self.source_step(Step::Fence, slots).await?;
        self.pause.fence = began.elapsed();
        self.mover.reached(Point::Fenced).await;
        Ok(())
    }

    /// Steps 7 to 9. With `doubts` nobody knows how good the copy is, and everything is compared.
    /// False if rows differ: the source takes writes again, and they have to be copied again.
    pub(crate) async fn hand_over(&mut self, slots: &SlotSet, doubts: bool) -> Result<bool, Halt> {
        self.mover.holds_up(true);
        self.fenced_slots = slots.clone();
        self.fenced_at.get_or_insert(self.found_since);
        let began = Instant::now();
        let mut drained = self.take_suspects(slots);
        while self.drain(slots, Some(&mut drained)).await? > 0 {}
        let differ = if doubts {
            self.compare_all(slots).await?
        } else {
            let keys: Vec<Key> = drained.into_iter().collect();
            self.compare(&keys).await?
        };
        if !differ.is_empty() {
            self.still_holds(slots).await?;
            self.suspects.extend(differ);
            self.pause.drain = began.elapsed();
            self.let_writes_go().await?;
            return Ok(false);
        }
        // Under the fence nobody writes, so this is where both are at the comparison.
        self.source.note().await?;
        self.target.note().await?;
        self.pause.drain = began.elapsed();
        self.mover.reached(Point::LastDrained).await;

        let began = Instant::now();
        let wait_max = self.mover.settings.wait_max;
        let (mover, source, target) = (self.mover, &mut self.source, &mut self.target);
        // Both to their ends: a call that is given up takes its connection along, and the source's is
        // needed if writes have to be let go.
        let waited = tokio::join!(
            source.wait(mover, slots, wait_max),
            target.wait(mover, slots, wait_max)
        );
        self.pause.replicas = began.elapsed();
        waited.0.and(waited.1)?;
        self.mover.reached(Point::Reached).await;

        let began = Instant::now();
        // From here on it only goes forward.
        self.fenced_slots = SlotSet::default();
        self.source_step(Step::GiveAway, slots).await?;
        self.pause.opening = began.elapsed();
        self.mover.reached(Point::GivenAway).await;
        self.open(slots).await?;
        Ok(true)
    }

    /// The wait of step 8, and step 9.
    pub(crate) async fn open(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        let began = Instant::now();
        self.source.note().await?;
        self.source
            .wait(self.mover, slots, self.mover.settings.wait_max)
            .await?;
        self.pause.replicas += began.elapsed();
        self.mover.reached(Point::GoneEverywhere).await;

        let began = Instant::now();
        self.wait_for_clock().await?;
        self.target_step(Step::Open, slots).await?;
        self.pause.opening += began.elapsed();
        self.end_pause(slots.len());
        self.mover.reached(Point::Opened).await;
        Ok(())
    }

    /// Writes to so many slots wait no more.
    pub(crate) fn end_pause(&mut self, slots: usize) {
        self.mover.holds_up(false);
        let pause = std::mem::take(&mut self.pause);
        if let Some(since) = self.fenced_at.take() {
            let elsewhere = since.elapsed().saturating_sub(pause.whole());
            self.mover.paused(Pause {
                slots,
                opening: pause.opening + elsewhere,
                ..pause
            });
        }
    }

    /// What expired on the source has expired on the target, too.
    async fn wait_for_clock(&mut self) -> Result<(), Halt> {
        let reached = self.source.moves.now_ms().await?;
        let began = Instant::now();
        let max = self.mover.settings.clock_skew_max + self.mover.settings.wait_max;
        loop {
            let there = self.target.moves.now_ms().await?;
            if there >= reached {
                return Ok(());
            }
            if began.elapsed() > max {
                let skew_ms = reached.abs_diff(there);
                return Err(MoveError::Clocks { skew_ms, max }.into());
            }
            sleep(CLOCK_POLL).await;
        }
    }

    /// Lets writes go on where they wait for nothing: whatever went wrong, the source owns the slots
    /// still. Where this fails, too, the next attempt finds them fenced.
    pub(crate) async fn let_writes_go(&mut self) -> Result<(), Halt> {
        let slots = self.fenced_slots.clone();
        if slots.is_empty() {
            return Ok(());
        }
        let reopened = self.source_step(Step::Reopen, &slots).await;
        reopened.inspect_err(|halt| tracing::warn!(?halt, %slots, "writes still wait"))?;
        self.fenced_slots = SlotSet::default();
        self.end_pause(slots.len());
        Ok(())
    }
}
