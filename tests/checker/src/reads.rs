//! Reads of every level: values that nobody wrote, answers that are older than they may be, expired
//! rows, sessions that do not see what they wrote.
//!
//! Each rule is a necessary condition, so it accuses nobody wrongly: an answer is too old only if a
//! write that replaced it had certainly happened in time.

use std::collections::{BTreeMap, HashMap};

use crate::history::{History, MS};
use crate::record::{Action, Level, Operation, Outcome, Seen};
use crate::register::{NEVER, ttl_ns};
use crate::verdict::{Check, Violation};

/// Checks every read of every key.
pub fn check(history: &History, violations: &mut Vec<Violation>) {
    let error_ns = history.clock_error_ns();
    for (key, operations) in &history.keys {
        let key_writes = Writes::of(operations);
        for read in operations {
            let Action::Get { seen: Some(seen) } = &read.action else {
                continue;
            };
            if let Err(message) = key_writes.explains(seen, read.end_ns) {
                let message = message + &owner_of(history, key, seen);
                violations.push(accuse(key, message, vec![read.clone()]));
                continue;
            }
            if read.level == Level::Strong {
                if read.by_replica {
                    let message = "a STRONG read was answered by a replica".to_owned();
                    violations.push(accuse(key, message, vec![read.clone()]));
                }
                continue;
            }
            violations.extend(key_writes.check_weak(key, read, seen, error_ns));
        }
    }
}

fn accuse(key: &str, message: String, operations: Vec<Operation>) -> Violation {
    Violation::of(Check::Reads, key, message, operations)
}

/// Whose value it is, if it belongs to another key.
fn owner_of(history: &History, key: &str, seen: &Seen) -> String {
    let stores = |one: &Operation| matches!(&one.action, Action::Put { value, .. } if Some(value) == seen.value.as_ref());
    let other = history
        .keys
        .iter()
        .find(|(other, operations)| *other != key && operations.iter().any(stores));
    other.map_or_else(String::new, |(other, _)| {
        format!(": it was written to {other:?}")
    })
}

/// The writes of one key.
pub(crate) struct Writes<'a> {
    by_id: HashMap<u64, &'a Operation>,
    puts: HashMap<&'a str, &'a Operation>,
    /// Certain puts and deletes by their end, each with the one that began last so far.
    replacing: Vec<(i64, &'a Operation)>,
    /// Certain puts without expiry, likewise.
    lasting: Vec<(i64, &'a Operation)>,
    /// Everything that can make the key absent, then or later.
    ending: Vec<&'a Operation>,
    expires: Vec<&'a Operation>,
}

/// The end of an operation that may still happen is never.
fn end_of(write: &Operation) -> i64 {
    if write.outcome == Outcome::Applied {
        write.end_ns
    } else {
        NEVER
    }
}

fn latest_by_end<'a>(writes: impl Iterator<Item = &'a Operation>) -> Vec<(i64, &'a Operation)> {
    let mut sorted: Vec<_> = writes.collect();
    sorted.sort_by_key(|write| write.end_ns);
    let mut latest: Option<&Operation> = None;
    let mut all = Vec::with_capacity(sorted.len());
    for write in sorted {
        let last = latest.filter(|last| last.start_ns >= write.start_ns);
        let last = last.unwrap_or(write);
        latest = Some(last);
        all.push((write.end_ns, last));
    }
    all
}

/// Of those that ended before an instant, the one that began last.
fn before<'a>(writes: &[(i64, &'a Operation)], instant_ns: i64) -> Option<&'a Operation> {
    let count = writes.partition_point(|(end_ns, _)| *end_ns < instant_ns);
    Some(writes[count.checked_sub(1)?].1)
}

impl<'a> Writes<'a> {
    pub(crate) fn of(operations: &'a [Operation]) -> Self {
        let happened = || {
            operations
                .iter()
                .filter(|one| one.outcome != Outcome::NotApplied)
        };
        let certain = || happened().filter(|one| one.outcome == Outcome::Applied);
        let is_ending = |one: &&Operation| {
            matches!(
                one.action,
                Action::Delete { .. }
                    | Action::Expire {
                        ttl_ms: Some(_),
                        ..
                    }
                    | Action::Put {
                        ttl_ms: Some(_),
                        ..
                    }
            )
        };
        let puts = operations.iter().filter_map(|one| match &one.action {
            Action::Put { value, .. } => Some((value.as_str(), one)),
            _ => None,
        });
        Self {
            by_id: operations.iter().map(|one| (one.id, one)).collect(),
            puts: puts.collect(),
            replacing: latest_by_end(
                certain()
                    .filter(|one| matches!(one.action, Action::Put { .. } | Action::Delete { .. })),
            ),
            lasting: latest_by_end(
                certain().filter(|one| matches!(one.action, Action::Put { ttl_ms: None, .. })),
            ),
            ending: happened().filter(is_ending).collect(),
            expires: happened()
                .filter(|one| matches!(one.action, Action::Expire { .. }))
                .collect(),
        }
    }

