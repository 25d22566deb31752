//! What is moved first where nobody has measured yet how fast slots move.

use super::{Plan, PlannedMove};

/// Rows of a sample, about: so many that beginning and ending a move is not what takes longest.
const ROWS: u64 = 10_000;

/// Moves of fewer rows are over before anybody would read an estimate.
const WORTH_ROWS_MIN: u64 = 10 * ROWS;

impl Plan {
    /// Some of the slots of the first large move, if the plan does not know how long that takes.
    pub(crate) fn sample(&self) -> Option<PlannedMove> {
        let large =
            |planned: &&PlannedMove| planned.time.is_none() && planned.rows >= WORTH_ROWS_MIN;
        let whole = self.moves.iter().find(large)?;
        let share = |number: u64| (number * ROWS).div_ceil(whole.rows);
        let slots = usize::try_from(share(whole.slots.len() as u64)).unwrap_or(usize::MAX);
        if slots >= whole.slots.len() {
            return None;
        }
        Some(PlannedMove {
            slots: whole.slots.iter().take(slots).collect(),
            rows: share(whole.rows),
            bytes: share(whole.bytes),
            estimated: true,
            ..whole.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freehold_core::SlotSet;

    use super::*;

    fn planned(rows: u64, time: Option<Duration>) -> Plan {
        let planned = PlannedMove {
            source: "a".to_owned(),
            target: "b".to_owned(),
            slots: SlotSet::from(100..=199),
            rows,
            bytes: 1,
            estimated: false,
            time,
        };
        Plan {
            moves: vec![planned],
            pause_max: None,
        }
    }

    #[test]
    fn a_large_move_of_unknown_length_begins_with_a_few_slots() {
        let sample = planned(1_000_000, None).sample().unwrap();
        assert_eq!(
            (sample.slots, sample.rows),
            (SlotSet::from(100..=100), 10_000)
        );
        let sample = planned(100_000, None).sample().unwrap();
        assert_eq!(sample.slots, SlotSet::from(100..=109));
        let mut one_slot = planned(1_000_000, None);
        one_slot.moves[0].slots = SlotSet::from(7..=7);
        assert_eq!(one_slot.sample(), None);
        assert_eq!(planned(99_999, None).sample(), None);
        assert_eq!(planned(1_000_000, Some(Duration::ZERO)).sample(), None);
    }
}
