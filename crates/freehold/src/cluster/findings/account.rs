//! The account's rights: enough for requests, and not so many that they undo `read_only`.

use super::{
    Judge, Severity, Topic, Words,
    grants::{ALL, EXECUTE, Grants, Needs},
    is_mariadb,
    role::is_closed,
};
use crate::cluster::survey::{Role, Seen, Surveyed};

/// What findings call the rights.
const ACCOUNT: &str = "the account's rights";

/// What a router needs on a master. The rights on other tables are the sweeper's.
const MASTER: &Needs = &[
    ("store", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("shard", &["SELECT"]),
    ("slots", &["SELECT"]),
    ("moved_keys", &["SELECT", "INSERT", "UPDATE"]),
    ("write_logged", &[EXECUTE]),
    ("heartbeat", &["SELECT", "UPDATE"]),
    ("numbers", &["SELECT"]),
    ("terms", &["SELECT"]),
];

/// What a router needs on a replica.
const REPLICA: &Needs = &[
    ("store", &["SELECT"]),
    ("shard", &["SELECT"]),
    ("slots", &["SELECT"]),
    ("heartbeat", &["SELECT"]),
    ("numbers", &["SELECT"]),
    ("terms", &["SELECT"]),
];

/// What adopting a promoted server takes, besides the rights of every router. Whichever server is
/// promoted needs it.
const ADOPTION: &Needs = &[
    ("shard", &["UPDATE (term, epoch, server_id, stamp)"]),
    ("slots", &["UPDATE (attempt, since_epoch)"]),
    ("terms", &["INSERT", "DELETE"]),
];

/// Where a MySQL server shows that it copies nobody any more, and what its group says of it.
const COPYING_OF_MYSQL: &Needs = &[
    ("replication_connection_status", &["SELECT"]),
    ("replication_applier_status", &["SELECT"]),
    ("replication_group_members", &["SELECT"]),
    ("replication_group_member_stats", &["SELECT"]),
];

/// Rights that show a replica's threads, as the servers print them.
const SHOW_THREADS: [&str; 5] = [
    ALL,
    "SUPER",
    "REPLICATION CLIENT",
    "REPLICA MONITOR",
    "SLAVE MONITOR",
];

/// Rights that let an account write on a server that is closed for writing.
const OVER_READ_ONLY: [&str; 4] = [
    "SUPER",
    "READ ONLY ADMIN",
    "READ_ONLY ADMIN",
    "CONNECTION_ADMIN",
];

pub(super) fn judge(judge: &mut Judge<'_>, seen: &Seen, servers: &[Surveyed]) {
    let Some(grants) = Grants::read(judge, ACCOUNT, &seen.facts.grants) else {
        return;
    };
    let Some(database) = &judge.server.database else {
        return;
    };
    let master = judge.server.role == Role::Master;
    let needs = if master { MASTER } else { REPLICA };
    if let Some((found, mend)) = grants.lacks(database, needs) {
        let words = Words {
            found: &found,
            wanted: "what requests need",
            why: "Requests of this kind are refused by the server. (Roles count too: this account \
                  has none.)",
        };
        judge.add(Severity::Error, Topic::Account, ACCOUNT, words, mend);
    }
    let of_shard = |server: &&Surveyed| server.shard == judge.server.shard;
    if servers.iter().filter(of_shard).count() > 1 {
        adoption(judge, seen, &grants, database);
    }
    if !master {
        show_threads(judge, seen, &grants);
    }
    if !master || is_closed(seen) {
        over_read_only(judge, &grants);
    }
}

/// Whether routers may follow a failover.
fn adoption(judge: &mut Judge<'_>, seen: &Seen, grants: &Grants, database: &str) {
    let mut lacks: Vec<_> = grants.lacks(database, ADOPTION).into_iter().collect();
    if !is_mariadb(&seen.facts) {
        lacks.extend(grants.lacks("performance_schema", COPYING_OF_MYSQL));
    }
    let (found, mend): (Vec<String>, Vec<Vec<String>>) = lacks.into_iter().unzip();
    if found.is_empty() {
        return;
    }
    let words = Words {
        found: &found.join("; "),
        wanted: "what adopting a promoted server needs",
        why: "Where this server is promoted, routers cannot adopt it, and the shard takes no writes \
              until somebody grants this.",
    };
    let what = "the account's rights after a failover";
    judge.add(
        Severity::Warning,
        Topic::Account,
        what,
        words,
        mend.concat(),
    );
}

/// Whether the account sees how a replica follows its master.
fn show_threads(judge: &mut Judge<'_>, seen: &Seen, grants: &Grants) {
    if grants.global().any(|right| SHOW_THREADS.contains(&right)) {
        return;
    }
    let right = match is_mariadb(&seen.facts) {
        true => "REPLICA MONITOR",
        false => "REPLICATION CLIENT",
    };
    let words = Words {
        found: &format!("no {right}"),
        wanted: "what watching a replica needs",
        why: "Routers that cannot see its threads read from it with EVENTUAL only, and after \
              reads.replica_unusable_after_ms not even that.",
    };
    let mend = vec![format!("GRANT {right} ON *.* TO {};", grants.grantee())];
    judge.add(Severity::Warning, Topic::Account, ACCOUNT, words, mend);
}

/// Rights that undo `read_only`.
fn over_read_only(judge: &mut Judge<'_>, grants: &Grants) {
    let global: Vec<&str> = grants
        .global()
        .filter(|right| *right == ALL || OVER_READ_ONLY.contains(right))
        .collect();
    if global.is_empty() {
        return;
    }
    let words = Words {
        found: &format!("{} on every database", global.join(", ")),
        wanted: "none that overrides read_only",
        why: "With it the account writes on a server that was closed for writing.",
    };
    let mend = vec![
        format!(
            "REVOKE {} ON *.* FROM {};",
            global.join(", "),
            grants.grantee()
        ),
        "or give the config an account with the rights of deploy/*/grants.sql alone".to_owned(),
    ];
    judge.add(Severity::Warning, Topic::Account, ACCOUNT, words, mend);
}
