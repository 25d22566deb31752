//! Whether a server is what the config says it is.

use super::{Finding, Judge, Setting, Severity, Topic, Words, is_mariadb, is_on};
use crate::cluster::survey::{Role, Seen, Surveyed};

pub(super) fn judge(judge: &mut Judge<'_>, seen: &Seen, servers: &[Surveyed]) {
    match judge.server.role {
        Role::Master => master(judge, seen),
        Role::Replica => replica(judge, seen),
    }
    if let Some(leader) = judge.server.succeeded_by.clone() {
        succeeded(judge, &leader);
    }
    let others = servers
        .iter()
        .take_while(|other| !std::ptr::eq(*other, judge.server))
        .filter(|other| other.shard == judge.server.shard);
    for other in others {
        another_one(judge, seen, other, servers);
    }
    if seen.facts.server_id == 0 && seen.facts.variables.contains_key("log_bin") {
        let why = "The fence names the server that wrote it, and nobody replicates with server 0.";
        not_its_own_number(judge, seen, servers, "0", why);
    }
}

fn master(judge: &mut Judge<'_>, seen: &Seen) {
    let settings = [
        ("super_read_only", true),
        ("read_only", true),
        ("innodb_read_only", false),
    ];
    let settings = settings.map(|(name, dynamic)| Setting {
        name,
        value: "OFF",
        dynamic,
    });
    let first = judge.findings.len();
    for setting in &settings {
        judge.variable(
            Severity::Error,
            seen,
            setting,
            &["OFF"],
            "It is the master, by its fence or by the config, and takes no writes. If another server of \
             the shard was promoted, name that one as the master.",
        );
    }
    // The stricter setting implies the other: one finding, that mends both.
    let others: Vec<Finding> = judge
        .findings
        .drain(judge.findings.len().min(first + 1)..)
        .collect();
    if let Some(finding) = judge.findings.get_mut(first) {
        let mend = others.into_iter().flat_map(|other| other.mend);
        finding.mend.extend(mend);
    }
}

fn replica(judge: &mut Judge<'_>, seen: &Seen) {
    let strict = if is_mariadb(&seen.facts) {
        "read_only"
    } else {
        "super_read_only"
    };
    judge.variable(
        Severity::Warning,
        seen,
        &Setting {
            name: strict,
            value: "ON",
            dynamic: true,
        },
        // MariaDB 12 has words for who is still let through.
        &["ON", "NO_LOCK", "NO_LOCK_NO_ADMIN"],
        "A replica that takes writes can come to hold rows that its master never had, and EVENTUAL \
         reads would show them.",
    );
}

/// Routers follow by themselves; the config is for people, and for what starts anew.
fn succeeded(judge: &mut Judge<'_>, leader: &str) {
    let words = Words {
        found: &format!("{leader} leads since a failover"),
        wanted: "the server that leads",
        why: "The config names this server as the master, and `init` and `migrate` would ask it.",
    };
    let mend = format!(
        "name {leader} as the master of shard '{}' in the config, and this one among its replicas",
        judge.server.shard
    );
    judge.add(
        Severity::Advice,
        Topic::Setting,
        "the master",
        words,
        vec![mend],
    );
}

/// Whether this and an earlier server of the shard are two.
fn another_one(judge: &mut Judge<'_>, seen: &Seen, other: &Surveyed, servers: &[Surveyed]) {
    let Ok(theirs) = &other.seen else {
        return;
    };
    let uuid = |seen: &Seen| seen.facts.variables.get("server_uuid").cloned();
    if uuid(seen).is_some() && uuid(seen) == uuid(theirs) {
        let found = format!("the {} {} itself", other.role.word(), other.address);
        let words = Words {
            found: &format!("{found}, under another name"),
            wanted: "another server",
            why: "Reads would go to the server that they were to be kept from, and a failover would \
                  find nobody to go to.",
        };
        let mend = vec![format!(
            "take one of the two out of shard '{}'",
            judge.server.shard
        )];
        judge.add(Severity::Error, Topic::Setting, "the replica", words, mend);
    } else if seen.facts.server_id == theirs.facts.server_id && seen.facts.server_id != 0 {
        let found = format!("{}, the same as {}", seen.facts.server_id, other.address);
        let why = "A server ignores what comes from its own number, a master keeps only one of two \
                   replicas of one number, and the fence could not tell them apart after a failover.";
        not_its_own_number(judge, seen, servers, &found, why);
    }
}

fn not_its_own_number(
    judge: &mut Judge<'_>,
    seen: &Seen,
    servers: &[Surveyed],
    found: &str,
    why: &str,
) {
    let setting = Setting {
        name: "server_id",
        value: &free_server_id(servers),
        dynamic: true,
    };
    let words = Words {
        found,
        wanted: "a number of its own",
        why,
    };
    let mend = setting.mend(&seen.facts);
    judge.add(Severity::Error, Topic::Setting, setting.name, words, mend);
}

/// A number that no server of the config has.
fn free_server_id(servers: &[Surveyed]) -> String {
    let seen = servers
        .iter()
        .filter_map(|server| server.seen.as_ref().ok());
    let largest = seen.map(|seen| seen.facts.server_id).max().unwrap_or(0);
    (largest + 1).to_string()
}

/// Whether the account may write where `read_only` forbids it.
pub(super) fn is_closed(seen: &Seen) -> bool {
    ["read_only", "super_read_only", "innodb_read_only"]
        .iter()
        .any(|name| is_on(&seen.facts, name) == Some(true))
}
