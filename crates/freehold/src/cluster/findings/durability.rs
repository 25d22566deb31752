//! Whether what was acknowledged survives.

use super::{Judge, Setting, Severity, Topic, Words, is_on};
use crate::cluster::survey::{Role, Seen};

pub(super) fn judge(judge: &mut Judge<'_>, seen: &Seen) {
    // What a replica loses in a power cut it copies again.
    let severity = match judge.server.role {
        Role::Master => Severity::Warning,
        Role::Replica => Severity::Advice,
    };
    judge.variable(
        severity,
        seen,
        &Setting {
            name: "innodb_flush_log_at_trx_commit",
            value: "1",
            dynamic: true,
        },
        &["1"],
        "With another value a power cut loses acknowledged writes of about the last second. One \
         flush serves a whole batch.",
    );
    if is_on(&seen.facts, "log_bin") == Some(true) {
        judge.variable(
            severity,
            seen,
            &Setting {
                name: "sync_binlog",
                value: "1",
                dynamic: true,
            },
            &["1"],
            "With another value a power cut leaves the log behind the data, and the replicas with \
             it for good.",
        );
    }
    semi_synchronous(judge, seen);
    leads_as_replica(judge, seen);
    group(judge, seen);
    judge.variable(
        Severity::Error,
        seen,
        &Setting {
            name: "default_storage_engine",
            value: "InnoDB",
            dynamic: true,
        },
        &["InnoDB"],
        "The fence and durability need transactions. A table that is restored or rebuilt here \
         without its engine named would have none.",
    );
    if is_on(&seen.facts, "wsrep_on") == Some(true) {
        let words = Words {
            found: "ON",
            wanted: "OFF",
            why: "Galera certifies no read locks, so the fence would not hold: two owners could \
                  write one key.",
        };
        let mend = vec![
            "use asynchronous or semi-synchronous replication, or Group Replication with a single \
             primary"
                .to_owned(),
        ];
        judge.add(Severity::Error, Topic::Setting, "wsrep_on", words, mend);
    }
}

/// Semi-synchronous replication that gives up waiting, or waits too late, promises nothing.
fn semi_synchronous(judge: &mut Judge<'_>, seen: &Seen) {
    for (kind, copies) in [("source", "replica"), ("master", "slave")] {
        let named = |what: &str| format!("rpl_semi_sync_{kind}_{what}");
        if is_on(&seen.facts, &named("enabled")) != Some(true) {
            continue;
        }
        let value = |what: &str| seen.facts.variables.get(&named(what)).cloned();
        let timeout_ms = value("timeout").and_then(|value| value.parse::<u64>().ok());
        if let Some(found) = timeout_ms.filter(|timeout_ms| *timeout_ms < ENDLESS_MS) {
            let words = Words {
                found: &found.to_string(),
                wanted: "3600000 or more",
                why: "A commit that waited so long is acknowledged although no replica has it, and a \
                      failover may lose it. Larger, writes stop while no replica answers.",
            };
            let name = named("timeout");
            let mend = vec![format!(
                "SET GLOBAL {name} = 1000000000; and the same in my.cnf"
            )];
            judge.add(Severity::Warning, Topic::Setting, &name, words, mend);
        }
        let no_copies = format!("wait_no_{copies}");
        if value(&no_copies).is_some_and(|found| found == "OFF") {
            let words = Words {
                found: "OFF",
                wanted: "ON",
                why: "As soon as too few replicas are connected, commits wait for none, whatever the \
                      timeout is, and a failover may lose them.",
            };
            let name = named(&no_copies);
            let mend = vec![format!("SET GLOBAL {name} = ON; and the same in my.cnf")];
            judge.add(Severity::Warning, Topic::Setting, &name, words, mend);
        }
        if value("wait_point").is_some_and(|found| found == "AFTER_COMMIT") {
            let words = Words {
                found: "AFTER_COMMIT",
                wanted: "AFTER_SYNC",
                why: "Others read what no replica has yet, and a failover takes it back.",
            };
            let name = named("wait_point");
            let mend = vec![format!(
                "SET GLOBAL {name} = 'AFTER_SYNC'; and the same in my.cnf"
            )];
            judge.add(Severity::Warning, Topic::Setting, &name, words, mend);
        }
    }
}

/// MariaDB goes by the setting for replicas when a server starts after a crash: what stands at the end of
/// its log, and was not acknowledged to it, a replica drops, a leader has to keep. (Seen with 10.11;
/// MDEV-33465.)
fn leads_as_replica(judge: &mut Judge<'_>, seen: &Seen) {
    let name = "rpl_semi_sync_slave_enabled";
    if judge.server.role != Role::Master || is_on(&seen.facts, name) != Some(true) {
        return;
    }
    let words = Words {
        found: "ON",
        wanted: "OFF where a server leads",
        why: "A server that is started with it after a crash takes itself for a replica, and drops from \
              its binary log what its own replicas may have received already.",
    };
    let mend = vec![format!("SET GLOBAL {name} = OFF; and the same in my.cnf")];
    judge.add(Severity::Warning, Topic::Setting, name, words, mend);
}

/// A wait for a replica that nobody outlasts.
const ENDLESS_MS: u64 = 3_600_000;

/// What a member does that its group threw out.
fn group(judge: &mut Judge<'_>, seen: &Seen) {
    let name = "group_replication_exit_state_action";
    if seen
        .facts
        .variables
        .get("group_replication_group_name")
        .is_none_or(String::is_empty)
    {
        return;
    }
    if seen
        .facts
        .variables
        .get(name)
        .is_some_and(|found| found == "READ_ONLY")
    {
        let words = Words {
            found: "READ_ONLY",
            wanted: "OFFLINE_MODE or ABORT_SERVER",
            why: "A member that its group threw out goes on answering reads, older and older ones, \
                  to those who do not know.",
        };
        let mend = vec![format!("SET PERSIST {name} = 'OFFLINE_MODE';")];
        judge.add(Severity::Warning, Topic::Setting, name, words, mend);
    }
}
