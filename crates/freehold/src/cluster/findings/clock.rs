//! Clocks: expiry is decided by the master's, goes over to another's with a move or a failover, and
//! an EVENTUAL read from a replica goes by the replica's.

use std::time::Duration;

use freehold_core::limits::CLOCK_SKEW_MAX;

use super::{Judge, Setting, Severity, Topic, Words};
use crate::{
    cluster::survey::{Seen, Surveyed},
    output::human,
};

/// Above this, keys that move or fail over visibly live longer or shorter than they were told.
const CLOCK_SKEW_WARN: Duration = Duration::from_secs(1);

pub(super) fn judge(judge: &mut Judge<'_>, seen: &Seen, servers: &[Surveyed]) {
    time_zone(judge, seen);
    let Some((skew_ms, against)) = furthest(seen, servers) else {
        return;
    };
    let skew = Duration::from_millis(skew_ms.unsigned_abs());
    let severity = match skew {
        skew if skew > CLOCK_SKEW_MAX => Severity::Error,
        skew if skew > CLOCK_SKEW_WARN => Severity::Warning,
        _ => return,
    };
    let direction = if skew_ms > 0 { "ahead of" } else { "behind" };
    let words = Words {
        found: &format!("{} {direction} {against}", human::duration(skew)),
        wanted: &format!("within {}", human::duration(CLOCK_SKEW_WARN)),
        why: "A time to live that goes over to another server, by a move or a failover, is wrong by \
              so much, and so is one that an EVENTUAL read finds on a replica.",
    };
    let mend = vec![
        "on the server's host: run chrony or another NTP client (chronyc makestep)".to_owned(),
    ];
    judge.add(severity, Topic::Clock, "the clock", words, mend);
}

/// How far the clock is certainly off, from this machine's or that of another server, whichever is
/// further; what half a round trip explains does not count.
fn furthest(seen: &Seen, servers: &[Surveyed]) -> Option<(i64, String)> {
    let certain = |skew_ms: i64, error_ms: u64| {
        let rest = i64::try_from(skew_ms.unsigned_abs().saturating_sub(error_ms)).unwrap_or(0);
        rest * skew_ms.signum()
    };
    let facts = &seen.facts;
    let ours = (
        certain(facts.clock_skew_ms, facts.clock_error_ms),
        "this machine's".to_owned(),
    );
    let others = servers.iter().filter_map(|other| {
        let theirs = &other.seen.as_ref().ok()?.facts;
        let skew_ms = facts.clock_skew_ms.saturating_sub(theirs.clock_skew_ms);
        let error_ms = facts.clock_error_ms.saturating_add(theirs.clock_error_ms);
        Some((
            certain(skew_ms, error_ms),
            format!("that of {}", other.address),
        ))
    });
    std::iter::once(ours)
        .chain(others)
        .max_by_key(|(skew_ms, _)| skew_ms.unsigned_abs())
}

fn time_zone(judge: &mut Judge<'_>, seen: &Seen) {
    let variable = |name: &str| seen.facts.variables.get(name).map(String::as_str);
    let zone = match variable("time_zone") {
        Some("SYSTEM") => variable("system_time_zone"),
        zone => zone,
    };
    let Some(zone) = zone else { return };
    if matches!(
        zone.to_ascii_uppercase().as_str(),
        "UTC" | "+00:00" | "-00:00" | "GMT" | "ETC/UTC"
    ) {
        return;
    }
    let setting = Setting {
        name: "time_zone",
        value: "+00:00",
        dynamic: true,
    };
    let words = Words {
        found: zone,
        wanted: "+00:00",
        why: "Freehold sets its own sessions to UTC and is right in any zone; people who read the \
              tables in theirs see times that an hour of summer time repeats.",
    };
    // MariaDB's and MySQL's files call it differently from the variable.
    let mut mend = setting.mend(&seen.facts);
    mend.retain(|line| !line.starts_with("my.cnf"));
    mend.push("my.cnf, [mysqld]: default_time_zone = '+00:00'".to_owned());
    judge.add(Severity::Advice, Topic::Setting, "time_zone", words, mend);
}
