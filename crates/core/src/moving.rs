//! The legal changes of a slot on its way from one shard to another.
//!
//! Pure, so that the mover and the model that checks the protocol use the same functions. A mover
//! first takes both rows over ([`take_over`]), then looks at them and lets [`decide`] say how far
//! the move is, and from there takes each [`Step`] as [`change`] describes it: what the transaction
//! has to prove, and the row that it writes. What may be done to rows and logs of keys meanwhile is
//! [`Work`].
//!
//! Every one of them proves the attempt that the mover drew. A mover that was frozen while another
//! one took over can do nothing any more, whatever it decided before.

use std::cmp::Ordering;

use crate::claims::SlotState;

/// One slot's row on one shard. `P` names a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotRow<P> {
    /// What the slot is to this shard.
    pub state: SlotState,
    /// The counter of the slot's changes of owner, over all shards.
    pub slot_epoch: u64,
    /// The other shard of the slot's last move.
    pub peer: Option<P>,
    /// Random, drawn anew by whoever takes the slot over.
    pub attempt: u64,
}

/// A change of who may do what with a slot: one transaction on one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Step 1, at the target: an empty slot that is to be copied here.
    Receive,
    /// Step 2, at the source: writes log their keys.
    Announce,
    /// Step 6, at the source: no writes any more.
    Fence,
    /// Back from 6 to 3, at the source: writes again, and logs them, because the copy is not good.
    Reopen,
    /// Step 8, at the source: it is not the owner any more.
    GiveAway,
    /// Step 9, at the target: it is the owner.
    Open,
    /// A cancel, at the source: as if nothing had been.
    Return,
    /// A cancel, at the target, in the transaction that finds no row of the slot left.
    Close,
}

impl Step {
    /// All steps, in the order of a move, then those of a cancel.
    pub const ALL: [Self; 8] = [
        Self::Receive,
        Self::Announce,
        Self::Fence,
        Self::Reopen,
        Self::GiveAway,
        Self::Open,
        Self::Return,
        Self::Close,
    ];

    /// The states from which it may be taken.
    #[must_use]
    pub const fn from(self) -> &'static [SlotState] {
        match self {
            // Also from an `incoming` that no claim stands behind any more, never from a claim.
            Self::Receive => &[SlotState::Gone, SlotState::Incoming],
            Self::Announce => &[SlotState::Owned],
            Self::Fence => &[SlotState::Outgoing],
            Self::Reopen | Self::GiveAway => &[SlotState::Fenced],
            Self::Open | Self::Close => &[SlotState::Incoming],
            Self::Return => &[SlotState::Outgoing, SlotState::Fenced],
        }
    }

    /// The state to which it leads.
    #[must_use]
    pub const fn to(self) -> SlotState {
        match self {
            Self::Receive => SlotState::Incoming,
            Self::Announce | Self::Reopen => SlotState::Outgoing,
            Self::Fence => SlotState::Fenced,
            Self::GiveAway | Self::Close => SlotState::Gone,
            Self::Open | Self::Return => SlotState::Owned,
        }
    }
}

/// Work on a slot's rows or on its log of keys. Each transaction of it proves state and attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    /// Steps 3, 4 and 7, at the target: storing and deleting rows as the source has them.
    Copy,
    /// Steps 4 and 7, at the source: deleting the log entry of a key that was copied.
    Forget,
    /// Step 10 at the source, a cancel or a new copy at the target: deleting the slot's rows.
    Empty,
    /// After a cancel or a move, at the source: deleting what is left of the log.
    ClearLog,
}

impl Work {
    /// The states in which it may be done.
    #[must_use]
    pub const fn states(self) -> &'static [SlotState] {
        match self {
            Self::Copy => &[SlotState::Incoming],
            Self::Forget => &[SlotState::Outgoing, SlotState::Fenced],
            Self::Empty => &[SlotState::Incoming, SlotState::Gone],
            Self::ClearLog => &[SlotState::Owned, SlotState::Gone],
        }
    }

    /// Whether a mover of this attempt may do it where this row is.
    #[must_use]
    pub fn is_allowed<P>(self, row: &SlotRow<P>, attempt: u64) -> bool {
        row.attempt == attempt && self.states().contains(&row.state)
    }
}

