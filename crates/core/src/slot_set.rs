//! Sets of slots, as people write them (`0-4095,7000`) and as statements name them.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use crate::slot::Slot;

/// A set of slots: ascending ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SlotSet(Vec<RangeInclusive<u16>>);

/// Text that names no set of slots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{part}' is no slot and no range of slots: write 7 or 0-4095, with commas in between")]
pub struct NoSlots {
    /// The part that cannot be read.
    part: String,
}

impl SlotSet {
    /// The ranges, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[RangeInclusive<u16>] {
        &self.0
    }

    /// How many slots there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(ExactSizeIterator::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the slot is one of them.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        let behind = self.0.partition_point(|range| *range.start() <= slot.0);
        behind
            .checked_sub(1)
            .is_some_and(|index| self.0[index].contains(&slot.0))
    }

    /// The slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.iter().cloned().flatten().map(Slot)
    }

    /// The least slot.
    #[must_use]
    pub fn first(&self) -> Option<Slot> {
        self.0.first().map(|range| Slot(*range.start()))
    }

    /// Those of the slots that are at or above this one.
    #[must_use]
    pub fn at_or_above(&self, slot: Slot) -> Self {
        let ranges = self.0.iter().filter(|range| *range.end() >= slot.0);
        Self(
            ranges
                .map(|range| *range.start().max(&slot.0)..=*range.end())
                .collect(),
        )
    }

    /// Those that are in the other set, too.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        self.iter().filter(|slot| other.contains(*slot)).collect()
    }

    /// Those that are not in the other set.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.iter().filter(|slot| !other.contains(*slot)).collect()
    }

    /// Parts of at most `slots_max` slots and `ranges_max` ranges, in order: what one statement
    /// names.
    ///
    /// # Panics
    /// If one of the bounds is zero.
    #[must_use]
    pub fn parts(&self, slots_max: usize, ranges_max: usize) -> Vec<Self> {
        assert!(slots_max > 0 && ranges_max > 0, "parts hold something");
        let mut parts = vec![Self::default()];
        let mut room = slots_max;
        for range in &self.0 {
            let (mut first, last) = (u32::from(*range.start()), u32::from(*range.end()));
            while first <= last {
                let part = parts.last_mut().filter(|part| part.0.len() < ranges_max);
                let part = match part {
                    Some(part) if room > 0 => part,
                    _ => {
                        room = slots_max;
                        parts.push(Self::default());
                        continue;
                    }
                };
                let room_end = first.saturating_add(u32::try_from(room - 1).unwrap_or(u32::MAX));
                let end = last.min(room_end);
                part.0.push(narrow(first)..=narrow(end));
                room -= (end - first + 1) as usize;
                first = end + 1;
            }
        }
        parts.retain(|part| !part.is_empty());
        parts
    }
}

fn narrow(slot: u32) -> u16 {
    u16::try_from(slot).unwrap_or(u16::MAX)
}

impl From<RangeInclusive<u16>> for SlotSet {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self(if range.is_empty() {
            Vec::new()
        } else {
            vec![range]
        })
    }
}

impl FromIterator<RangeInclusive<u16>> for SlotSet {
    /// In any order, and overlapping as they like.
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u16>>>(ranges: I) -> Self {
        let ranges = ranges.into_iter().filter(|range| !range.is_empty());
        let mut ranges: Vec<RangeInclusive<u16>> = ranges.collect();
        ranges.sort_unstable_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                    *last = *last.start()..=*range.end().max(last.end());
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

impl FromIterator<Slot> for SlotSet {
    /// In any order, each as often as it likes.
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        slots.into_iter().map(|slot| slot.0..=slot.0).collect()
    }
}

/// Of text that cannot be read, so much is shown.
const SHOWN_CHARS_MAX: usize = 40;

impl FromStr for SlotSet {
    type Err = NoSlots;

    // What it takes depends on the length of the text, not on how many slots that names.
    fn from_str(text: &str) -> Result<Self, NoSlots> {
        let range = |part: &str| -> Option<RangeInclusive<u16>> {
            let range = match part.split_once('-') {
                Some((first, last)) => first.trim().parse().ok()?..=last.trim().parse().ok()?,
                None => {
                    let slot = part.parse().ok()?;
                    slot..=slot
                }
            };
            (!range.is_empty()).then_some(range)
        };
        let parts = text.split(',').map(str::trim);
        parts
            .map(|part| {
                range(part).ok_or_else(|| NoSlots {
                    part: part.chars().take(SHOWN_CHARS_MAX).collect(),
                })
            })
            .collect()
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match range.start() == range.end() {
                true => write!(f, "{comma}{}", range.start())?,
                false => write!(f, "{comma}{}-{}", range.start(), range.end())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> SlotSet {
        text.parse().unwrap()
    }

    #[test]
    fn sets_are_read_as_people_write_them_and_written_back_in_order() {
        assert_eq!(set("7, 0-3 ,4,65535").to_string(), "0-4,7,65535");
        assert_eq!(set("3,3,2-4").to_string(), "2-4");
        assert_eq!(set("0-9,2-4,9-12,65535,65535").to_string(), "0-12,65535");
        assert_eq!(set("0-65535").len(), 65_536);
        for bad in ["", "a", "4-3", "-1", "65536", "1,,2", "1-2-3"] {
            assert!(bad.parse::<SlotSet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_set_knows_its_slots() {
        let slots = set("2-4,9");
        let found: Vec<u16> = slots.iter().map(|slot| slot.0).collect();
        assert_eq!(found, [2, 3, 4, 9]);
        for slot in 0..12 {
            assert_eq!(slots.contains(Slot(slot)), found.contains(&slot), "{slot}");
        }
        assert_eq!(slots.at_or_above(Slot(4)), set("4,9"));
        assert!(slots.at_or_above(Slot(10)).is_empty());
        assert_eq!(slots.first(), Some(Slot(2)));
        assert_eq!(slots.common(&set("0-3,9-20")), set("2-3,9"));
        assert_eq!(slots.without(&set("0-3,9-20")), set("4"));
        assert!(slots.without(&slots).is_empty());
    }

    #[test]
    fn parts_hold_each_slot_once_within_both_bounds() {
        let slots = set("0-9,20,30-34,65530-65535");
        for (slots_max, ranges_max) in [(1, 1), (3, 2), (4, 1), (7, 3), (100, 2), (100, 100)] {
            let parts = slots.parts(slots_max, ranges_max);
            let whole: SlotSet = parts.iter().flat_map(SlotSet::iter).collect();
            assert_eq!(whole, slots);
            assert_eq!(parts.iter().map(SlotSet::len).sum::<usize>(), slots.len());
            for part in parts {
                assert!(part.len() <= slots_max && part.ranges().len() <= ranges_max);
            }
        }
        assert!(SlotSet::default().parts(1, 1).is_empty());
    }
}
