//! What is not well with a server, and what mends it: a pure function of what the servers said.
//!
//! Each submodule looks at one side of a server. A finding says what was found, what is wanted, why
//! it matters, and the exact statement or setting that mends it.

mod account;
#[cfg(test)]
mod account_tests;
mod capacity;
mod clock;
mod durability;
mod grants;
mod log;
mod mover;
mod role;
mod sweeper;
mod tables;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use freehold_core::limits::VALUE_BYTES_MAX_DEFAULT;
use freehold_storage::{StorageError, schema::ServerFacts};
use serde::Serialize;

use super::survey::{Role, Seen, Surveyed};

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Data or service breaks: `init` refuses a master with one, unless it is about tables or
    /// rights.
    Error,
    /// It works until something happens.
    Warning,
    /// It works, for more than it need cost.
    Advice,
}

/// Which part of a server a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Topic {
    /// Whether it answers.
    Reach,
    /// How it is set: what `init` looks at.
    Setting,
    /// Its clock.
    Clock,
    /// The account's rights.
    Account,
    /// Freehold's own tables: before `init` there are none.
    Tables,
}

/// One thing that is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) topic: Topic,
    pub(crate) shard: String,
    pub(crate) role: Role,
    /// Its address.
    pub(crate) server: String,
    /// The setting, or what it is about.
    pub(crate) what: String,
    pub(crate) found: String,
    pub(crate) wanted: String,
    pub(crate) why: String,
    /// Statements and settings that mend it, in order.
    pub(crate) mend: Vec<String>,
}

impl Finding {
    /// Whether a server with it must not get slots. Tables are what `init` is about, and it judges
    /// them itself; rights on them can only be given when they are there.
    pub(crate) fn stops_init(&self) -> bool {
        self.severity == Severity::Error && !matches!(self.topic, Topic::Tables | Topic::Account)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "shard '{}' ({} {}): {} is {}, wanted: {}. {}",
            self.shard,
            self.role.word(),
            self.server,
            self.what,
            self.found,
            self.wanted,
            self.why
        )?;
        self.mend
            .iter()
            .try_for_each(|mend| write!(f, "\n    {mend}"))
    }
}

/// What the servers have to bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The largest value.
    pub(crate) value_bytes_max: u64,
    /// Routers in all.
    pub(crate) routers: u64,
    /// Connections of the read lane of each server, for each router.
    pub(crate) read_connections: u64,
    /// Connections of the write lane of each master, for each router.
    pub(crate) write_connections: u64,
    /// Connections for scans of each server, for each router.
    pub(crate) scan_connections: u64,
    /// Whether it is the routers' own account that asks: another one's rights say nothing.
    pub(crate) own_account: bool,
    /// How far a replica may be behind while its shard is swept.
    pub(crate) replica_lag_max: Duration,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            value_bytes_max: VALUE_BYTES_MAX_DEFAULT as u64,
            routers: 1,
            read_connections: 2,
            write_connections: 2,
            scan_connections: 2,
            own_account: true,
            replica_lag_max: Duration::from_secs(5),
        }
    }
}

/// Everything that is not well, worst first for each server, in the order of the servers.
pub(crate) fn findings(servers: &[Surveyed], wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Vec::new();
    for server in servers {
        let mut judge = Judge {
            server,
            findings: Vec::new(),
        };
        match &server.seen {
            Err(error) => unreachable(&mut judge, error),
            Ok(seen) => {
                log::judge(&mut judge, seen);
                durability::judge(&mut judge, seen);
                capacity::judge(&mut judge, seen, wanted);
                role::judge(&mut judge, seen, servers);
                clock::judge(&mut judge, seen, servers);
                if wanted.own_account {
                    account::judge(&mut judge, seen, servers);
                }
                sweeper::judge(&mut judge, seen, wanted);
                mover::judge(&mut judge, seen);
                tables::judge(&mut judge, seen, servers);
            }
        }
        judge.findings.sort_by_key(|finding| finding.severity);
        findings.append(&mut judge.findings);
    }
    findings
}

/// Of both servers: the database of the DSN is not there.
const NO_SUCH_DATABASE: u32 = 1049;