/// What one transaction does to one slot's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Change<P> {
    /// The row that has to be there, under a lock; `None`: no row. Its state, slot_epoch and attempt
    /// are what is proven.
    pub proves: Option<SlotRow<P>>,
    /// The row that is there afterwards.
    pub next: SlotRow<P>,
    /// Whether the fence's epoch goes up and its stamp is drawn anew: so that no write of a router
    /// that does not know the new state is let through.
    pub draws_stamp: bool,
    /// Whether the transaction has to find no row of the slot in the store.
    pub finds_no_rows: bool,
}

/// Why a change is not legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Illegal {
    /// Another mover took the slot over.
    #[error("another mover has taken the slot over")]
    TakenOver,
    /// The slot's state does not allow it.
    #[error("a slot that is {} does not become {}", .from.as_str(), .to.as_str())]
    State {
        /// What the slot is.
        from: SlotState,
        /// What it was to become.
        to: SlotState,
    },
}

/// Takes a slot over on one side: from now on only `attempt` counts. Anybody may, at any time. A
/// shard without a row gets one that claims nothing, so that there is something to take over the
/// next time; `peer` is the other side.
#[must_use]
pub fn take_over<P: Clone>(row: Option<&SlotRow<P>>, attempt: u64, peer: P) -> Change<P> {
    let next = match row {
        Some(row) => SlotRow {
            attempt,
            ..row.clone()
        },
        None => SlotRow {
            state: SlotState::Gone,
            slot_epoch: 0,
            peer: Some(peer),
            attempt,
        },
    };
    Change {
        proves: row.cloned(),
        next,
        // No router has to know: nobody may do more or less than before.
        draws_stamp: false,
        finds_no_rows: false,
    }
}

/// What step `step` of the move with this attempt does to a row. `peer` is the other side, and
/// `slot_epoch` the one with which the source claims, or claimed, the slot.
///
/// # Errors
/// [`Illegal`]: look again at who moves the slot, and how far it is.
pub fn change<P: Clone>(
    step: Step,
    row: &SlotRow<P>,
    attempt: u64,
    peer: P,
    slot_epoch: u64,
) -> Result<Change<P>, Illegal> {
    if row.attempt != attempt {
        return Err(Illegal::TakenOver);
    }
    let (from, to) = (row.state, step.to());
    let (expected, next) = match step {
        // The target's row is not of this move yet; whether it may become so, `decide` has said.
        Step::Receive => (row.slot_epoch, slot_epoch + 1),
        Step::Open => (slot_epoch + 1, slot_epoch + 1),
        Step::GiveAway => (slot_epoch, slot_epoch + 1),
        Step::Close => (slot_epoch + 1, slot_epoch),
        Step::Announce | Step::Fence | Step::Reopen | Step::Return => (slot_epoch, slot_epoch),
    };
    if !step.from().contains(&from) || row.slot_epoch != expected {
        return Err(Illegal::State { from, to });
    }
    Ok(Change {
        proves: Some(row.clone()),
        next: SlotRow {
            state: to,
            slot_epoch: next,
            peer: Some(peer),
            attempt,
        },
        draws_stamp: true,
        finds_no_rows: matches!(step, Step::Receive | Step::Close),
    })
}

/// What whoever took a slot over wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aim {
    /// The target is to own it.
    Move,
    /// The source is to own it again, if that is possible yet.
    Cancel,
}

/// Where a move goes on after its slots were taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Step 1, the target knows nothing of it. A source that is `fenced` is reopened before.
    Start,
    /// The target receives: it is emptied; then step 2, unless the source is `outgoing`, and 3.
    Copy,
    /// Step 7, where everything has to be verified: nobody knows how far the copy is.
    Verify,
    /// The wait of step 8, then 9.
    Open,
    /// Step 8, late: the target owns it already, and the source's `gone` was lost.
    Yield,
    /// Step 10.
    Clean,
    /// The cancel: the source owns it, and the target is closed.
    Return,
    /// A cancel of what is another move's by now: the target is closed, if it received for this one.
    Leave,
}

/// Why a slot cannot be moved or its move cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unmovable {
    /// It is not the source's to give.
    #[error("the source does not own the slot")]
    NotOwned,
    /// The target claims it as well, or knows of a later owner than the source does.
    #[error("source and target disagree on who owns the slot")]
    Disagreement,
    /// The source gives it to, or the target gets it from, somebody else.
    #[error("the slot is on its way between other shards")]
    OtherMove,
}

