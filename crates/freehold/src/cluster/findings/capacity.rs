//! Packets, connections and prepared statements against what routers will ask for.

use freehold_core::limits::{KEY_BYTES_MAX, STATEMENT_BYTES_MAX};

use super::{Judge, Setting, Severity, Topic, Wanted, Words};
use crate::{
    cluster::survey::{Role, Seen},
    output::human,
};

/// Bytes of a statement besides keys and values.
const PACKET_OVERHEAD_BYTES: u64 = 64 << 10;

/// Connections of a router besides those of its lanes: loading the map, sweeping, watching, and
/// looking at a server.
const OTHER_CONNECTIONS: u64 = 4;

/// Connections that are kept for people, backups and monitoring.
const SPARE_CONNECTIONS: u64 = 20;

/// Statements that a connection for reads keeps prepared: one for each size of a list of keys and one
/// for many keys, under a known fence and not.
const STATEMENTS_PER_READER: u64 = 26;

/// Statements that a connection for writes keeps prepared: with and without expiry.
const STATEMENTS_PER_WRITER: u64 = 24;

/// Statements that a connection for scans keeps prepared.
const STATEMENTS_PER_SCANNER: u64 = 2;

/// What `max_allowed_packet` may be set to: a multiple of this.
const PACKET_STEP_BYTES: u64 = 1 << 20;

pub(super) fn judge(judge: &mut Judge<'_>, seen: &Seen, wanted: &Wanted) {
    packet(judge, seen, wanted);
    // Not the moment to find no room: right after it was promoted.
    let write_connections = match judge.server {
        server if server.role == Role::Master || server.may_lead => wanted.write_connections,
        _ => 0,
    };
    let busy = wanted.read_connections + write_connections + wanted.scan_connections;
    let Wanted { routers, .. } = wanted;
    let connections = routers * (busy + OTHER_CONNECTIONS) + SPARE_CONNECTIONS;
    at_least(
        judge,
        seen,
        "max_connections",
        connections,
        &format!(
            "{routers} × ({busy} of lanes + {OTHER_CONNECTIONS}) connections of routers \
             and {SPARE_CONNECTIONS} to spare; beyond the limit a router finds no way in."
        ),
    );
    let per_router = wanted.read_connections * STATEMENTS_PER_READER
        + write_connections * STATEMENTS_PER_WRITER
        + wanted.scan_connections * STATEMENTS_PER_SCANNER;
    at_least(
        judge,
        seen,
        "max_prepared_stmt_count",
        routers * per_router,
        &format!(
            "{routers} × {per_router} prepared statements of routers; beyond the limit new sizes of \
             a batch go as text, which costs more, and a PUT whose value is larger than half of \
             max_allowed_packet fails."
        ),
    );
}

fn packet(judge: &mut Judge<'_>, seen: &Seen, wanted: &Wanted) {
    let Some(found) = number(seen, "max_allowed_packet") else {
        return;
    };
    // A statement holds one largest value, or a batch of smaller ones.
    let row = wanted.value_bytes_max + KEY_BYTES_MAX as u64;
    let needed = row.max(STATEMENT_BYTES_MAX as u64) + PACKET_OVERHEAD_BYTES;
    if found >= needed {
        return;
    }
    let value = needed.next_multiple_of(PACKET_STEP_BYTES).to_string();
    let setting = Setting {
        name: "max_allowed_packet",
        value: &value,
        dynamic: true,
    };
    let words = Words {
        found: &human::bytes(found),
        wanted: &format!("at least {}", human::bytes(needed)),
        why: &format!(
            "Values may have {}, and a batch {}: larger packets break the connection they come \
             on. Connections that are open keep the old limit.",
            human::bytes(wanted.value_bytes_max),
            human::bytes(STATEMENT_BYTES_MAX as u64)
        ),
    };
    judge.add(
        Severity::Error,
        Topic::Setting,
        setting.name,
        words,
        setting.mend(&seen.facts),
    );
}

fn at_least(judge: &mut Judge<'_>, seen: &Seen, name: &str, needed: u64, why: &str) {
    let Some(found) = number(seen, name) else {
        return;
    };
    if found >= needed {
        return;
    }
    let setting = Setting {
        name,
        value: &needed.to_string(),
        dynamic: true,
    };
    let words = Words {
        found: &human::count(found),
        wanted: &format!("at least {}", human::count(needed)),
        why,
    };
    judge.add(
        Severity::Warning,
        Topic::Setting,
        name,
        words,
        setting.mend(&seen.facts),
    );
}

fn number(seen: &Seen, name: &str) -> Option<u64> {
    seen.facts.variables.get(name)?.parse().ok()
}
