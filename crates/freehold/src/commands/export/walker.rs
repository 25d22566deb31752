//! Walking ranges of slots, one after another.

use std::{
    mem,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use freehold_client::{Client, ScanOptions};
use freehold_core::{SLOTS, Slot, key, slot::even_share};
use tokio::sync::mpsc;

use crate::{exit::Failure, ndjson, walk::Walk};

/// Bytes that are gathered for one write to the file.
const CHUNK_BYTES: usize = 256 << 10;

/// A power of two, and few enough for each to take several of the router's statements: a scan that
/// is spread over many small ranges costs more calls, over few large ones it ends with one walk.
const RANGES: usize = 64;

/// What is left to walk.
#[derive(Debug, Clone)]
pub(super) struct Ranges {
    all: Arc<[RangeInclusive<u16>]>,
    taken: Arc<AtomicUsize>,
}

impl Ranges {
    /// The slots in which keys with this prefix can be, for so many walkers.
    pub(super) fn over(prefix: &[u8], walkers: usize) -> Self {
        let all = match key::whole_tag(prefix) {
            Some(tag) => {
                let slot = Slot::of_hash(key::hash(tag)).0;
                vec![slot..=slot]
            }
            None if walkers == 1 => vec![even_share(0, 1)],
            // A shard has its slots next to each other as `init` deals them, so walks that are
            // under way together are far apart: with the bits of their numbers turned around.
            None => (0..RANGES)
                .map(|turn| turn.reverse_bits() >> (usize::BITS - RANGES.trailing_zeros()))
                .map(|place| even_share(place, RANGES))
                .collect(),
        };
        Self {
            all: all.into(),
            taken: Arc::default(),
        }
    }

    /// How many slots there are in all of them.
    pub(super) fn slots(&self) -> u64 {
        self.all.iter().map(|range| range.len() as u64).sum()
    }

    fn take(&self) -> Option<RangeInclusive<u16>> {
        let turn = self.taken.fetch_add(1, Ordering::Relaxed);
        self.all.get(turn).cloned()
    }
}

/// Lines on their way to the file.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) lines: Vec<u8>,
    pub(super) keys: u64,
    /// Slots that were left behind since the chunk before.
    pub(super) slots: u64,
}

/// A task that walks.
pub(super) struct Walker {
    pub(super) client: Client,
    pub(super) options: ScanOptions,
    pub(super) patience: Duration,
    pub(super) ranges: Ranges,
    pub(super) chunks: mpsc::Sender<Result<Chunk, Failure>>,
}

impl Walker {
    pub(super) async fn run(self) {
        while let Some(slots) = self.ranges.take() {
            if let Err(failure) = self.walk(slots).await {
                // Whoever took chunks is gone only if the export has failed already.
                let _ = self.chunks.send(Err(failure)).await;
                return;
            }
        }
    }

    async fn walk(&self, slots: RangeInclusive<u16>) -> Result<(), Failure> {
        let mut passed = u64::from(*slots.start());
        let end = u64::from(*slots.end()) + 1;
        let options = ScanOptions {
            slots: Some(slots),
            ..self.options.clone()
        };
        let mut walk = Walk::new(self.client.clone(), options, self.patience);
        let mut chunk = Chunk::default();
        while let Some((key, entry)) = walk.next().await? {
            ndjson::write(key.bytes(), &entry.value, entry.ttl, &mut chunk.lines)
                .map_err(|error| Failure::io("cannot write a line", error))?;
            chunk.keys += 1;
            if chunk.lines.len() >= CHUNK_BYTES {
                // Keys come in the order of their slots, so the slot says how far the walk is.
                let slot = u64::from(key.slot().0);
                chunk.slots = slot - mem::replace(&mut passed, slot);
                self.send(mem::take(&mut chunk)).await?;
            }
        }
        chunk.slots = end - passed;
        self.send(chunk).await
    }

    async fn send(&self, chunk: Chunk) -> Result<(), Failure> {
        let sent = self.chunks.send(Ok(chunk)).await;
        sent.map_err(|_| Failure::OutputClosed)
    }
}

const _: () = assert!(RANGES.is_power_of_two() && RANGES <= SLOTS);

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(ranges: &Ranges) -> Vec<RangeInclusive<u16>> {
        std::iter::from_fn(|| ranges.take()).collect()
    }

    #[test]
    fn ranges_hold_every_slot_once() {
        for walkers in [1, 2, 64] {
            let ranges = Ranges::over(b"user:", walkers);
            assert_eq!(ranges.slots(), SLOTS as u64);
            let mut slots: Vec<u16> = taken(&ranges).into_iter().flatten().collect();
            slots.sort_unstable();
            assert!(slots.into_iter().eq(0..=u16::MAX), "{walkers} walkers");
        }
    }

    #[test]
    fn walks_that_are_under_way_together_are_spread_over_evenly_dealt_shards() {
        let ranges = taken(&Ranges::over(b"", 4));
        for shards in [2, 4] {
            for together in ranges.chunks(shards) {
                let mut met: Vec<usize> = together
                    .iter()
                    .map(|range| usize::from(*range.start()) * shards / SLOTS)
                    .collect();
                met.sort_unstable();
                assert!(met.into_iter().eq(0..shards), "{together:?}");
            }
        }
    }

    #[test]
    fn one_walker_keeps_the_order_of_slots() {
        assert_eq!(taken(&Ranges::over(b"", 1)), [0..=u16::MAX]);
    }

    #[test]
    fn a_prefix_with_a_whole_tag_is_one_slot() {
        let ranges = Ranges::over(b"{user:1}:", 4);
        assert_eq!(ranges.slots(), 1);
        assert_eq!(taken(&ranges), [15_191..=15_191]);
    }
}
