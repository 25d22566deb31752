//! Step 10, and the way back.

use freehold_core::{
    SlotSet, SlotState,
    moving::{Step, Work},
};
use freehold_storage::moves::{Cleared, Portion};
use tokio::time::Instant;

use crate::{
    batch::Batch,
    copy::{LAG_WAIT_MAX, Pace},
    error::Halt,
    progress::Point,
    side::RANGES_MAX,
};

/// Rows that one statement deletes at most: its locks are bounded by it.
const ROWS_AT_ONCE: usize = 1_000;

/// However much requests wait, unless rows are long.
const ROWS_AT_ONCE_MIN: usize = 100;

/// However long rows are: the values of so many are read to find out.
const LONG_ROWS_AT_ONCE: usize = 16;

/// Whose rows are deleted.
#[derive(Debug, Clone, Copy)]
enum Whose {
    Source,
    Target,
}

/// How many rows to look at next, by the length of those before: about twice as many as fit.
fn rows_after(cleared: Cleared, bytes_max: usize) -> usize {
    let average = cleared.bytes.checked_div(cleared.rows).unwrap_or(0).max(1);
    let fit = bytes_max as u64 / average;
    usize::try_from(2 * fit)
        .unwrap_or(usize::MAX)
        .clamp(LONG_ROWS_AT_ONCE, ROWS_AT_ONCE)
}

impl Batch<'_> {
    /// Deletes what there is of the slots, no faster than replicas follow.
    async fn delete(&mut self, whose: Whose, work: Work, slots: &SlotSet) -> Result<(), Halt> {
        let mut pace = Pace::gentle(&self.mover.settings);
        let bytes_max = self.mover.settings.page_bytes_max;
        let mut rows = LONG_ROWS_AT_ONCE;
        for part in slots.parts(usize::MAX, RANGES_MAX) {
            loop {
                let began = Instant::now();
                let least = ROWS_AT_ONCE_MIN.min(rows);
                let portion = Portion {
                    rows_max: self.mover.throttle().part(rows).max(least),
                    bytes_max,
                };
                let side = match whose {
                    Whose::Source => &mut self.source,
                    Whose::Target => &mut self.target,
                };
                let hold = side.hold();
                let cleared = side.moves.clear(hold, work, &part, portion).await?;
                let Some(cleared) = cleared else {
                    return Err(side.disproved(slots).await);
                };
                if cleared.rows == 0 {
                    break;
                }
                rows = rows_after(cleared, bytes_max);
                self.mover.go_on()?;
                self.mover.rest(began.elapsed()).await;
                pace.wait_for_replicas(self).await?;
            }
        }
        Ok(())
    }

    /// Nothing is left of earlier copies.
    pub(crate) async fn empty_target(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        self.delete(Whose::Target, Work::Empty, slots).await
    }

    /// The end of step 9: every server of the target that may be promoted knows that it owns the slots.
    /// A failover that lost that would leave them without an owner, and a move that is done is looked
    /// after by nobody.
    pub(crate) async fn settle_target(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        self.mover.doing("waiting for replicas");
        self.target.note().await?;
        self.target.wait(self.mover, slots, LAG_WAIT_MAX).await?;
        let rows = self.target.rows(slots).await?;
        let is_settled = rows.iter().all(|(slot, row)| {
            let opened = self.epochs[slot] + 1;
            // Another move may be under way with it, or have given it on.
            row.slot_epoch > opened || (row.slot_epoch == opened && row.state.is_claim())
        });
        match is_settled {
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
        self.delete(Whose::Source, Work::Empty, slots).await?;
        self.delete(Whose::Source, Work::ClearLog, slots).await?;
        self.mover.reached(Point::Cleaned).await;
        Ok(())
    }

    /// A cancel. `taken` are those of the slots that are not plainly the source's.
    pub(crate) async fn give_back(&mut self, slots: &SlotSet, taken: &SlotSet) -> Result<(), Halt> {
        self.mover.doing("giving back");
        self.source_step(Step::Return, taken).await?;
        self.end_pause(taken.len());
        self.mover.reached(Point::Returned).await;
        // A failover that lost it would let the cancelled move go on.
        self.source.note().await?;
        self.source
            .wait(self.mover, slots, self.mover.settings.wait_max)
            .await?;
        self.empty_target(slots).await?;
        self.mover.reached(Point::Emptied).await;
        let incoming = self.incoming(slots, |_| true).await?;
        self.target_step(Step::Close, &incoming).await?;
        self.mover.reached(Point::Closed).await;
        self.delete(Whose::Source, Work::ClearLog, slots).await
    }

    /// A cancel of slots that are another move's by now: what the target received of them is nobody's.
    pub(crate) async fn leave(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        let source = self.source.name.clone();
        let incoming = self.incoming(slots, |peer| peer == Some(&*source)).await?;
        self.empty_target(&incoming).await?;
        self.target_step(Step::Close, &incoming).await
    }

    /// Those of the slots that the target has received and not opened, from shards of such names.
    async fn incoming(
        &mut self,
        slots: &SlotSet,
        from: impl Fn(Option<&str>) -> bool,
    ) -> Result<SlotSet, Halt> {
        let rows = self.target.rows(slots).await?;
        let incoming = rows
            .iter()
            .filter(|(_, row)| row.state == SlotState::Incoming && from(row.peer.as_deref()));
        Ok(incoming.map(|(slot, _)| *slot).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_long_rows_few_are_looked_at() {
        let cleared = |rows, bytes| Cleared { rows, bytes };
        for (cleared, rows) in [
            (cleared(16, 16 * 100), ROWS_AT_ONCE),
            (cleared(16, 16 << 14), 512),
            (cleared(4, 4 << 20), LONG_ROWS_AT_ONCE),
            (cleared(1, 15 << 20), LONG_ROWS_AT_ONCE),
            (cleared(10, 0), ROWS_AT_ONCE),
        ] {
            assert_eq!(rows_after(cleared, 4 << 20), rows, "{cleared:?}");
        }
    }
}
