//! Every request ends by its deadline, with a status of the table that something explains, and by a
//! word of a router.
//!
//! A caller's own library ends a call at its deadline, whatever the router does. So a call that ended
//! without an `ErrorInfo` says nothing good of a router: where nothing was broken that stands between
//! the two, such calls are counted, and must be few.

use crate::history::{History, MS};
use crate::record::{Action, Operation, Outcome, Scan, Span};
use crate::verdict::{Check, Limits, Violation};

/// How late an answer may be, unless the run says otherwise.
pub const LATE_NS_MAX: i64 = 100 * MS;

/// How many of a hundred requests may end without a word of a router, unless the run says otherwise.
pub const UNANSWERED_PERCENT_MAX: f64 = 1.0;

/// So few of them prove nothing.
const UNANSWERED_MIN: u64 = 20;

/// What is shown of them.
const UNANSWERED_SHOWN: usize = 5;

/// Faults that keep a router from being heard, by how their names begin.
const SILENCING: [&str; 2] = ["router ", "network of clients "];

/// Clients need so long after such a fault to find another connection.
const RECOVERY_NS: i64 = 1_000 * MS;

/// What a valid request may be told: codes with the reasons of their `ErrorInfo`, and the words of
/// the faults, one of which must have begun before; none for what load alone can bring about.
const EXPLAINED: [(&str, &str, &[&str]); 14] = [
    ("RESOURCE_EXHAUSTED", "QUEUE_FULL", &[]),
    ("RESOURCE_EXHAUSTED", "ROUTER_FULL", &[]),
    ("DEADLINE_EXCEEDED", "DEADLINE_BEFORE_SENDING", &[]),
    ("DEADLINE_EXCEEDED", "READ_TIMED_OUT", &[]),
    ("UNKNOWN", "OUTCOME_UNKNOWN", &[]),
    ("UNAVAILABLE", "SHARD_UNAVAILABLE", &[]),
    ("UNAVAILABLE", "DATABASE_BUSY", &[]),
    ("UNAVAILABLE", "ASK_AGAIN", &[]),
    ("UNAVAILABLE", "SHUTTING_DOWN", &["router "]),
    (
        "UNAVAILABLE",
        "DATABASE_READ_ONLY",
        &["ReadOnly", "replaced"],
    ),
    ("UNAVAILABLE", "DATABASE_FULL", &["its disk is full"]),
    ("UNAVAILABLE", "DATABASE_ERROR", &["master ", "replica "]),
    ("UNAVAILABLE", NOT_SENT, &[]),
    ("FAILED_PRECONDITION", "SESSION_LOST", &["replaced"]),
];

/// The Rust client's own reason: it proves that nothing was applied, and is no word of a router.
const NOT_SENT: &str = "NOT_SENT";

/// Codes that gRPC libraries report themselves when a connection breaks or the time is up, and what
/// stands for a call that never ended.
const WITHOUT_REASON: [&str; 6] = [
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "CANCELLED",
    "INTERNAL",
    "UNKNOWN",
    "NEVER",
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
    /// Requests during which nothing kept a router from being heard.
    pub undisturbed: u64,
    /// Of these, those that ended without a word of a router.
    pub unanswered: u64,
    /// The same among all the others.
    pub silenced: u64,
}

/// A request or a walk, as far as its end goes.
struct Request<'a> {
    start_ns: i64,
    end_ns: i64,
    deadline_ns: Option<i64>,
    status: &'a str,
    of: Of<'a>,
}

enum Of<'a> {
    Operation(&'a Operation),
    Scan(&'a Scan),
}

impl<'a> Request<'a> {
    fn all(history: &'a History) -> impl Iterator<Item = Self> {
        let of_operation = |one: &'a Operation| Self {
            start_ns: one.start_ns,
            end_ns: one.end_ns,
            deadline_ns: one.deadline_ns,
            status: &one.status,
            of: Of::Operation(one),
        };
        let of_scan = |one: &'a Scan| Self {
            start_ns: one.start_ns,
            end_ns: one.end_ns,
            deadline_ns: one.deadline_ns,
            status: &one.status,
            of: Of::Scan(one),
        };
        let operations = history.keys.values().flatten().map(of_operation);
        operations.chain(history.scans.iter().map(of_scan))
    }

    fn accuse(&self, message: String) -> Violation {
        match self.of {
            Of::Operation(one) => {
                Violation::of(Check::Endings, &one.key, message, vec![one.clone()])
            }
            Of::Scan(one) => {
                let message = format!("scan {}: {message}", one.id);
                Violation::of(Check::Endings, &one.prefix, message, Vec::new())
            }
        }
    }

    /// Whether a router said how it ended. What ended well it answered.
    fn is_answered(&self) -> bool {
        let (_, reason) = parts(self.status);
        self.status.is_empty() || !(reason.is_empty() || reason == NOT_SENT)
    }
}