fn unreachable(judge: &mut Judge<'_>, error: &StorageError) {
    let why = match judge.server.role {
        Role::Master => "Its keys are not served.",
        Role::Replica => {
            "EVENTUAL reads go elsewhere, and the shard is not swept: nobody knows how far the \
             replica is behind, and deleting could put it further."
        }
    };
    let mend = format!(
        "start it, or set address and account of shard '{}' right in the config{}",
        judge.server.shard,
        match judge.server.role {
            Role::Master => "",
            Role::Replica => ", or take it out of there for as long as it is down",
        }
    );
    let mend = match (error, &judge.server.database) {
        (
            StorageError::Refused {
                code: NO_SUCH_DATABASE,
                ..
            },
            Some(database),
        ) => format!("CREATE DATABASE `{database}`;"),
        _ => mend,
    };
    let words = Words {
        found: &error.to_string(),
        wanted: "an answer",
        why,
    };
    judge.add(
        Severity::Error,
        Topic::Reach,
        "the server",
        words,
        vec![mend],
    );
}

/// One server before its judges.
struct Judge<'a> {
    server: &'a Surveyed,
    findings: Vec<Finding>,
}

/// What a finding says.
struct Words<'a> {
    found: &'a str,
    wanted: &'a str,
    why: &'a str,
}

impl Judge<'_> {
    fn add(
        &mut self,
        severity: Severity,
        topic: Topic,
        what: &str,
        words: Words<'_>,
        mend: Vec<String>,
    ) {
        self.findings.push(Finding {
            severity,
            topic,
            shard: self.server.shard.clone(),
            role: self.server.role,
            server: self.server.address.clone(),
            what: what.to_owned(),
            found: words.found.to_owned(),
            wanted: words.wanted.to_owned(),
            why: words.why.to_owned(),
            mend,
        });
    }

    /// A variable that is not what it should be. A server that does not know it is well without.
    fn variable(
        &mut self,
        severity: Severity,
        seen: &Seen,
        setting: &Setting<'_>,
        accepted: &[&str],
        why: &str,
    ) {
        let Some(found) = seen.facts.variables.get(setting.name) else {
            return;
        };
        if accepted.iter().any(|value| same_value(found, value)) {
            return;
        }
        let words = Words {
            found,
            wanted: setting.value,
            why,
        };
        let mend = setting.mend(&seen.facts);
        self.add(severity, Topic::Setting, setting.name, words, mend);
    }
}

/// A variable and the value it should have.
struct Setting<'a> {
    name: &'a str,
    value: &'a str,
    /// Whether a running server takes it.
    dynamic: bool,
}

impl Setting<'_> {
    /// How this engine is told, now and after its next start.
    fn mend(&self, facts: &ServerFacts) -> Vec<String> {
        let Self {
            name,
            value,
            dynamic,
        } = self;
        let line = format!("my.cnf, [mysqld]: {name} = {value}");
        match (*dynamic, is_mariadb(facts)) {
            (false, _) => vec![format!("{line}   (and restart the server)")],
            (true, true) => vec![format!("SET GLOBAL {name} = {};", sql(value)), line],
            (true, false) => vec![format!("SET PERSIST {name} = {};", sql(value))],
        }
    }
}

fn sql(value: &str) -> String {
    if value.parse::<u64>().is_ok() || matches!(value, "ON" | "OFF") {
        return value.to_owned();
    }
    format!("'{value}'")
}

/// `ON` and `1` are the same to a server, and words have no case.
fn same_value(found: &str, wanted: &str) -> bool {
    let plain = |value: &str| match value.to_ascii_uppercase().as_str() {
        "1" | "ON" | "YES" | "TRUE" => "ON".to_owned(),
        "0" | "OFF" | "NO" | "FALSE" => "OFF".to_owned(),
        other => other.to_owned(),
    };
    plain(found) == plain(wanted)
}

fn is_on(facts: &ServerFacts, name: &str) -> Option<bool> {
    facts
        .variables
        .get(name)
        .map(|value| !same_value(value, "OFF"))
}

fn is_mariadb(facts: &ServerFacts) -> bool {
    facts.engine.eq_ignore_ascii_case("mariadb")
}
