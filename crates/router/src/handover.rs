//! Writes to one key stay in order while its slot changes hands.
//!
//! A router that learns of a new owner may still have older writes waiting in the former owner's
//! lanes, or in a statement there that the fence is about to turn away. So the new owner's lanes
//! hold writes to those slots back until every write lane of the former owner has gone through
//! what it had ([`crate::queue::Queue::barrier`]) and has sent on what the former owner did not
//! take. Each request keeps the number it got when it first came in, and a lane serves by number.

use std::sync::Arc;

use freehold_core::Slot;

/// Slots of which older writes may still come from their former owner's lanes.
#[derive(Debug)]
pub struct Handover {
    /// Ascending.
    slots: Vec<Slot>,
}

/// The handovers under way: hardly ever one.
#[derive(Debug, Clone, Default)]
pub struct Handovers(Vec<Arc<Handover>>);

impl Handovers {
    /// Whether writes to the slot are held back.
    #[must_use]
    pub fn hold(&self, slot: Slot) -> bool {
        let holds = |handover: &Arc<Handover>| handover.slots.binary_search(&slot).is_ok();
        self.0.iter().any(holds)
    }

    /// One more, of these slots in ascending order.
    #[must_use]
    pub fn with(&self, slots: Vec<Slot>) -> (Self, Arc<Handover>) {
        debug_assert!(slots.is_sorted(), "slots ascend");
        let new = Arc::new(Handover { slots });
        let mut all = self.0.clone();
        all.push(new.clone());
        (Self(all), new)
    }

    /// One less.
    #[must_use]
    pub fn without(&self, ended: &Arc<Handover>) -> Self {
        let others = self.0.iter().filter(|other| !Arc::ptr_eq(other, ended));
        Self(others.cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_held_until_its_last_handover_ends() {
        let none = Handovers::default();
        assert!(!none.hold(Slot(7)));
        let (one, first) = none.with(vec![Slot(3), Slot(7)]);
        let (both, second) = one.with(vec![Slot(7)]);
        assert!(both.hold(Slot(3)) && both.hold(Slot(7)) && !both.hold(Slot(5)));
        let left = both.without(&first);
        assert!(!left.hold(Slot(3)) && left.hold(Slot(7)));
        assert!(!left.without(&second).hold(Slot(7)));
    }
}
