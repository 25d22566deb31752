//! What a mover's statements prove, and the conditions that pick their rows.
//!
//! The rows of the slots are locked, so that a take-over waits for a page that is being stored. The
//! fence's row is not: only an adoption changes the leader, and the server that it takes the lead
//! from takes no writes any more. (A page that locked it would hold up every change of the fence,
//! and behind that every write.)

use std::fmt::Display;

use freehold_core::{Key, SlotSet, moving::Work};

use super::{
    super::{
        error::OUT_OF_RANGE,
        statements::{NEVER, hex},
    },
    change::name,
};
use crate::moves::{Hold, Leader, MoveRun, Stretch, states};

/// What makes a proof hold until the statement's end.
pub(super) const LOCK: &str = "LOCK IN SHARE MODE";

/// Error number of the procedure's SIGNAL.
const SIGNALLED: u16 = 1644;

/// Whether this error number is that of a proof that does not hold.
pub(super) fn is_disproof(code: u16) -> bool {
    matches!(code, OUT_OF_RANGE | SIGNALLED)
}

/// What is 0 where this server leads in this term, and NULL elsewhere.
pub(super) fn leads(leader: Leader) -> String {
    format!(
        "(SELECT 0 FROM shard f WHERE f.id = 1 AND f.term = {} AND f.server_id = {} \
         AND f.server_id = @@server_id)",
        leader.term, leader.server_id
    )
}

/// What is 0 where the work may be done to these slots, and NULL elsewhere.
pub(super) fn may(hold: Hold, work: Work, slots: &SlotSet, lock: &str) -> String {
    format!(
        "({} + (SELECT IF(COUNT(*) = {}, 0, NULL) FROM slots s FORCE INDEX (PRIMARY) WHERE {} \
         AND s.attempt = {} AND s.state IN ({}) {lock}))",
        leads(hold.leader),
        slots.len(),
        slots_are(slots),
        hold.attempt,
        states(work),
    )
}

/// What is 0 where nobody else runs the move as far as this server knows, and NULL elsewhere. Whoever
/// begins to run it waits for the statement's end.
pub(super) fn runs(run: &MoveRun) -> String {
    format!(
        "(SELECT IF(COUNT(*) = 0, 0, NULL) FROM moves m WHERE m.id = {} \
         AND NOT (m.mover = {} AND m.state = 'running') {LOCK})",
        run.id,
        name(&run.mover),
    )
}

/// A number of a row to insert, which is out of range where the proof does not hold.
pub(super) fn proven(proof: &str, number: impl Display) -> String {
    format!("COALESCE({proof}, {NEVER}) * 2 + {number}")
}

/// The condition that picks rows of these slots. A single slot is never a range: for `BETWEEN 7 AND
/// 7` MariaDB sorts the whole slot.
pub(super) fn slots_are(slots: &SlotSet) -> String {
    let ranges = slots.ranges().iter();
    let ranges: Vec<String> = ranges
        .map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => format!("s.slot = {first}"),
            (first, last) => format!("s.slot BETWEEN {first} AND {last}"),
        })
        .collect();
    match ranges.len() {
        0 => "FALSE".to_owned(),
        _ => format!("({})", ranges.join(" OR ")),
    }
}

/// The condition that picks the rows of a stretch. Never `(slot, key) > (?, ?)`, which both servers
/// scan from the beginning of the index.
pub(super) fn stretch(stretch: &Stretch) -> String {
    let above = |key: &Key| format!("s.`key` > {}", hex(key.bytes()));
    let up_to = |key: &Key| format!("s.`key` <= {}", hex(key.bytes()));
    let (after, upto) = (stretch.after.as_ref(), stretch.upto.as_ref());
    let mut parts = Vec::new();
    if let (Some(after), Some(upto)) = (after, upto)
        && after.slot() == upto.slot()
    {
        return format!(
            "(s.slot = {} AND {} AND {})",
            after.slot(),
            above(after),
            up_to(upto)
        );
    }
    if let Some(after) = after.filter(|key| stretch.slots.contains(key.slot())) {
        parts.push(format!("(s.slot = {} AND {})", after.slot(), above(after)));
    }
    let between: SlotSet = stretch
        .slots
        .iter()
        .filter(|slot| after.is_none_or(|key| *slot > key.slot()))
        .filter(|slot| upto.is_none_or(|key| *slot < key.slot()))
        .collect();
    if !between.is_empty() {
        parts.push(slots_are(&between));
    }
    if let Some(upto) = upto.filter(|key| stretch.slots.contains(key.slot())) {
        parts.push(format!("(s.slot = {} AND {})", upto.slot(), up_to(upto)));
    }
    match parts.len() {
        0 => "FALSE".to_owned(),
        _ => format!("({})", parts.join(" OR ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &'static [u8]) -> Key {
        Key::new(bytes.to_vec()).unwrap()
    }

    #[test]
    fn a_stretch_begins_and_ends_within_slots() {
        // `a` lies in slot 59078, `{a` in 58537.
        let slots: SlotSet = "1,58000-60000".parse().unwrap();
        let whole = Stretch::from(slots.clone());
        assert_eq!(
            stretch(&whole),
            "((s.slot = 1 OR s.slot BETWEEN 58000 AND 60000))"
        );
        let begun = Stretch {
            after: Some(key(b"{a")),
            ..whole.clone()
        };
        assert_eq!(
            stretch(&begun),
            "((s.slot = 58537 AND s.`key` > x'7b61') OR (s.slot BETWEEN 58538 AND 60000))"
        );
        let both = Stretch {
            upto: Some(key(b"a")),
            ..begun
        };
        assert_eq!(
            stretch(&both),
            "((s.slot = 58537 AND s.`key` > x'7b61') OR (s.slot BETWEEN 58538 AND 59077) \
             OR (s.slot = 59078 AND s.`key` <= x'61'))"
        );
        let within = Stretch {
            after: Some(key(b"a")),
            ..both
        };
        assert_eq!(
            stretch(&within),
            "(s.slot = 59078 AND s.`key` > x'61' AND s.`key` <= x'61')"
        );
        assert_eq!(stretch(&Stretch::default()), "FALSE");
    }

    #[test]
    fn a_proof_counts_the_slots() {
        let hold = Hold {
            leader: Leader {
                server_id: 3,
                term: 2,
            },
            attempt: 7,
        };
        let slots: SlotSet = "1-3,9".parse().unwrap();
        let proof = may(hold, Work::Copy, &slots, "LOCK IN SHARE MODE");
        for words in [
            "COUNT(*) = 4",
            "attempt = 7",
            "IN ('incoming')",
            "f.term = 2",
        ] {
            assert!(proof.contains(words), "{proof}");
        }
    }
}
