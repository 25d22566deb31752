//! Every request ends by its deadline, with a status of the table.

use crate::history::{History, MS};
use crate::record::{Operation, Outcome, Span};
use crate::verdict::Violation;

/// How late an answer may be, unless the run says otherwise.
pub const LATE_NS_MAX: i64 = 100 * MS;

/// Codes that come with an `ErrorInfo`, whose reason follows.
const TABLE: [&str; 7] = [
    "INVALID_ARGUMENT",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "UNKNOWN",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
];

/// Codes that gRPC libraries report themselves when a connection breaks or the time is up.
const WITHOUT_REASON: [&str; 5] = [
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "CANCELLED",
    "INTERNAL",
    "UNKNOWN",
];

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Endings {
    /// Requests that had a deadline.
    pub requests: u64,
    /// Of these, those that were late.
    pub late: u64,
    /// Those that were late while the recording machine itself stood still for as long.
    pub excused: u64,
}

/// Checks every operation.
pub fn check(history: &History, late_ns_max: i64, violations: &mut Vec<Violation>) -> Endings {
    let mut endings = Endings::default();
    for operation in history.keys.values().flatten() {
        if let Err(message) = status(operation) {
            violations.push(Violation::of(
                &operation.key,
                message,
                vec![operation.clone()],
            ));
        }
        let Some(deadline_ns) = operation.deadline_ns else {
            continue;
        };
        endings.requests += 1;
        let late_ns = operation.end_ns - deadline_ns;
        if late_ns <= late_ns_max {
            continue;
        }
        if late_ns - stood_still(&history.pauses, operation) <= late_ns_max {
            endings.excused += 1;
            continue;
        }
        endings.late += 1;
        let message = format!("ended {} ms after its deadline", late_ns / MS);
        violations.push(Violation::of(
            &operation.key,
            message,
            vec![operation.clone()],
        ));
    }
    endings
}

/// How long the machine stood still within an operation.
fn stood_still(pauses: &[Span], operation: &Operation) -> i64 {
    let first = pauses.partition_point(|pause| pause.end_ns < operation.start_ns);
    let within = pauses[first..]
        .iter()
        .take_while(|pause| pause.start_ns < operation.end_ns);
    let common =
        |pause: &Span| pause.end_ns.min(operation.end_ns) - pause.start_ns.max(operation.start_ns);
    within.map(common).sum()
}

fn status(operation: &Operation) -> Result<(), String> {
    let status = operation.status.as_str();
    if status.is_empty() {
        return Ok(());
    }
    let (code, reason) = status.split_once(' ').unwrap_or((status, ""));
    let known = if reason.is_empty() {
        WITHOUT_REASON.contains(&code)
    } else {
        TABLE.contains(&code) && (code != "UNKNOWN" || reason == "OUTCOME_UNKNOWN")
    };
    if !known {
        return Err(format!("{status:?} is no status of the table"));
    }
    let proves = !reason.is_empty() && reason != "OUTCOME_UNKNOWN";
    if proves == (operation.outcome == Outcome::NotApplied) {
        return Ok(());
    }
    // A read changes nothing: without an answer it is simply not answered.
    if matches!(operation.action, crate::record::Action::Get { .. }) {
        return Ok(());
    }
    Err(format!(
        "{status:?} was recorded as {:?}",
        operation.outcome
    ))
}
