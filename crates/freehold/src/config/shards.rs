//! Where the servers are, and what must not be named twice.

use std::collections::HashMap;

use freehold_core::limits::SHARDS_MAX;
use freehold_storage::{Dsn, dsn::Target};

use super::{Problem, ShardSection};

/// Bytes in a shard's name: the width of its column.
const NAME_BYTES_MAX: usize = 64;

/// The servers of a shard, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardConfig {
    /// Unique.
    pub(crate) name: String,
    /// Named nowhere else.
    pub(crate) master: Dsn,
    /// Named nowhere else.
    pub(crate) replicas: Vec<Dsn>,
}

/// Checks names and DSNs. Problems are added to `problems`; what is returned is good if there are
/// none.
pub(crate) fn check(sections: &[ShardSection], problems: &mut Vec<Problem>) -> Vec<ShardConfig> {
    match sections.len() {
        0 => problems.push(Problem::new(
            "shards",
            "there are none: add a [[shards]] table with a name and a master",
        )),
        1..=SHARDS_MAX => {}
        many => problems.push(Problem::new(
            "shards",
            format!("{many} of {SHARDS_MAX} at most"),
        )),
    }
    check_names(sections, problems);
    let mut seen = HashMap::new();
    let mut shards = Vec::with_capacity(sections.len());
    for (index, section) in sections.iter().enumerate() {
        let key = format!("shards[{index}].master");
        let master = check_dsn(&section.master, &key, &mut seen, problems);
        if master.as_ref().is_some_and(|master| !master.may_lead()) {
            problems.push(Problem::new(
                &key,
                "promote=never is for replicas: a master leads",
            ));
        }
        let mut replicas = Vec::with_capacity(section.replicas.len());
        for (number, replica) in section.replicas.iter().enumerate() {
            let key = format!("shards[{index}].replicas[{number}]");
            if let (Some(master), Ok(replica)) = (&master, Dsn::parse(replica))
                && place(&replica) == place(master)
            {
                let words = format!(
                    "'{replica}' is the master of its own shard '{}'",
                    section.name
                );
                problems.push(Problem::new(key, words));
                continue;
            }
            replicas.extend(check_dsn(replica, &key, &mut seen, problems));
        }
        if let Some(master) = master {
            shards.push(ShardConfig {
                name: section.name.clone(),
                master,
                replicas,
            });
        }
    }
    shards
}

fn check_names(sections: &[ShardSection], problems: &mut Vec<Problem>) {
    let mut first = HashMap::new();
    for (index, ShardSection { name, .. }) in sections.iter().enumerate() {
        let key = format!("shards[{index}].name");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            let words = format!(
                "'{name}' is not a name: use 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.'"
            );
            problems.push(Problem::new(key, words));
        } else if let Some(before) = first.insert(name, index) {
            let words = format!("'{name}' is already the name of shards[{before}]");
            problems.push(Problem::new(key, words));
        }
    }
}

/// The DSN, if it is one. `seen` holds each place and the key that named it first.
fn check_dsn(
    text: &str,
    key: &str,
    seen: &mut HashMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Option<Dsn> {
    let dsn = match Dsn::parse(text) {
        Ok(dsn) => dsn,
        Err(error) => {
            problems.push(Problem::new(key, error.to_string()));
            return None;
        }
    };
    let place = place(&dsn);
    if let Some(before) = seen.get(&place) {
        let words = format!("'{dsn}' is named twice: it is also {before}");
        problems.push(Problem::new(key, words));
        return None;
    }
    seen.insert(place, key.to_owned());
    Some(dsn)
}

/// What must be unique: where a DSN leads, whatever the account. Names of hosts have no case.
fn place(dsn: &Dsn) -> String {
    match dsn.target() {
        Target::Mysql(target) => {
            format!(
                "{}:{}/{}",
                target.host.to_lowercase(),
                target.port,
                target.database
            )
        }
        Target::Sqlite(path) => path.display().to_string(),
    }
}
