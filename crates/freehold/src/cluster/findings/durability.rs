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
