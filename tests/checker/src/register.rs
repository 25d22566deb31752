//! The model: one key, what an operation may answer in which state, and the state behind it.

use crate::history::MS;
use crate::record::{Action, Outcome, Seen};

/// Later than everything.
pub const NEVER: i64 = i64::MAX;

/// An operation as the model takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Stores value number so-and-so.
    Put {
        /// The value's number.
        value: u32,
        /// Nanoseconds; [`NEVER`] for ever.
        ttl_ns: i64,
    },
    /// Removes the key.
    Delete {
        /// What it said was there.
        existed: Option<bool>,
    },
    /// Changes how long it lives.
    Expire {
        /// Nanoseconds; [`NEVER`] for ever.
        ttl_ns: i64,
        /// What it said was there.
        existed: Option<bool>,
    },
    /// Shows that it is not there.
    Absent,
    /// Shows that it is there.
    Live {
        /// Which value, if it was told.
        value: Option<u32>,
        /// Nanoseconds, [`NEVER`] for ever; if it was told.
        ttl_ns: Option<i64>,
    },
}

/// A step between two instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    /// What it does.
    pub step: Step,
    /// It cannot have happened before.
    pub start_ns: i64,
    /// It cannot have happened after; [`NEVER`] if its outcome is unknown.
    pub end_ns: i64,
    /// Whether it has to have happened.
    pub is_certain: bool,
}

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Nothing is there.
    Absent,
    /// A value is there, until an instant that is known within bounds.
    Live {
        /// The value's number.
        value: u32,
        /// It lives at least until here; [`NEVER`] if it does not expire.
        from_ns: i64,
        /// It lives at most until here.
        to_ns: i64,
    },
}

impl Timed {
    /// The states behind this step, none if it cannot have answered so. Two where an unknown
    /// outcome leaves open whether the key was there.
    pub fn apply(&self, state: State, error_ns: i64) -> [Option<State>; 2] {
        let dead = self.finds_nothing(state, error_ns);
        let live = self.finds_it(state, error_ns);
        match self.step {
            Step::Put { value, ttl_ns } => [Some(self.until(value, ttl_ns, error_ns)), None],
            Step::Absent => [dead.then_some(State::Absent), None],
            Step::Delete { existed } => {
                let may = match existed {
                    None => true,
                    Some(true) => live.is_some(),
                    Some(false) => dead,
                };
                [may.then_some(State::Absent), None]
            }
            Step::Expire { ttl_ns, existed } => {
                let changed = live.and_then(|state| match state {
                    State::Absent => None,
                    State::Live { value, .. } => Some(self.until(value, ttl_ns, error_ns)),
                });
                [
                    changed.filter(|_| existed != Some(false)),
                    (dead && existed != Some(true)).then_some(State::Absent),
                ]
            }
            Step::Live { value, ttl_ns } => {
                let fits = |state: &State| match (state, value) {
                    (State::Live { value: is, .. }, Some(shown)) => *is == shown,
                    _ => true,
                };
                let left = |state| self.with_ttl_left(state, ttl_ns, error_ns);
                [live.filter(fits).and_then(left), None]
            }
        }
    }

    /// A read, which changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(self.step, Step::Absent | Step::Live { .. })
    }

    /// The value with a life that begins within this step.
    fn until(&self, value: u32, ttl_ns: i64, error_ns: i64) -> State {
        State::Live {
            value,
            from_ns: later(self.start_ns, ttl_ns, -error_ns),
            to_ns: later(self.end_ns, ttl_ns, error_ns),
        }
    }

    /// Whether this step may find the key absent or expired.
    fn finds_nothing(&self, state: State, error_ns: i64) -> bool {
        match state {
            State::Absent => true,
            State::Live { from_ns, .. } => {
                from_ns != NEVER && from_ns <= later(self.end_ns, 0, error_ns)
            }
        }
    }

    /// The state, sharper, if this step may find the key alive.
    fn finds_it(&self, state: State, error_ns: i64) -> Option<State> {
        let State::Live {
            value,
            from_ns,
            to_ns,
        } = state
        else {
            return None;
        };
        let from_ns = from_ns.max(self.start_ns - error_ns);
        (from_ns <= to_ns).then_some(State::Live {
            value,
            from_ns,
            to_ns,
        })
    }

    /// The state, sharper, if it may have so long to live at this step.
    fn with_ttl_left(&self, state: State, ttl_ns: Option<i64>, error_ns: i64) -> Option<State> {
        let (
            Some(ttl_ns),
            State::Live {
                value,
                from_ns,
                to_ns,
            },
        ) = (ttl_ns, state)
        else {
            return Some(state);
        };
        if (ttl_ns == NEVER) != (from_ns == NEVER) {
            return None;
        }
        let from_ns = from_ns.max(later(self.start_ns, ttl_ns, -error_ns));
        let to_ns = to_ns.min(later(self.end_ns, ttl_ns, error_ns));
        (from_ns <= to_ns).then_some(State::Live {
            value,
            from_ns,
            to_ns,
        })
    }
}

/// A later instant, where for ever stays for ever.
fn later(instant_ns: i64, by_ns: i64, error_ns: i64) -> i64 {
    if instant_ns == NEVER || by_ns == NEVER {
        return NEVER;
    }
    instant_ns.saturating_add(by_ns).saturating_add(error_ns)
}

/// A time to live as the history tells it.
pub(crate) fn ttl_ns(ttl_ms: Option<i64>) -> i64 {
    ttl_ms.map_or(NEVER, |ms| ms.saturating_mul(MS))
}

/// The step of an operation; none for one that did nothing and showed nothing. `number` gives a
/// value its number.
pub(crate) fn step(
    action: &Action,
    outcome: Outcome,
    number: &mut impl FnMut(&str) -> u32,
) -> Option<Step> {
    if outcome == Outcome::NotApplied {
        return None;
    }
    Some(match action {
        Action::Put { value, ttl_ms } => Step::Put {
            value: number(value),
            ttl_ns: ttl_ns(*ttl_ms),
        },
        Action::Delete { existed } => Step::Delete { existed: *existed },
        Action::Expire { ttl_ms, existed } => Step::Expire {
            ttl_ns: ttl_ns(*ttl_ms),
            existed: *existed,
        },
        Action::Get { seen: None } => return None,
        Action::Get { seen: Some(seen) } => shown(seen, number),
    })
}

fn shown(seen: &Seen, number: &mut impl FnMut(&str) -> u32) -> Step {
    if !seen.live {
        return Step::Absent;
    }
    Step::Live {
        value: seen.value.as_deref().map(number),
        ttl_ns: seen.ttl_ms.map(|ms| ttl_ns((ms >= 0).then_some(ms))),
    }
}
