//! The shortest part of an illegal history that is still illegal by itself.
//!
//! Only what keeps a legal history legal is left out, so what remains proves as much as the whole:
//! - any read;
//! - what a delete or an expire said was there; the write itself stays;
//! - a put without expiry whose value nothing shows, once nothing says that a key was there;
//! - the answers that came after the illegal one: those operations may have happened before it.

use crate::linearize::{Bounds, Decision, decide};
use crate::record::{Action, Level, Operation, Outcome};

/// More operations than this are not tried one by one.
const OPERATIONS_MAX: usize = 2_000;

/// Shrinks the operations of one key, which [`decide`] found illegal at the operation `at`.
pub fn shrink(operations: &[Operation], at: usize, error_ns: i64) -> Vec<Operation> {
    let end_ns = operations[at].end_ns;
    let matters = |operation: &&Operation| {
        let has_done = operation.outcome != Outcome::NotApplied;
        has_done && operation.level == Level::Strong && operation.start_ns <= end_ns
    };
    // What returned later cannot have mattered, but may already have happened.
    let mut left: Vec<Operation> = operations
        .iter()
        .filter(matters)
        .filter(|one| one.end_ns <= end_ns || !matches!(one.action, Action::Get { .. }))
        .cloned()
        .collect();
    for operation in &mut left {
        if operation.end_ns > end_ns {
            operation.outcome = Outcome::Unknown;
        }
    }
    if left.len() > OPERATIONS_MAX || !is_illegal(&left, error_ns) {
        return left;
    }
    loop {
        let before = weight(&left);
        one_round(&mut left, error_ns);
        if weight(&left) == before {
            return left;
        }
    }
}

fn one_round(left: &mut Vec<Operation>, error_ns: i64) {
    let mut place = 0;
    while place < left.len() {
        let mut without = left.clone();
        without.remove(place);
        let may_go = may_go(&left[place], &without);
        if may_go && is_illegal(&without, error_ns) {
            *left = without;
            continue;
        }
        for weaker in weaker(&left[place]) {
            let mut with = left.clone();
            with[place] = weaker;
            if is_illegal(&with, error_ns) {
                *left = with;
            }
        }
        place += 1;
    }
}

/// Whether a history that is legal with this operation is legal without it.
fn may_go(operation: &Operation, others: &[Operation]) -> bool {
    let Action::Put { value, ttl_ms } = &operation.action else {
        return matches!(operation.action, Action::Get { .. });
    };
    let shows = |other: &Operation| match &other.action {
        Action::Get { seen: Some(seen) } => {
            seen.live && seen.value.as_ref().is_none_or(|shown| shown == value)
        }
        Action::Delete { existed } | Action::Expire { existed, .. } => *existed == Some(true),
        _ => false,
    };
    ttl_ms.is_none() && !others.iter().any(shows)
}

fn weaker(operation: &Operation) -> Vec<Operation> {
    let mut all = Vec::new();
    let mut silent = operation.clone();
    match &mut silent.action {
        Action::Delete { existed } | Action::Expire { existed, .. } if existed.is_some() => {
            *existed = None;
            all.push(silent);
        }
        _ => {}
    }
    all
}

/// What is left to lose.
fn weight(operations: &[Operation]) -> usize {
    operations
        .iter()
        .map(|operation| 1 + weaker(operation).len())
        .sum()
}

fn is_illegal(operations: &[Operation], error_ns: i64) -> bool {
    let bounds = Bounds {
        steps_max: 200_000,
        configurations_max: 20_000,
    };
    matches!(
        decide(operations, error_ns, &bounds),
        Decision::Illegal { .. }
    )
}
