//! What becomes of a slot that was on its way when its shard failed over.
//!
//! The promoted server may not have the last of what its master had committed: not that it gave the
//! slot away, for one. So a claim that was being moved is compared with the peer's row before it is
//! served. Pure, so that routers and the model that checks the protocol of moving use the same
//! function.

use std::cmp::Ordering;

use crate::{claims::SlotState, moving::SlotRow};

/// What a shard's claim comes to, once its peer was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// The claim holds.
    Serve,
    /// It holds once the peer's row has a new attempt: the peer receives the slot, and a mover that
    /// knows what this shard has lost could open it there.
    StopFirst,
    /// The slot has gone to the peer, or further: this shard has lost that it gave it away.
    Elsewhere,
    /// Both claim it with the same slot_epoch, which no move brings about.
    Conflict,
}

/// Compares a shard's row with its peer's; `None` where the peer has none.
#[must_use]
pub fn compare<P>(mine: &SlotRow<P>, theirs: Option<&SlotRow<P>>) -> Comparison {
    let Some(theirs) = theirs else {
        return Comparison::Serve;
    };
    if !mine.state.is_claim() {
        return Comparison::Serve;
    }
    match (theirs.state, theirs.slot_epoch.cmp(&mine.slot_epoch)) {
        (_, Ordering::Less) => Comparison::Serve,
        (SlotState::Incoming | SlotState::Gone, Ordering::Equal) => Comparison::Serve,
        (SlotState::Incoming, Ordering::Greater) => Comparison::StopFirst,
        // It owned the slot after this shard did, and gave it on.
        (SlotState::Gone, Ordering::Greater) => Comparison::Elsewhere,
        (SlotState::Owned | SlotState::Outgoing | SlotState::Fenced, Ordering::Greater) => {
            Comparison::Elsewhere
        }
        (SlotState::Owned | SlotState::Outgoing | SlotState::Fenced, Ordering::Equal) => {
            Comparison::Conflict
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: SlotState, slot_epoch: u64) -> SlotRow<&'static str> {
        SlotRow {
            state,
            slot_epoch,
            peer: None,
            attempt: 1,
        }
    }

    #[test]
    fn a_claim_holds_unless_the_peer_knows_of_a_later_owner() {
        use Comparison::{Conflict, Elsewhere, Serve, StopFirst};
        use SlotState::{Fenced, Gone, Incoming, Outgoing, Owned};
        for mine in [Outgoing, Fenced] {
            let mine = row(mine, 5);
            assert_eq!(compare(&mine, None), Serve);
            for (state, slot_epoch, expected) in [
                (Incoming, 5, Serve),
                (Incoming, 6, StopFirst),
                // A cancel closed it again, or it never had the slot.
                (Gone, 5, Serve),
                (Gone, 0, Serve),
                (Gone, 6, Elsewhere),
                (Gone, 7, Elsewhere),
                (Owned, 4, Serve),
                (Owned, 5, Conflict),
                (Owned, 6, Elsewhere),
                (Outgoing, 6, Elsewhere),
                (Fenced, 6, Elsewhere),
                (Fenced, 5, Conflict),
            ] {
                let theirs = row(state, slot_epoch);
                assert_eq!(compare(&mine, Some(&theirs)), expected, "{theirs:?}");
            }
        }
    }

    #[test]
    fn what_is_no_claim_has_nothing_to_lose() {
        for mine in [SlotState::Incoming, SlotState::Gone] {
            let theirs = row(SlotState::Owned, 9);
            assert_eq!(compare(&row(mine, 5), Some(&theirs)), Comparison::Serve);
        }
    }
}
