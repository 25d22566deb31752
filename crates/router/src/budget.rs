//! What a whole router may hold at once, whatever the number of its callers.
//!
//! A [`Budget`] counts; a [`Held`] is a part of it that somebody has, given back when it is dropped.
//! Who finds a budget used up is refused at once: nobody waits for room here.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::{failure::Failure, settings::RouterSettings};

/// A number that is bounded.
#[derive(Debug)]
pub struct Budget {
    /// What the config calls the bound.
    key: &'static str,
    max: usize,
    level: AtomicUsize,
    refusals: AtomicU64,
}

impl Budget {
    /// Nothing of it is held yet.
    #[must_use]
    pub fn new(key: &'static str, max: usize) -> Arc<Self> {
        let (level, refusals) = (AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Self {
            key,
            max,
            level,
            refusals,
        })
    }

    /// Holds so much of it, if there is room. Where nobody else holds any, anything has room: a bound
    /// below the size of one value would let that value never through.
    pub fn hold(self: &Arc<Self>, amount: usize) -> Option<Held> {
        let mut held = Held::none_of(self);
        held.grow(amount).then_some(held)
    }

    /// Whether [`Self::hold`] would have room just now.
    #[must_use]
    pub fn has_room(&self, amount: usize) -> bool {
        let level = self.level();
        level == 0 || level.saturating_add(amount) <= self.max
    }

    /// What the config calls the bound.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// The bound.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }

    /// What is held now.
    #[must_use]
    pub fn level(&self) -> usize {
        self.level.load(Ordering::Relaxed)
    }

    /// How often there was no room.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// What whoever is refused is told.
    #[must_use]
    pub fn used_up(&self) -> Failure {
        Failure::Overloaded {
            limit: self.key,
            max: self.max,
        }
    }
}

/// A part of a budget.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    amount: usize,
}

impl Held {
    /// Nothing yet.
    #[must_use]
    pub fn none_of(budget: &Arc<Budget>) -> Self {
        Self {
            budget: budget.clone(),
            amount: 0,
        }
    }

    /// Holds so much more; if there is no room, as much as before.
    pub fn grow(&mut self, amount: usize) -> bool {
        let before = self.budget.level.fetch_add(amount, Ordering::Relaxed);
        if before == self.amount || before.saturating_add(amount) <= self.budget.max {
            self.amount += amount;
            return true;
        }
        self.budget.level.fetch_sub(amount, Ordering::Relaxed);
        self.budget.refusals.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Gives all of it back.
    pub fn clear(&mut self) {
        let amount = std::mem::take(&mut self.amount);
        self.budget.level.fetch_sub(amount, Ordering::Relaxed);
    }

    /// What it is a part of.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.clear();
    }
}

/// All that is bounded over a whole router.
#[derive(Debug, Clone)]
pub struct Budgets {
    /// Callers' connections.
    pub connections: Arc<Budget>,
    /// Calls and streams whose response has not been sent to its end.
    pub calls: Arc<Budget>,
    /// Bytes of messages that have not arrived whole.
    pub received_bytes: Arc<Budget>,
    /// Bytes of values in answers that have not been sent.
    pub answer_bytes: Arc<Budget>,
}

impl Budgets {
    /// As the settings say.
    #[must_use]
    pub fn new(settings: &RouterSettings) -> Self {
        Self {
            connections: Budget::new("server.connections_max", settings.connections_max),
            calls: Budget::new("server.calls_max", settings.calls_max),
            received_bytes: Budget::new("server.received_bytes_max", settings.received_bytes_max),
            answer_bytes: Budget::new("server.answer_bytes_max", settings.answer_bytes_max),
        }
    }

    /// Each of them.
    #[must_use]
    pub fn all(&self) -> [&Budget; 4] {
        [
            &self.connections,
            &self.calls,
            &self.received_bytes,
            &self.answer_bytes,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_stays_within_the_bound_and_comes_back() {
        let budget = Budget::new("n", 10);
        let mut first = budget.hold(6).unwrap();
        let second = budget.hold(4).unwrap();
        assert!(budget.hold(1).is_none() && !first.grow(1));
        assert_eq!((budget.level(), budget.refusals()), (10, 2));
        drop(second);
        first.clear();
        assert_eq!(budget.level(), 0);
        let large = budget.hold(99).unwrap();
        assert!(budget.hold(1).is_none(), "only alone it has room");
        drop(large);
        assert_eq!(budget.level(), 0);
    }
}
