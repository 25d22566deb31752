//! Who owns each slot: a pure function of what the masters say.

use std::{collections::BTreeMap, ops::RangeInclusive};

use freehold_core::{ShardClaims, Slot, slot::SLOTS};

/// What is wrong with the slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ownership {
    /// How many slots one shard owns.
    pub(crate) owned: usize,
    /// Slots that nobody owns.
    pub(crate) unowned: Vec<Slot>,
    /// Slots that several shards say they own.
    pub(crate) contested: BTreeMap<Slot, Vec<String>>,
    /// Shards that could not be asked: what nobody owns may be theirs.
    pub(crate) unasked: Vec<String>,
}

impl Ownership {
    /// Whether every slot has one owner.
    pub(crate) fn is_clean(&self) -> bool {
        self.unowned.is_empty() && self.contested.is_empty() && self.unasked.is_empty()
    }

    /// What of it a later look at the same shards shows, too.
    pub(crate) fn still(self, now: &Self) -> Self {
        let Self {
            unowned, contested, ..
        } = self;
        let stays = |slot: &Slot| now.unowned.binary_search(slot).is_ok();
        let contested = contested.into_iter();
        Self {
            owned: now.owned,
            unowned: unowned.into_iter().filter(stays).collect(),
            contested: contested
                .filter(|(slot, owners)| now.contested.get(slot) == Some(owners))
                .collect(),
            unasked: now.unasked.clone(),
        }
    }

    /// The same without what was seen but once.
    pub(crate) fn uncertain(self) -> Self {
        Self {
            unowned: Vec::new(),
            contested: BTreeMap::new(),
            ..self
        }
    }
}

/// Judges one look at all shards; those that did not answer have no claims.
pub(crate) fn judge(shards: &[(&str, Option<&ShardClaims>)]) -> Ownership {
    let mut owners: Vec<Vec<&str>> = vec![Vec::new(); SLOTS];
    let mut ownership = Ownership::default();
    for (name, claims) in shards {
        let Some(claims) = claims else {
            ownership.unasked.push((*name).to_owned());
            continue;
        };
        for claim in claims.claims.iter().filter(|claim| claim.state.is_claim()) {
            owners[claim.slot.index()].push(name);
        }
    }
    for (slot, owners) in Slot::all().zip(owners) {
        match owners.as_slice() {
            [_] => ownership.owned += 1,
            [] => ownership.unowned.push(slot),
            several => {
                let several = several.iter().map(|&name| name.to_owned()).collect();
                ownership.contested.insert(slot, several);
            }
        }
    }
    ownership
}

/// Slots as ranges; ascending.
pub(crate) fn ranges(slots: impl IntoIterator<Item = Slot>) -> Vec<RangeInclusive<u16>> {
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some(last) if slot.0.checked_sub(1) == Some(*last.end()) => {
                *last = *last.start()..=slot.0;
            }
            _ => ranges.push(slot.0..=slot.0),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use freehold_core::{Fence, ShardIdentity, SlotClaim, SlotState};

    use super::*;

    fn claims(slots: impl IntoIterator<Item = (u16, SlotState)>) -> ShardClaims {
        let claim = |(slot, state)| SlotClaim {
            slot: Slot(slot),
            state,
            slot_epoch: 1,
            peer: None,
            since_epoch: 1,
        };
        ShardClaims {
            identity: ShardIdentity {
                name: "s".to_owned(),
                cluster_id: 1,
                schema_version: 1,
            },
            answered_by: 1,
            fence: Fence {
                server_id: 1,
                stamp: 1,
                term: 1,
                epoch: 1,
            },
            claims: slots.into_iter().map(claim).collect(),
        }
    }

    #[test]
    fn every_slot_has_one_owner_whatever_its_state() {
        let low = (0..=32_767).map(|slot| (slot, SlotState::Owned));
        let high = (32_768..=u16::MAX).map(|slot| match slot {
            40_000 => (slot, SlotState::Fenced),
            40_001 => (slot, SlotState::Outgoing),
            _ => (slot, SlotState::Owned),
        });
        let (low, high) = (
            claims(low.chain([(40_000, SlotState::Incoming)])),
            claims(high),
        );
        let ownership = judge(&[("a", Some(&low)), ("b", Some(&high))]);
        assert!(ownership.is_clean(), "{ownership:?}");
        assert_eq!(ownership.owned, SLOTS);
    }

    #[test]
    fn what_nobody_or_several_own_is_found_if_it_stays_so() {
        let a = claims((0..=100).map(|slot| (slot, SlotState::Owned)));
        let b = claims((100..u16::MAX).map(|slot| (slot, SlotState::Owned)));
        let first = judge(&[("a", Some(&a)), ("b", Some(&b))]);
        assert_eq!(first.unowned, [Slot(u16::MAX)]);
        let two = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(first.contested, BTreeMap::from([(Slot(100), two)]));
        let mended = claims((101..=u16::MAX).map(|slot| (slot, SlotState::Owned)));
        let later = judge(&[("a", Some(&a)), ("b", Some(&mended))]);
        assert!(first.clone().still(&later).is_clean());
        assert_eq!(first.clone().still(&first), first);
        assert!(first.clone().uncertain().is_clean());
        let half = judge(&[("a", Some(&a)), ("b", None)]);
        assert_eq!(half.unasked, ["b"]);
        assert!(!half.is_clean());
    }

    #[test]
    fn slots_are_told_as_ranges() {
        let slots = [0, 1, 2, 7, 9, 10, u16::MAX].map(Slot);
        assert_eq!(ranges(slots), [0..=2, 7..=7, 9..=10, u16::MAX..=u16::MAX]);
        assert_eq!(ranges([]), []);
    }
}
