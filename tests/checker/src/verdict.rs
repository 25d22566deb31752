//! All checks together, and their result in words.

use std::fmt;

use crate::endings::Endings;
use crate::history::History;
use crate::linearize::{Bounds, Decision, decide};
use crate::record::{Action, Operation, Run};
use crate::shrink::shrink;
use crate::{audit, endings, reads, scans};

/// Violations that are printed in full.
const SHOWN_MAX: usize = 5;

/// What found a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The search for an order of a key's operations.
    Order,
    /// [`reads`].
    Reads,
    /// [`scans`].
    Scans,
    /// [`audit`].
    Audit,
    /// [`endings`].
    Endings,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Order => "order",
            Self::Reads => "reads",
            Self::Scans => "scans",
            Self::Audit => "audit",
            Self::Endings => "endings",
        })
    }
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What found it.
    pub check: Check,
    /// The key it is about.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The operations that prove it, as few as were found.
    pub operations: Vec<Operation>,
}

impl Violation {
    pub(crate) fn of(check: Check, key: &str, message: String, operations: Vec<Operation>) -> Self {
        Self {
            check,
            key: key.to_owned(),
            message,
            operations,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Which run it was.
    pub run: Run,
    /// Operations that were checked, rows of scans and the audit not counted.
    pub operations: usize,
    /// Keys that were checked.
    pub keys: usize,
    /// Walks that were checked.
    pub scans: usize,
    /// Of these, those that came to their end.
    pub scans_complete: usize,
    /// How exactly expiry could be checked.
    pub clock_error_ns: i64,
    /// That was not exactly at all, and nobody stepped a clock: nothing is known of expiry.
    pub clocks_drifted: bool,
    /// How requests ended.
    pub endings: Endings,
    /// Keys whose search met its bound: nothing is known of them.
    pub undecided: Vec<String>,
    /// What must not be.
    pub violations: Vec<Violation>,
}

impl Verdict {
    /// Everything was decided, and nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.undecided.is_empty() && !self.clocks_drifted
    }
}

/// Checks a whole history, with the usual bounds.
pub fn check(history: &History) -> Verdict {
    check_within(history, &Limits::default())
}

/// What is asked of a run, and of the search.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What the search for one key's order may cost.
    pub search: Bounds,
    /// How long after its deadline a request may end.
    pub late_ns_max: i64,
    /// How many of a hundred requests that nothing disturbed may end without a word of a router.
    pub unanswered_percent_max: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            search: Bounds::default(),
            late_ns_max: endings::LATE_NS_MAX,
            unanswered_percent_max: endings::UNANSWERED_PERCENT_MAX,
        }
    }
}

/// Checks a whole history.
pub fn check_within(history: &History, limits: &Limits) -> Verdict {
    let error_ns = history.clock_error_ns();
    let mut verdict = Verdict {
        run: history.run.clone(),
        operations: history.operations(),
        keys: history.keys.len(),
        scans: history.scans.len(),
        scans_complete: history.scans.iter().filter(|one| one.is_complete).count(),
        clock_error_ns: error_ns,
        clocks_drifted: history.clocks_drifted(),
        ..Verdict::default()
    };
    let violations = &mut verdict.violations;
    reads::check(history, violations);
    scans::check(history, violations);
    audit::check(history, violations);
    let rows = history.row_index();
    for (key, operations) in &history.keys {
        let mut operations = operations.clone();
        if let Some(span) = &history.audit {
            let row = rows.get(key.as_str()).copied();
            operations.push(crate::history::audit_read(key, span, row));
        }
        match decide(&operations, error_ns, &limits.search) {
            Decision::Legal => {}
            Decision::Undecided => verdict.undecided.push(key.clone()),
            Decision::Illegal { at, possible } => {
                let message = format!(
                    "no order explains this: {}\n    the key could only be: {}",
                    line(&operations[at]),
                    possible.join("; or ")
                );
                let part = shrink(&operations, at, error_ns);
                violations.push(Violation::of(Check::Order, key, message, part));
            }
        }
    }
    // Last: what is shown first is about data.
    verdict.endings = endings::check(history, limits, violations);
    verdict
}

/// One operation in words.
pub(crate) fn line(operation: &Operation) -> String {
    let Operation {
        start_ns,
        end_ns,
        client,
        outcome,
        ..
    } = operation;
    let ms = |ns: i64| ns as f64 / 1e6;
    let ttl = |ttl_ms: &Option<i64>| ttl_ms.map_or("for ever".to_owned(), |ms| format!("{ms} ms"));
    let what = match &operation.action {
        Action::Put { value, ttl_ms } => format!("put {value:?} {}", ttl(ttl_ms)),
        Action::Delete { existed } => format!("delete, existed {existed:?}"),
        Action::Expire { ttl_ms, existed } => {
            format!("expire {}, existed {existed:?}", ttl(ttl_ms))
        }
        Action::Get { seen: None } => "get, no answer".to_owned(),
        Action::Get { seen: Some(seen) } if !seen.live => "get: absent".to_owned(),
        Action::Get { seen: Some(seen) } => {
            let value = seen.value.as_deref().unwrap_or("(there)");
            let left = seen.ttl_ms.map_or(String::new(), |ms| match ms {
                -1 => ", for ever".to_owned(),
                ms => format!(", {ms} ms to live"),
            });
            format!("get: {value:?}{left}")
        }
    };
    let who = if *client == u32::MAX {
        "the audit".to_owned()
    } else {
        format!("client {client}")
    };
    let [start, end] = [ms(*start_ns), ms(*end_ns)];
    let Operation {
        status, via, words, ..
    } = operation;
    let mut text =
        format!("{start:>12.3} .. {end:>12.3} ms  {who:<10} {what}  [{outcome:?} {status} {via}]");
    if !words.is_empty() {
        text += &format!(" {words:?}");
    }
    text
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} operations on {} keys and {} scans checked, {} of them to the end; expiry exact to \
             {:.1} ms",
            self.operations,
            self.keys,
            self.scans,
            self.scans_complete,
            self.clock_error_ns as f64 / 1e6
        )?;
        let Endings {
            requests,
            late,
            excused,
            undisturbed,
            unanswered,
            silenced,
        } = self.endings;
        writeln!(
            f,
            "{requests} requests with a deadline: {late} ended too long after it, \
             {excused} more while this machine stood still"
        )?;
        writeln!(
            f,
            "{unanswered} unanswered by a router, of {undisturbed} that nothing disturbed; {silenced} \
             of the others"
        )?;
        if self.clocks_drifted {
            writeln!(f, "UNDECIDED: clocks drifted, and nobody stepped one")?;
        }
        for key in self.undecided.iter().take(SHOWN_MAX) {
            writeln!(f, "UNDECIDED {key:?}: the search met its bound")?;
        }
        for violation in self.violations.iter().take(SHOWN_MAX) {
            let Violation {
                check,
                key,
                message,
                ..
            } = violation;
            writeln!(f, "VIOLATION ({check}) {key:?}: {message}")?;
            for operation in &violation.operations {
                writeln!(f, "    {}", line(operation))?;
            }
        }
        let [wrong, open] = [self.violations.len(), self.undecided.len()];
        if self.is_clean() {
            return writeln!(f, "clean");
        }
        writeln!(f, "{wrong} violations, {open} keys undecided")?;
        writeln!(f, "seed {}, to repeat: {}", self.run.seed, self.run.command)
    }
}