/// How far the move of a slot from `source` to `target` is, by their rows, both of which the caller
/// has taken over. `names` are the two shards' names, the source's first.
///
/// # Errors
/// [`Unmovable`]: nothing may be done with the slot.
pub fn decide<P: PartialEq>(
    source: &SlotRow<P>,
    target: &SlotRow<P>,
    names: (&P, &P),
    aim: Aim,
) -> Result<Phase, Unmovable> {
    match (how_far(source, target, names, aim), aim) {
        (Err(_), Aim::Cancel) if is_anothers(source, target, names) => Ok(Phase::Leave),
        (phase, _) => phase,
    }
}

/// Whether the source has nothing of the move, nor the target but for what nobody will open any more:
/// that takes a source that gave the slot to somebody else, at this slot_epoch or later.
fn is_anothers<P: PartialEq>(source: &SlotRow<P>, target: &SlotRow<P>, names: (&P, &P)) -> bool {
    let at_source = match source.state {
        SlotState::Owned => true,
        SlotState::Incoming => false,
        SlotState::Outgoing | SlotState::Fenced | SlotState::Gone => {
            source.peer.as_ref() == Some(names.1)
        }
    };
    let received = target.state == SlotState::Incoming && target.peer.as_ref() == Some(names.0);
    let stale = source.state == SlotState::Gone && source.slot_epoch >= target.slot_epoch;
    !at_source && (!received || stale)
}

fn how_far<P: PartialEq>(
    source: &SlotRow<P>,
    target: &SlotRow<P>,
    names: (&P, &P),
    aim: Aim,
) -> Result<Phase, Unmovable> {
    let gives = source.peer.as_ref() == Some(names.1);
    let comes_from_source = target.peer.as_ref() == Some(names.0);
    match source.state {
        SlotState::Incoming => Err(Unmovable::NotOwned),
        SlotState::Gone if !gives => Err(Unmovable::NotOwned),
        SlotState::Gone => after_giving_away(source, target, comes_from_source),
        SlotState::Owned | SlotState::Outgoing | SlotState::Fenced => {
            if source.state != SlotState::Owned && !gives {
                return Err(Unmovable::OtherMove);
            }
            before_giving_away(source, target, comes_from_source, aim)
        }
    }
}

fn after_giving_away<P>(
    source: &SlotRow<P>,
    target: &SlotRow<P>,
    comes_from_source: bool,
) -> Result<Phase, Unmovable> {
    match target.slot_epoch.cmp(&source.slot_epoch) {
        Ordering::Less => Err(Unmovable::Disagreement),
        Ordering::Equal if target.state.is_claim() => Ok(Phase::Clean),
        Ordering::Equal if target.state == SlotState::Incoming && comes_from_source => {
            Ok(Phase::Open)
        }
        Ordering::Equal => Err(Unmovable::Disagreement),
        // The target gave it on since: the source's rows are nobody's all the more.
        Ordering::Greater => Ok(Phase::Clean),
    }
}

fn before_giving_away<P>(
    source: &SlotRow<P>,
    target: &SlotRow<P>,
    comes_from_source: bool,
    aim: Aim,
) -> Result<Phase, Unmovable> {
    let of_this_move = target.slot_epoch == source.slot_epoch + 1;
    if target.state.is_claim() {
        // Of two claims the higher slot_epoch counts; a source that is fenced has written nothing
        // since.
        let opened = source.state == SlotState::Fenced && of_this_move;
        return opened
            .then_some(Phase::Yield)
            .ok_or(Unmovable::Disagreement);
    }
    let is_newer = target.slot_epoch > source.slot_epoch;
    let received = target.state == SlotState::Incoming && is_newer;
    if received && of_this_move && !comes_from_source {
        return Err(Unmovable::OtherMove);
    }
    if is_newer && !(received && of_this_move) {
        return Err(Unmovable::Disagreement);
    }
    Ok(match (aim, source.state) {
        (Aim::Cancel, _) => Phase::Return,
        // Also where a failover of the target lost what it knew, or left it an `incoming` of an
        // earlier slot_epoch, behind which no claim stands any more.
        (Aim::Move, _) if !received => Phase::Start,
        (Aim::Move, SlotState::Fenced) => Phase::Verify,
        (Aim::Move, _) => Phase::Copy,
    })
}

#[cfg(test)]
#[path = "moving_tests.rs"]
mod tests;
