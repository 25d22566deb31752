//! The rows that SQL found on the masters at the end.
//!
//! A live row counts where its slot is owned, and nowhere else: a former owner that still has one
//! would show it again with the next mistake.
//!
//! That nothing acknowledged is missing, nothing deleted is back and nothing expired is visible is
//! decided with the operations of each key: the audit is its last strong read.

use std::collections::BTreeMap;

use crate::history::History;
use crate::verdict::{Check, Violation};

/// Each key is on one master, which owns its slot if it lives, and somebody wrote it.
pub fn check(history: &History, violations: &mut Vec<Violation>) {
    let mut accuse = |key: &str, message: String| {
        violations.push(Violation::of(Check::Audit, key, message, Vec::new()));
    };
    let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in &history.rows {
        if row.live && !row.owned {
            let message = format!("lives on master {}, which does not own its slot", row.shard);
            accuse(&row.key, message);
        }
        shards.entry(&row.key).or_default().push(&row.shard);
    }
    for (key, shards) in shards {
        if shards.len() > 1 {
            let message = format!("has rows on more than one master: {}", shards.join(", "));
            accuse(key, message);
        }
        if !history.keys.contains_key(key) {
            accuse(key, "is there, and nobody wrote it".to_owned());
        }
    }
}
