//! The binary log: whether replicas copy the right thing, and at what price.

use super::{Judge, Setting, Severity, is_on};
use crate::cluster::survey::{Role, Seen};

pub(super) fn judge(judge: &mut Judge<'_>, seen: &Seen) {
    judge.variable(
        Severity::Error,
        seen,
        &Setting {
            name: "binlog_format",
            value: "ROW",
            dynamic: true,
        },
        &["ROW"],
        "In another format a replica runs the statements again, where DELETE ... LIMIT and \
         @@server_id mean other rows and another server. Sessions that are open keep the old \
         format: restart the routers.",
    );
    is_written(judge, seen);
    // The rest is the price of a log; where none is written, there is none.
    if is_on(&seen.facts, "log_bin") == Some(false) {
        return;
    }
    price(judge, seen);
    positions(judge, seen);
    if judge.server.role == Role::Replica {
        replica(judge, seen);
    }
}

fn is_written(judge: &mut Judge<'_>, seen: &Seen) {
    let master = judge.server.role == Role::Master;
    judge.variable(
        if master {
            Severity::Warning
        } else {
            Severity::Advice
        },
        seen,
        &Setting {
            name: "log_bin",
            value: "binlog",
            dynamic: false,
        },
        &["ON"],
        if master {
            "Without a binary log no replica can copy this master, and no backup can be brought \
             up to a moment."
        } else {
            "A replica without a binary log cannot be promoted: nobody could copy it."
        },
    );
}

/// What makes it larger than it need be.
fn price(judge: &mut Judge<'_>, seen: &Seen) {
    judge.variable(
        Severity::Advice,
        seen,
        &Setting {
            name: "binlog_row_image",
            value: "NOBLOB",
            dynamic: true,
        },
        &["NOBLOB", "MINIMAL"],
        "With FULL, an EXPIRE of a 1 MiB value writes 2 MB of log instead of 300 bytes.",
    );
    for name in ["binlog_annotate_row_events", "binlog_rows_query_log_events"] {
        judge.variable(
            Severity::Advice,
            seen,
            &Setting {
                name,
                value: "OFF",
                dynamic: true,
            },
            &["OFF"],
            "The text of each statement stands in the log besides its rows, and doubles it.",
        );
    }
}

/// How replicas find their place in it.
fn positions(judge: &mut Judge<'_>, seen: &Seen) {
    judge.variable(
        Severity::Advice,
        seen,
        &Setting {
            name: "gtid_strict_mode",
            value: "ON",
            dynamic: true,
        },
        &["ON"],
        "Without it a write on a replica goes unnoticed until the next failover.",
    );
    judge.variable(
        Severity::Advice,
        seen,
        &Setting {
            name: "gtid_mode",
            value: "ON",
            dynamic: false,
        },
        &["ON"],
        "Without it replicas find their place by file and offset, which mean nothing on another \
         master.",
    );
    // The one does not start without the other.
    let consistency = Setting {
        name: "enforce_gtid_consistency",
        value: "ON",
        dynamic: false,
    };
    if let Some(finding) = judge
        .findings
        .iter_mut()
        .find(|one| one.what == "gtid_mode")
        && is_on(&seen.facts, consistency.name) != Some(true)
    {
        finding.mend.splice(0..0, consistency.mend(&seen.facts));
    }
}

/// What a replica makes of it.
fn replica(judge: &mut Judge<'_>, seen: &Seen) {
    for name in ["log_slave_updates", "log_replica_updates"] {
        judge.variable(
            Severity::Advice,
            seen,
            &Setting {
                name,
                value: "ON",
                dynamic: false,
            },
            &["ON"],
            "A replica that does not log what it applies cannot be promoted: the others would \
             miss it.",
        );
    }
    judge.variable(
        Severity::Warning,
        seen,
        &Setting {
            name: "replica_preserve_commit_order",
            value: "ON",
            dynamic: true,
        },
        &["ON"],
        "Applied out of order, this replica shows states that the master never had. It takes \
         effect after STOP REPLICA SQL_THREAD; START REPLICA SQL_THREAD;",
    );
}