    /// Whether somebody wrote what was seen.
    pub(crate) fn explains(&self, seen: &Seen, end_ns: i64) -> Result<(), String> {
        let Some(value) = seen.value.as_deref().filter(|_| seen.live) else {
            return Ok(());
        };
        match self.puts.get(value) {
            None => Err(format!("{value:?} was never written to this key")),
            Some(put) if put.outcome == Outcome::NotApplied => Err(format!(
                "{value:?} is there, but its put was said not to be applied"
            )),
            Some(put) if put.start_ns > end_ns => {
                Err(format!("{value:?} is there before it was written"))
            }
            Some(_) => Ok(()),
        }
    }

    /// A put whose key must be there from before `from_ns` to `to_ns`, whatever else happened.
    pub(crate) fn lives_throughout(&self, from_ns: i64, to_ns: i64) -> Option<&'a Operation> {
        let put = before(&self.lasting, from_ns)?;
        (!self.can_end(put, to_ns)).then_some(put)
    }

    /// The write, certainly done by then, that replaced what was seen.
    pub(crate) fn replaced_by(&self, seen: &Seen, instant_ns: i64) -> Option<&'a Operation> {
        let put = self.puts.get(seen.value.as_deref()?)?;
        let later = before(&self.replacing, instant_ns)?;
        (later.start_ns > end_of(put)).then_some(later)
    }

    /// Whether anything can make the key absent after this put, up to an instant.
    fn can_end(&self, put: &Operation, to_ns: i64) -> bool {
        let can = |one: &&Operation| end_of(one) >= put.start_ns && one.start_ns <= to_ns;
        self.ending.iter().any(can)
    }

    fn check_weak(
        &self,
        key: &str,
        read: &Operation,
        seen: &Seen,
        error_ns: i64,
    ) -> Option<Violation> {
        let span_ns = (read.start_ns, read.end_ns);
        if let Some((put, message)) = self.expired(seen, span_ns, error_ns) {
            return Some(accuse(key, message, vec![put.clone(), read.clone()]));
        }
        let promised = match &read.level {
            Level::Bounded { max_staleness_ms } => Some(*max_staleness_ms),
            _ => None,
        };
        for bound_ms in promised.into_iter().chain(read.staleness_ms) {
            let instant_ns = read.start_ns - bound_ms.saturating_mul(MS);
            if let Some(write) = self.newer(seen, instant_ns, read.end_ns) {
                let message = format!(
                    "older than {bound_ms} ms before the request: a write was done by then"
                );
                return Some(accuse(key, message, vec![write.clone(), read.clone()]));
            }
        }
        let Level::Session { token_of } = &read.level else {
            return None;
        };
        let floor = self.by_id.get(&(*token_of)?).copied()?;
        let write = self.floor(floor)?;
        let is_missed = if seen.live {
            let put = self.puts.get(seen.value.as_deref()?)?;
            put.id != write.id && end_of(put) < write.start_ns
        } else {
            matches!(write.action, Action::Put { ttl_ms: None, .. })
                && !self.can_end(write, read.end_ns)
        };
        is_missed.then(|| {
            let message = "the session does not see what its token stands for".to_owned();
            accuse(key, message, vec![write.clone(), read.clone()])
        })
    }

    /// The write that a token's operation stands for: itself, or the one that it read.
    fn floor(&self, operation: &'a Operation) -> Option<&'a Operation> {
        match &operation.action {
            Action::Get { seen } => {
                let value = seen.as_ref()?.value.as_deref()?;
                self.puts.get(value).copied()
            }
            // The value stays as it is.
            Action::Expire { .. } => None,
            _ => (operation.outcome == Outcome::Applied).then_some(operation),
        }
    }

    /// A write done by an instant that the answer does not show.
    fn newer(&self, seen: &Seen, instant_ns: i64, to_ns: i64) -> Option<&'a Operation> {
        if seen.live {
            self.replaced_by(seen, instant_ns)
        } else {
            self.lives_throughout(instant_ns, to_ns)
        }
    }

    /// The put of a value that was shown between two instants although it had certainly expired before,
    /// and that in words.
    pub(crate) fn expired(
        &self,
        seen: &Seen,
        (start_ns, end_ns): (i64, i64),
        error_ns: i64,
    ) -> Option<(&'a Operation, String)> {
        let put = *self.puts.get(seen.value.as_deref()?)?;
        let Action::Put { ttl_ms, .. } = &put.action else {
            return None;
        };
        let until =
            |write: &Operation, ttl_ms: &Option<i64>| end_of(write).saturating_add(ttl_ns(*ttl_ms));
        let mut latest_ns = until(put, ttl_ms);
        for expire in &self.expires {
            let Action::Expire { ttl_ms, .. } = &expire.action else {
                continue;
            };
            if end_of(expire) >= put.start_ns && expire.start_ns <= end_ns {
                latest_ns = latest_ns.max(until(expire, ttl_ms));
            }
        }
        (start_ns > latest_ns.saturating_add(error_ns)).then(|| {
            let value = seen.value.as_deref().unwrap_or_default();
            let message =
                format!("{value:?} was shown although it had expired at {latest_ns} at the latest");
            (put, message)
        })
    }
}

/// The writes of all keys.
pub(crate) fn writes(history: &History) -> BTreeMap<&str, Writes<'_>> {
    let keys = history.keys.iter();
    keys.map(|(key, operations)| (key.as_str(), Writes::of(operations)))
        .collect()
}
