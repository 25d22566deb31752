//! What this process remembers of the newest moves that it ran.

use std::collections::VecDeque;

use freehold_mover::Outcome;
use freehold_router::movers::Limits;

/// Of so many; each outcome lists its pauses, of which there may be thousands.
const KEPT_MAX: usize = 20;

/// What is remembered, the oldest move first.
#[derive(Debug, Default)]
pub(super) struct Kept(VecDeque<KeptMove>);

#[derive(Debug, Default)]
struct KeptMove {
    id: u64,
    limits: Limits,
    outcome: Option<Outcome>,
}

impl Kept {
    /// A move begins, with these limits.
    pub(super) fn begins(&mut self, id: u64, limits: Limits) {
        self.of(id).limits = limits;
    }

    /// How hard to move, as somebody said who began it.
    pub(super) fn limits(&self, id: u64) -> Limits {
        let known = self.0.iter().find(|known| known.id == id);
        known.map(|known| known.limits).unwrap_or_default()
    }

    /// A move ended well.
    pub(super) fn ended(&mut self, id: u64, outcome: Outcome) {
        self.of(id).outcome = Some(outcome);
    }

    /// What a move came to.
    pub(super) fn outcome(&self, id: u64) -> Option<&Outcome> {
        self.0.iter().find(|known| known.id == id)?.outcome.as_ref()
    }

    fn of(&mut self, id: u64) -> &mut KeptMove {
        let known = self.0.iter().position(|known| known.id == id);
        let place = known.unwrap_or_else(|| {
            if self.0.len() == KEPT_MAX {
                self.0.pop_front();
            }
            self.0.push_back(KeptMove {
                id,
                ..KeptMove::default()
            });
            self.0.len() - 1
        });
        &mut self.0[place]
    }
}

#[cfg(test)]
mod tests {
    use freehold_core::SlotSet;
    use freehold_mover::Progress;

    use super::*;

    fn limits(bytes: u64) -> Limits {
        Limits {
            bytes_per_second_max: Some(bytes),
            latency_factor_max: None,
        }
    }

    #[test]
    fn limits_and_outcomes_are_known_of_the_newest_moves() {
        let mut kept = Kept::default();
        let outcome = Outcome {
            moved: SlotSet::from(1..=2),
            returned: SlotSet::default(),
            progress: Progress::default(),
        };
        for id in 1..=KEPT_MAX as u64 {
            kept.begins(id, limits(id));
        }
        kept.ended(1, outcome.clone());
        assert_eq!(kept.limits(1), limits(1));
        assert_eq!((kept.outcome(1), kept.outcome(2)), (Some(&outcome), None));
        // One that somebody else began, and that ended here.
        kept.ended(99, outcome.clone());
        assert_eq!(
            (kept.outcome(99), kept.limits(99)),
            (Some(&outcome), Limits::default())
        );
        assert_eq!((kept.outcome(1), kept.limits(1)), (None, Limits::default()));
        assert_eq!(kept.limits(2), limits(2));
    }
}
