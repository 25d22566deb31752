//! The rows that SQL found on the masters at the end.
//!
//! That nothing acknowledged is missing, nothing deleted is back and nothing expired is visible is
//! decided with the operations of each key: the audit is its last strong read.

use std::collections::BTreeMap;

use crate::history::History;
use crate::verdict::Violation;

/// Each key is on one master, and somebody wrote it.
pub fn check(history: &History, violations: &mut Vec<Violation>) {
    let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in &history.rows {
        shards.entry(&row.key).or_default().push(&row.shard);
    }
    for (key, shards) in shards {
        if shards.len() > 1 {
            let message = format!("has rows on more than one master: {}", shards.join(", "));
            violations.push(Violation::of(key, message, Vec::new()));
        }
        if !history.keys.contains_key(key) {
            let message = "is there, and nobody wrote it".to_owned();
            violations.push(Violation::of(key, message, Vec::new()));
        }
    }
}
