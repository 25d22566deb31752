//! The account's rights: enough for requests, and not so many that they undo `read_only`.

use super::{
    Judge, Severity, Topic, Words,
    grants::{ALL, Grants, Needs},
    role::is_closed,
};
use crate::cluster::survey::{Role, Seen};

/// What a router needs on a master. The rights on other tables are the sweeper's and the mover's.
const MASTER: &Needs = &[
    ("store", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("shard", &["SELECT"]),
    ("slots", &["SELECT"]),
];

/// What a router needs on a replica.
const REPLICA: &Needs = &[
    ("store", &["SELECT"]),
    ("shard", &["SELECT"]),
    ("slots", &["SELECT"]),
];

/// Rights that let an account write on a server that is closed for writing.
const OVER_READ_ONLY: [&str; 4] = [
    "SUPER",
    "READ ONLY ADMIN",
    "READ_ONLY ADMIN",
    "CONNECTION_ADMIN",
];

pub(super) fn judge(judge: &mut Judge<'_>, seen: &Seen) {
    let Some(grants) = Grants::parse(&seen.facts.grants) else {
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
        judge.add(
            Severity::Error,
            Topic::Account,
            "the account's rights",
            words,
            mend,
        );
    }
    if !master || is_closed(seen) {
        over_read_only(judge, &grants);
    }
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
    judge.add(
        Severity::Warning,
        Topic::Account,
        "the account's rights",
        words,
        mend,
    );
}
