//! Where bugs can be planted in a lane (see [`freehold_core::planted`]). Without the feature each of
//! these is what its first line says.

use freehold_core::planted::{self, Bug};
use freehold_storage::{Outcome, StorageError};

/// Whether a write that ended so was certainly not applied.
pub(super) fn applied_nothing(error: &StorageError) -> bool {
    matches!(error, StorageError::Unreachable { .. }) || planted::is(Bug::BlindRetry)
}

/// Each request is answered from its own row.
pub(super) fn place_of(row: usize, rows: usize) -> usize {
    if planted::is(Bug::NeighboursAnswer) {
        return (row + 1) % rows;
    }
    row
}

/// What the database said, and nothing else.
pub(super) fn as_answered<T: Default>(outcomes: Vec<Outcome<T>>) -> Vec<Outcome<T>> {
    if !planted::is(Bug::UnknownIsApplied) {
        return outcomes;
    }
    let pretend = |outcome| match outcome {
        Outcome::Failed(StorageError::Lost { .. }) => Outcome::Applied(T::default()),
        other => other,
    };
    outcomes.into_iter().map(pretend).collect()
}
