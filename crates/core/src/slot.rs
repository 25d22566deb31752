//! Slots: 65,536 equal parts of the hash space, the unit of ownership and of moving.

use std::{fmt, ops::RangeInclusive};

/// How many slots there are.
pub const SLOTS: usize = 1 << 16;

/// One of the 65,536 slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// The first slot.
    pub const FIRST: Self = Self(0);
    /// The last slot.
    pub const LAST: Self = Self(u16::MAX);

    /// The slot of a hash: its upper 16 bits.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub const fn of_hash(hash: u64) -> Self {
        Self((hash >> 48) as u16)
    }

    /// All slots in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..SLOTS).map(|slot| Self(u16::try_from(slot).unwrap_or(u16::MAX)))
    }

    /// The slot's place in an array of all slots.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The slots that shard `index` of `shards` gets when all are dealt out evenly: one range each,
/// whose lengths differ by one at most.
///
/// # Panics
/// If `index >= shards`, or there are more shards than slots.
#[must_use]
pub fn even_share(index: usize, shards: usize) -> RangeInclusive<u16> {
    assert!(
        index < shards && shards <= SLOTS,
        "no share {index} of {shards}"
    );
    let first = index * SLOTS / shards;
    let last = (index + 1) * SLOTS / shards - 1;
    let narrow = |slot: usize| u16::try_from(slot).unwrap_or(u16::MAX);
    narrow(first)..=narrow(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    /// Made with another implementation, xxHash's reference C code.
    #[test]
    fn slots_are_those_of_the_reference_implementation() {
        let long = "x".repeat(1_024);
        let vectors: [(&[u8], u16); 11] = [
            (b"a", 59_078),
            (b"user:1", 15_191),
            (b"{user:1}:cart", 15_191),
            (b"{user:1}:orders", 15_191),
            (b"user:000000000042", 5_003),
            (b"\x00\xff\x00", 57_561),
            ("ключ".as_bytes(), 39_443),
            (b"{}x", 13_033),
            (b"{a", 58_537),
            (long.as_bytes(), 64_598),
            (b"x{user:1}", 15_191),
        ];
        for (key, slot) in vectors {
            assert_eq!(
                Key::new(key.to_vec()).unwrap().slot(),
                Slot(slot),
                "{key:?}"
            );
        }
    }

    #[test]
    fn even_shares_cover_every_slot_once_and_differ_by_one_at_most() {
        for shards in [1, 2, 3, 7, 100, 1_000, SLOTS] {
            let mut next = 0_usize;
            let mut lengths = std::collections::BTreeSet::new();
            for index in 0..shards {
                let share = even_share(index, shards);
                assert_eq!(usize::from(*share.start()), next);
                lengths.insert(share.len());
                next = usize::from(*share.end()) + 1;
            }
            assert_eq!(next, SLOTS);
            assert!(lengths.last().unwrap() - lengths.first().unwrap() <= 1);
        }
    }
}
