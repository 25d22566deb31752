//! Whether the shard can be swept: the rights of the sweeper's account, and what it must see.
//!
//! Nobody misses a sweeper: requests go on, and the disk fills. So what keeps it from working is
//! told here.

use std::time::Duration;

use freehold_storage::{Refusal, StorageError, schema::SchemaState};

use super::{Judge, Severity, Topic, Wanted, Words, grants::Grants, grants::Needs, is_mariadb};
use crate::{
    cluster::survey::{Role, Seen, Watched},
    output::human,
};

/// What a sweeper needs on a master.
const MASTER: &Needs = &[
    ("store", &["SELECT", "DELETE"]),
    ("shard", &["SELECT"]),
    ("slots", &["SELECT"]),
    ("leases", &["SELECT", "UPDATE"]),
];

const ACCOUNT: &str = "the sweeper's account";

const OWN_ACCOUNT: &str = "or give [sweeper] user an account with the rights of \
                           deploy/*/accounts.sql and grants.sql";

pub(super) fn judge(judge: &mut Judge<'_>, seen: &Seen, wanted: &Wanted) {
    let Some(watched) = &judge.server.watched else {
        return;
    };
    let watched = match watched {
        Ok(watched) => watched,
        Err(error) => return no_login(judge, error),
    };
    let grants = Grants::read(judge, ACCOUNT, &watched.grants);
    match judge.server.role {
        Role::Master => {
            rights(judge, seen, grants.as_ref());
            purge(judge, watched, grants.as_ref());
        }
        Role::Replica => lag(
            judge,
            seen,
            watched,
            grants.as_ref(),
            wanted.replica_lag_max,
        ),
    }
}

fn no_login(judge: &mut Judge<'_>, error: &StorageError) {
    let words = Words {
        found: &error.to_string(),
        wanted: "a login",
        why: "The shard is not swept: expired and deleted rows stay on the disk.",
    };
    let mend = vec![
        "set sweeper.user and its password in the config; deploy/*/accounts.sql makes the account"
            .to_owned(),
    ];
    judge.add(Severity::Error, Topic::Account, ACCOUNT, words, mend);
}

fn rights(judge: &mut Judge<'_>, seen: &Seen, grants: Option<&Grants>) {
    // Rights on single tables can be given when the tables are there.
    let (Some(grants), Some(database), SchemaState::Ready { .. }) =
        (grants, &judge.server.database, &seen.state)
    else {
        return;
    };
    if let Some((found, mut mend)) = grants.lacks(database, MASTER) {
        mend.push(OWN_ACCOUNT.to_owned());
        let words = Words {
            found: &found,
            wanted: "what sweeping needs",
            why: "The shard is not swept: expired and deleted rows stay on the disk. (Roles count \
                  too: this account has none.)",
        };
        judge.add(Severity::Error, Topic::Account, ACCOUNT, words, mend);
    }
}

fn purge(judge: &mut Judge<'_>, watched: &Watched, grants: Option<&Grants>) {
    if !is_denied(watched.seen.as_ref().err()) {
        return;
    }
    let words = Words {
        found: "no PROCESS",
        wanted: "PROCESS",
        why: "It cannot see how many deleted rows wait to be purged, and goes on deleting while a \
              long snapshot holds the purge up.",
    };
    let mend = vec![global_grant("PROCESS", grants)];
    judge.add(Severity::Advice, Topic::Account, ACCOUNT, words, mend);
}

fn lag(
    judge: &mut Judge<'_>,
    seen: &Seen,
    watched: &Watched,
    grants: Option<&Grants>,
    limit: Duration,
) {
    let wanted = format!("at most {} behind", human::duration(limit));
    let why = "Sweeping of the shard stops while a replica is further behind than \
               sweeper.replica_lag_ms_max, or cannot say how far.";
    let mut add = |severity, topic, what, found: &str, mend| {
        let words = Words {
            found,
            wanted: &wanted,
            why,
        };
        judge.add(severity, topic, what, words, vec![mend]);
    };
    match &watched.seen {
        Err(error) => {
            let right = match is_mariadb(&seen.facts) {
                true => "REPLICA MONITOR",
                false => "REPLICATION CLIENT",
            };
            let mend = match is_denied(Some(error)) {
                true => global_grant(right, grants),
                false => "SHOW REPLICA STATUS;".to_owned(),
            };
            let found = format!("cannot ask for the lag: {error}");
            add(Severity::Error, Topic::Account, ACCOUNT, &found, mend);
        }
        Ok(None) => {
            let mend = "SHOW REPLICA STATUS; START REPLICA;   (or take it out of the config)";
            let found = "unknown: it does not copy a master, or a part of its replication stands";
            add(
                Severity::Warning,
                Topic::Reach,
                "replication",
                found,
                mend.to_owned(),
            );
        }
        Ok(Some(lag_ms)) if u128::from(*lag_ms) > limit.as_millis() => {
            let found = format!("{} behind", human::duration(Duration::from_millis(*lag_ms)));
            let mend = "wait until it caught up, or raise sweeper.replica_lag_ms_max".to_owned();
            add(Severity::Warning, Topic::Reach, "replication", &found, mend);
        }
        Ok(Some(_)) => {}
    }
}

fn is_denied(error: Option<&StorageError>) -> bool {
    matches!(
        error,
        Some(StorageError::Refused {
            refusal: Refusal::Denied,
            ..
        })
    )
}

fn global_grant(right: &str, grants: Option<&Grants>) -> String {
    let grantee = grants.map_or("ACCOUNT", Grants::grantee);
    format!("GRANT {right} ON *.* TO {grantee};")
}