/// Checks every request.
pub fn check(history: &History, limits: &Limits, violations: &mut Vec<Violation>) -> Endings {
    let mut endings = Endings::default();
    let silences = silences(history);
    let mut unanswered = Vec::new();
    for request in Request::all(history) {
        if let Err(message) = status(&request, &history.faults) {
            violations.push(request.accuse(message));
        }
        let Some(deadline_ns) = request.deadline_ns else {
            continue;
        };
        endings.requests += 1;
        let is_silenced = common_ns(&silences, &request) > 0;
        endings.undisturbed += u64::from(!is_silenced);
        let late_ns = request.end_ns - deadline_ns;
        if late_ns > limits.late_ns_max {
            if late_ns - common_ns(&history.pauses, &request) <= limits.late_ns_max {
                endings.excused += 1;
            } else {
                endings.late += 1;
                let message = format!("ended {} ms after its deadline", late_ns / MS);
                violations.push(request.accuse(message));
            }
        }
        match (request.is_answered(), is_silenced) {
            (true, _) => {}
            (false, true) => endings.silenced += 1,
            (false, false) => {
                endings.unanswered += 1;
                unanswered.push(request);
            }
        }
    }
    let share = 100.0 * endings.unanswered as f64 / endings.undisturbed.max(1) as f64;
    if endings.unanswered >= UNANSWERED_MIN && share > limits.unanswered_percent_max {
        violations.extend(too_many(&unanswered, share));
    }
    endings
}

fn too_many(unanswered: &[Request<'_>], share: f64) -> Option<Violation> {
    let count = unanswered.len();
    let message = format!(
        "{count} requests, {share:.1} % of those that nothing disturbed, ended without a word of a \
         router; this is one of them"
    );
    let mut violation = unanswered.first()?.accuse(message);
    let more = unanswered.iter().skip(1).filter_map(|one| match one.of {
        Of::Operation(operation) => Some(operation.clone()),
        Of::Scan(_) => None,
    });
    violation.operations.extend(more.take(UNANSWERED_SHOWN - 1));
    Some(violation)
}

/// When a router may not have been heard, or the recording machine not have listened: in order, and
/// none into the next.
fn silences(history: &History) -> Vec<Span> {
    let is_silencing = |fault: &&Span| SILENCING.iter().any(|name| fault.what.starts_with(name));
    let faults = history.faults.iter().filter(is_silencing);
    let faults = faults.map(|fault| Span {
        end_ns: fault.end_ns + RECOVERY_NS,
        ..fault.clone()
    });
    let mut all: Vec<Span> = faults.chain(history.pauses.iter().cloned()).collect();
    all.sort_by_key(|span| span.start_ns);
    all.dedup_by(|next, span| {
        let goes_on = next.start_ns <= span.end_ns;
        if goes_on {
            span.end_ns = span.end_ns.max(next.end_ns);
        }
        goes_on
    });
    all
}

/// How long spans, which are in order, and a request have in common.
fn common_ns(spans: &[Span], request: &Request<'_>) -> i64 {
    let first = spans.partition_point(|span| span.end_ns < request.start_ns);
    let within = spans[first..]
        .iter()
        .take_while(|span| span.start_ns < request.end_ns);
    let common =
        |span: &Span| span.end_ns.min(request.end_ns) - span.start_ns.max(request.start_ns);
    within.map(common).sum()
}

/// Code and reason.
fn parts(status: &str) -> (&str, &str) {
    status.split_once(' ').unwrap_or((status, ""))
}

fn status(request: &Request<'_>, faults: &[Span]) -> Result<(), String> {
    let status = request.status;
    if status.is_empty() {
        return Ok(());
    }
    let (code, reason) = parts(status);
    if !reason.is_empty() {
        let known = EXPLAINED
            .iter()
            .find(|one| (one.0, one.1) == (code, reason));
        let Some((.., causes)) = known else {
            return Err(format!(
                "{status:?} is no status of the table for a valid request"
            ));
        };
        let explains = |fault: &Span| {
            fault.start_ns <= request.end_ns
                && causes.iter().any(|cause| fault.what.contains(cause))
        };
        if !causes.is_empty() && !faults.iter().any(explains) {
            return Err(format!("{status:?}, and no fault before it explains that"));
        }
    } else if !WITHOUT_REASON.contains(&code) {
        return Err(format!("{status:?} is no status of the table"));
    }
    let Of::Operation(operation) = request.of else {
        return Ok(());
    };
    let proves = !reason.is_empty() && reason != "OUTCOME_UNKNOWN";
    // A read changes nothing: without an answer it is simply not answered.
    let is_read = matches!(operation.action, Action::Get { .. });
    if is_read || proves == (operation.outcome == Outcome::NotApplied) {
        return Ok(());
    }
    Err(format!(
        "{status:?} was recorded as {:?}",
        operation.outcome
    ))
}
