//! Step 10, and the way back.

use freehold_core::{
    SlotSet, SlotState,
    moving::{Step, Work},
};

use tokio::time::Instant;

use crate::{
    batch::Batch,
    copy::LAG_WAIT_MAX,
    error::Halt,
    mover::Mover,
    progress::Point,
    side::{RANGES_MAX, Side},
};

/// Rows that one statement deletes: its locks, and what it writes to the log, are bounded by it.
const ROWS_AT_ONCE: usize = 1_000;

/// However much requests wait.
const ROWS_AT_ONCE_MIN: usize = 100;

async fn delete(mover: &Mover, side: &mut Side, work: Work, slots: &SlotSet) -> Result<(), Halt> {
    for part in slots.parts(usize::MAX, RANGES_MAX) {
        loop {
            let began = Instant::now();
            let rows_max = mover.throttle().part(ROWS_AT_ONCE).max(ROWS_AT_ONCE_MIN);
            let hold = side.hold();
            let deleted = side.moves.clear(hold, work, &part, rows_max).await?;
            match deleted {
                Some(0) => break,
                Some(_) => {
                    mover.go_on()?;
                    mover.rest(began.elapsed()).await;
                }
                None => return Err(side.disproved(slots).await),
            }
        }
    }
    Ok(())
}

impl Batch<'_> {
    /// Nothing is left of earlier copies.
    pub(crate) async fn empty_target(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        delete(self.mover, &mut self.target, Work::Empty, slots).await
    }

    /// The end of step 9: every server of the target that may be promoted knows that it owns the slots.
    /// A failover that lost that would leave them without an owner, and a move that is done is looked
    /// after by nobody.
    pub(crate) async fn settle_target(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        self.mover.doing("waiting for replicas");
        self.target.note().await?;
        self.target.wait(self.mover, slots, LAG_WAIT_MAX).await?;
        let rows = self.target.rows(slots).await?;
        match rows.iter().all(|(_, row)| row.state == SlotState::Owned) {
            true => Ok(()),
            false => Err(Halt::Again(format!(
                "'{}' lost what it owned",
                self.target.name
            ))),
        }
    }

    /// Step 10.
    pub(crate) async fn clean_source(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        self.mover.doing("cleaning up");
        delete(self.mover, &mut self.source, Work::Empty, slots).await?;
        delete(self.mover, &mut self.source, Work::ClearLog, slots).await?;
        self.mover.reached(Point::Cleaned).await;
        Ok(())
    }

    /// A cancel. `taken` are those of the slots that are not plainly the source's.
    pub(crate) async fn give_back(&mut self, slots: &SlotSet, taken: &SlotSet) -> Result<(), Halt> {
        self.mover.doing("giving back");
        self.source_step(Step::Return, taken).await?;
        self.mover.holds_up(false);
        self.mover.reached(Point::Returned).await;
        // A failover that lost it would let the cancelled move go on.
        self.source.note().await?;
        self.source
            .wait(self.mover, slots, self.mover.settings.wait_max)
            .await?;
        self.empty_target(slots).await?;
        self.mover.reached(Point::Emptied).await;
        let incoming = self.target.rows(slots).await?;
        let incoming = incoming
            .iter()
            .filter(|(_, row)| row.state == SlotState::Incoming);
        let incoming: SlotSet = incoming.map(|(slot, _)| *slot).collect();
        self.target_step(Step::Close, &incoming).await?;
        self.mover.reached(Point::Closed).await;
        delete(self.mover, &mut self.source, Work::ClearLog, slots).await
    }
}
