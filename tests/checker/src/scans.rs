//! Walks: each key that lives throughout is seen exactly once, nothing else is shown, and nothing that
//! had expired before.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::History;
use crate::reads::{Writes, writes};
use crate::record::{Level, Scan, Seen};
use crate::verdict::{Check, Violation};

/// Checks every walk.
pub fn check(history: &History, violations: &mut Vec<Violation>) {
    if history.scans.is_empty() {
        return;
    }
    let (writes, error_ns) = (writes(history), history.clock_error_ns());
    for scan in &history.scans {
        one(scan, &writes, error_ns, violations);
    }
}

fn one(
    scan: &Scan,
    writes: &BTreeMap<&str, Writes<'_>>,
    error_ns: i64,
    violations: &mut Vec<Violation>,
) {
    let accuse = |key: &str, message: String| {
        let message = format!(
            "scan {} of {:?} from {} to {}: {message}",
            scan.id, scan.prefix, scan.start_ns, scan.end_ns
        );
        Violation::of(Check::Scans, key, message, Vec::new())
    };
    let mut keys = BTreeSet::new();
    for (key, value) in &scan.rows {
        if !keys.insert(key.as_str()) {
            violations.push(accuse(key, "the key was shown twice".to_owned()));
        }
        if !key.starts_with(&scan.prefix) {
            violations.push(accuse(key, "the key has another prefix".to_owned()));
        }
        let seen = Seen {
            live: true,
            value: Some(value.clone()),
            ttl_ms: None,
        };
        let Some(writes) = writes.get(key.as_str()) else {
            violations.push(accuse(key, "nobody wrote this key".to_owned()));
            continue;
        };
        if let Err(message) = writes.explains(&seen, scan.end_ns) {
            violations.push(accuse(key, message));
        } else if let Some((put, message)) =
            writes.expired(&seen, (scan.start_ns, scan.end_ns), error_ns)
        {
            let mut violation = accuse(key, message);
            violation.operations.push(put.clone());
            violations.push(violation);
        } else if scan.level == Level::Strong
            && let Some(write) = writes.replaced_by(&seen, scan.start_ns)
        {
            let mut violation = accuse(key, format!("{value:?} had been replaced before"));
            violation.operations.push(write.clone());
            violations.push(violation);
        }
    }
    if !scan.is_complete || scan.level != Level::Strong {
        return;
    }
    let inside = writes
        .range(scan.prefix.as_str()..)
        .take_while(|(key, _)| key.starts_with(&scan.prefix));
    for (key, writes) in inside.filter(|(key, _)| !keys.contains(*key)) {
        if let Some(put) = writes.lives_throughout(scan.start_ns, scan.end_ns) {
            let mut violation =
                accuse(key, "the key lived throughout and was not shown".to_owned());
            violation.operations.push(put.clone());
            violations.push(violation);
        }
    }
}
