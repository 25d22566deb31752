//! Freehold's own tables, on this server and against the others'.

use std::ops::RangeInclusive;

use freehold_core::{SCHEMA_VERSION, ShardIdentity};
use freehold_storage::schema::SchemaState;

use super::{Judge, Severity, Topic, Words};
use crate::cluster::{
    plan::ranges,
    survey::{Role, Seen, Surveyed},
};

const INIT: &str = "freehold init --config FILE";

pub(super) fn judge(judge: &mut Judge<'_>, seen: &Seen, servers: &[Surveyed]) {
    collation(judge, seen);
    let replica = judge.server.role == Role::Replica;
    let identity = match &seen.state {
        SchemaState::Absent | SchemaState::Started(_) if replica => return behind(judge),
        SchemaState::Absent => {
            let why = "Its keys are not served.";
            return tables(judge, "missing", "Freehold's own", why, INIT);
        }
        SchemaState::Started(_) => {
            let why = "Its slots have no owner yet.";
            return tables(judge, "begun", "initialised", why, INIT);
        }
        SchemaState::Ready { identity, .. } => identity,
    };
    shard_and_version(judge, identity);
    if of_another_cluster(judge, identity, servers) {
        return;
    }
    if !replica {
        twice(judge, seen, servers);
    }
}

fn shard_and_version(judge: &mut Judge<'_>, identity: &ShardIdentity) {
    if identity.name != judge.server.shard {
        let found = format!("those of shard '{}'", identity.name);
        let wanted = format!("those of shard '{}'", judge.server.shard);
        let why = "Requests would go to a shard that does not own their keys.";
        tables(
            judge,
            &found,
            &wanted,
            why,
            "put the names and DSNs of the config in order",
        );
    }
    if identity.schema_version != SCHEMA_VERSION {
        let found = format!("version {}", identity.schema_version);
        let wanted = format!("version {SCHEMA_VERSION}");
        let mend = if identity.schema_version < SCHEMA_VERSION {
            "freehold migrate --config FILE"
        } else {
            "run a newer program"
        };
        tables(
            judge,
            &found,
            &wanted,
            "Routers refuse tables that they do not know.",
            mend,
        );
    }
}

/// Whether an earlier server shows another cluster.
fn of_another_cluster(
    judge: &mut Judge<'_>,
    identity: &ShardIdentity,
    servers: &[Surveyed],
) -> bool {
    for other in servers
        .iter()
        .take_while(|other| !std::ptr::eq(*other, judge.server))
    {
        let Ok(Seen {
            state: SchemaState::Ready {
                identity: theirs, ..
            },
            ..
        }) = &other.seen
        else {
            continue;
        };
        if theirs.cluster_id != identity.cluster_id {
            let found = format!("of cluster {:016x}", identity.cluster_id);
            let wanted = format!(
                "of cluster {:016x}, as {}",
                theirs.cluster_id, other.address
            );
            let why = "Servers of two clusters must never serve one config.";
            let mend = "take one of the two out of the config";
            tables(judge, &found, &wanted, why, mend);
            return true;
        }
    }
    false
}

/// A replica that has not got its master's tables: it may be about to get them.
fn behind(judge: &mut Judge<'_>) {
    let words = Words {
        found: "not yet those of its master",
        wanted: "those of its master",
        why: "It serves no reads until then.",
    };
    let mend = vec!["wait a moment; if it stays so: SHOW REPLICA STATUS".to_owned()];
    judge.add(Severity::Warning, Topic::Tables, "tables", words, mend);
}

/// A slot that two masters claim. Moves leave two claims for a moment, so it is asked to look
/// again.
fn twice(judge: &mut Judge<'_>, seen: &Seen, servers: &[Surveyed]) {
    let SchemaState::Ready { claimed, .. } = &seen.state else {
        return;
    };
    let before = servers
        .iter()
        .take_while(|other| !std::ptr::eq(*other, judge.server))
        .filter(|other| other.role == Role::Master);
    for other in before {
        let Ok(Seen {
            state: SchemaState::Ready {
                claimed: theirs, ..
            },
            ..
        }) = &other.seen
        else {
            continue;
        };
        let both = overlap(claimed, theirs);
        if !both.is_empty() {
            let found = format!("slots {} here and on {}", ranges(&both), other.address);
            let why = "A slot has one owner. While slots move, two show for a moment.";
            let mend = "look again; if it stays, see `freehold explain` for a key of those slots";
            tables(judge, &found, "each slot once", why, mend);
        }
    }
}

fn tables(judge: &mut Judge<'_>, found: &str, wanted: &str, why: &str, mend: &str) {
    let words = Words { found, wanted, why };
    judge.add(
        Severity::Error,
        Topic::Tables,
        "tables",
        words,
        vec![mend.to_owned()],
    );
}

fn collation(judge: &mut Judge<'_>, seen: &Seen) {
    let Some(collation) = &seen.facts.key_collation else {
        return;
    };
    if collation == "binary" {
        return;
    }
    let words = Words {
        found: collation,
        wanted: "binary",
        why: "Keys are bytes. Compared as text, `a` and `A` would be one key and overwrite each \
              other.",
    };
    let mend = "ALTER TABLE store MODIFY `key` VARBINARY(1024) NOT NULL;".to_owned();
    judge.add(
        Severity::Error,
        Topic::Tables,
        "collation of store.key",
        words,
        vec![mend],
    );
}

fn overlap(a: &[RangeInclusive<u16>], b: &[RangeInclusive<u16>]) -> Vec<RangeInclusive<u16>> {
    let mut both = Vec::new();
    let (mut left, mut right) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(x), Some(y)) = (left.peek(), right.peek()) {
        let (start, end) = (*x.start().max(y.start()), *x.end().min(y.end()));
        if start <= end {
            both.push(start..=end);
        }
        if x.end() <= y.end() {
            left.next()
        } else {
            right.next()
        };
    }
    both
}
