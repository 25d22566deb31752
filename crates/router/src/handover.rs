//! Writes to one key stay in order while its slot changes hands.
//!
//! A router that learns of a new owner may still have older writes waiting in the former owner's
//! lanes, or in a statement there that the fence is about to turn away. So the new owner's lanes
//! hold writes to those slots back until the former owner's write lane has gone through what
//! it had ([`crate::queue::Queue::barrier`]) and has sent on what the former owner did not take. Each request keeps the number it got when it first came in, and a lane serves by number.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use freehold_core::Slot;

/// How long writes are held back. A former owner that hangs holds the new one's callers no longer:
/// what still comes back from it is then ended as not applied.
pub const HOLD_MAX: Duration = Duration::from_secs(1);

/// Slots of which older writes may still come from their former owner's lane.
#[derive(Debug)]
pub struct Handover {
    /// Ascending.
    slots: Vec<Slot>,
    is_overdue: AtomicBool,
}

impl Handover {
    /// Lets newer writes go: older ones come too late from now on.
    pub fn give_up(&self) {
        self.is_overdue.store(true, Ordering::Release);
    }

    fn is(&self, overdue: bool, slot: Slot) -> bool {
        self.is_overdue.load(Ordering::Acquire) == overdue
            && self.slots.binary_search(&slot).is_ok()
    }
}

/// The handovers under way: hardly ever one.
#[derive(Debug, Clone, Default)]
pub struct Handovers(Vec<Arc<Handover>>);

impl Handovers {
    /// Whether writes to the slot are held back.
    #[must_use]
    pub fn hold(&self, slot: Slot) -> bool {
        self.0.iter().any(|handover| handover.is(false, slot))
    }

    /// Whether a write to the slot that comes from the former owner's lane comes too late: newer
    /// ones may have been sent.
    #[must_use]
    pub fn is_too_late(&self, slot: Slot) -> bool {
        self.0.iter().any(|handover| handover.is(true, slot))
    }

    /// One more, of these slots in ascending order.
    #[must_use]
    pub fn with(&self, slots: Vec<Slot>) -> (Self, Arc<Handover>) {
        debug_assert!(slots.is_sorted(), "slots ascend");
        let new = Arc::new(Handover {
            slots,
            is_overdue: AtomicBool::new(false),
        });
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
        second.give_up();
        assert!(!left.hold(Slot(7)) && left.is_too_late(Slot(7)) && !left.is_too_late(Slot(3)));
        let none = left.without(&second);
        assert!(!none.hold(Slot(7)) && !none.is_too_late(Slot(7)));
    }
}
