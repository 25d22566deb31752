//! About how much lies in slots of a shard.

use freehold_core::SlotSet;
use freehold_mover::{MoveError, Shard};
use freehold_storage::moves::Stretch;

/// Rows that are counted; what lies behind them is estimated.
const COUNTED_ROWS_MAX: u64 = 50_000;

/// Rows of one look.
const PAGE_ROWS: usize = 2_000;

/// Ranges of slots that one statement names.
const RANGES_MAX: usize = 256;

/// What lies in slots.
pub(super) struct Lies {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Whether the numbers are an estimate.
    pub(super) estimated: bool,
}

/// Counts, up to a bound.
pub(super) async fn count(shard: &Shard, slots: &SlotSet) -> Result<Lies, MoveError> {
    let mut moves = shard.connect().await?;
    let failed = |error| shard.failed(&error);
    let now_ms = moves.now_ms().await.map_err(failed)?;
    let (mut rows, mut bytes, mut seen) = (0, 0, 0_u64);
    let mut reached = None;
    'parts: for part in slots.parts(usize::MAX, RANGES_MAX) {
        let mut stretch = Stretch::from(part);
        loop {
            let page = moves
                .checksum(&stretch, now_ms, PAGE_ROWS)
                .await
                .map_err(failed)?;
            (rows, bytes, seen) = (
                rows + page.rows,
                bytes + page.bytes,
                seen + PAGE_ROWS as u64,
            );
            let Some(last) = page.more_behind else { break };
            if seen >= COUNTED_ROWS_MAX {
                reached = Some(last.slot());
                break 'parts;
            }
            stretch.after = Some(last);
        }
    }
    let estimated = reached.is_some();
    if let Some(reached) = reached {
        // Hashes spread rows evenly over slots.
        let counted = slots.iter().filter(|slot| *slot <= reached).count().max(1) as u64;
        let scale = |number: u64| number * slots.len() as u64 / counted;
        (rows, bytes) = (scale(rows), scale(bytes));
    }
    Ok(Lies {
        rows,
        bytes,
        estimated,
    })
}
