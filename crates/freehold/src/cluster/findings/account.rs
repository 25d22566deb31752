//! The account's rights: enough for requests, and not so many that they undo `read_only`.

use super::{Judge, Severity, Topic, Words, role::is_closed};
use crate::cluster::survey::{Role, Seen};

/// What a router needs on the whole schema, or on each of the tables.
const MASTER: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE"];
const REPLICA: &[&str] = &["SELECT"];

/// Tables a router reads and writes; the rights on others are the sweeper's and the mover's.
const WRITTEN: &str = "store";
const READ: [&str; 2] = ["shard", "slots"];

/// Rights that let an account write on a server that is closed for writing.
const OVER_READ_ONLY: [&str; 4] = [
    "SUPER",
    "READ ONLY ADMIN",
    "READ_ONLY ADMIN",
    "CONNECTION_ADMIN",
];

/// Every right there is.
const ALL: &str = "ALL PRIVILEGES";

pub(super) fn judge(judge: &mut Judge<'_>, seen: &Seen) {
    let grants: Vec<Grant> = seen
        .facts
        .grants
        .iter()
        .filter_map(|text| parse(text))
        .collect();
    // Roles hide what they allow: then nothing can be said.
    if grants.is_empty() || seen.facts.grants.len() > grants.len() + skippable(&seen.facts.grants) {
        return;
    }
    let Some(database) = &judge.server.database else {
        return;
    };
    let grantee = &grants[0].grantee;
    let master = judge.server.role == Role::Master;
    let needed = if master { MASTER } else { REPLICA };
    let mut missing: Vec<(&str, Vec<&str>)> = Vec::new();
    for (table, rights) in
        std::iter::once((WRITTEN, needed)).chain(READ.map(|table| (table, REPLICA)))
    {
        let lacks: Vec<&str> = rights
            .iter()
            .filter(|right| {
                !grants
                    .iter()
                    .any(|grant| grant.allows(database, table, right))
            })
            .copied()
            .collect();
        if !lacks.is_empty() {
            missing.push((table, lacks));
        }
    }
    if !missing.is_empty() {
        let found: Vec<String> = missing
            .iter()
            .map(|(table, rights)| format!("no {} on {table}", rights.join(", ")))
            .collect();
        let mend = missing
            .iter()
            .map(|(table, rights)| {
                format!(
                    "GRANT {} ON `{database}`.`{table}` TO {grantee};",
                    rights.join(", ")
                )
            })
            .collect();
        let words = Words {
            found: &found.join("; "),
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
fn over_read_only(judge: &mut Judge<'_>, grants: &[Grant]) {
    let global: Vec<&str> = grants
        .iter()
        .filter(|grant| grant.is_global)
        .flat_map(|grant| grant.rights.iter().map(String::as_str))
        .filter(|right| *right == ALL || OVER_READ_ONLY.contains(right))
        .collect();
    let Some(grant) = grants.first().filter(|_| !global.is_empty()) else {
        return;
    };
    let words = Words {
        found: &format!("{} on every database", global.join(", ")),
        wanted: "none that overrides read_only",
        why: "With it the account writes on a server that was closed for writing.",
    };
    let mend = vec![
        format!(
            "REVOKE {} ON *.* FROM {};",
            global.join(", "),
            grant.grantee
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

/// One line of `SHOW GRANTS`.
#[derive(Debug, PartialEq, Eq)]
struct Grant {
    rights: Vec<String>,
    is_global: bool,
    /// A pattern of a database; empty for all.
    database: String,
    /// `None` for all.
    table: Option<String>,
    /// Whose, quoted.
    grantee: String,
}

impl Grant {
    fn has(&self, right: &str) -> bool {
        self.rights.iter().any(|own| own == right || own == ALL)
    }

    fn allows(&self, database: &str, table: &str, right: &str) -> bool {
        let here = self.is_global
            || (like(&self.database, database)
                && self
                    .table
                    .as_deref()
                    .is_none_or(|own| own.eq_ignore_ascii_case(table)));
        here && self.has(right)
    }
}

/// `GRANT SELECT, UPDATE (a, b) ON `db`.`t` TO ...`; `None` for a role.
fn parse(text: &str) -> Option<Grant> {
    let rest = text.strip_prefix("GRANT ")?;
    let (rights, rest) = rest.split_once(" ON ")?;
    let (place, grantee) = rest.split_once(" TO ")?;
    let (database, table) = place.rsplit_once('.')?;
    Some(Grant {
        rights: split_rights(rights),
        is_global: database == "*",
        database: unquote(database),
        table: (table != "*").then(|| unquote(table)),
        grantee: grantee.split(' ').next().unwrap_or_default().to_owned(),
    })
}

/// The rights without those that hold for some columns alone: those are for others than routers.
fn split_rights(text: &str) -> Vec<String> {
    let mut rights = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => rights.push(String::new()),
            _ => {}
        }
        if c != ',' || depth > 0 {
            rights
                .last_mut()
                .into_iter()
                .for_each(|right| right.push(c));
        }
    }
    rights
        .into_iter()
        .filter(|right| !right.contains('('))
        .map(|right| right.trim().to_ascii_uppercase())
        .collect()
}

fn unquote(name: &str) -> String {
    name.trim_matches('`').replace("``", "`")
}

/// Whether a database's name fits a grant's pattern: `%` is any text, `_` any character, and `\`
/// takes their meaning away.
fn like(pattern: &str, name: &str) -> bool {
    let mut pattern_chars = pattern.chars();
    match pattern_chars.next() {
        None => name.is_empty(),
        Some('%') => {
            let rest = pattern_chars.as_str();
            (0..=name.len())
                .filter(|at| name.is_char_boundary(*at))
                .any(|at| like(rest, &name[at..]))
        }
        Some(first) => {
            let mut name_chars = name.chars();
            let Some(own) = name_chars.next() else {
                return false;
            };
            let literal = if first == '\\' {
                pattern_chars.next()
            } else {
                None
            };
            let fits = match literal {
                Some(literal) => own == literal,
                None => first == '_' || own == first,
            };
            fits && like(pattern_chars.as_str(), name_chars.as_str())
        }
    }
}

/// Lines that say nothing about rights: `USAGE` is parsed, and a proxy's right is none of ours.
fn skippable(grants: &[String]) -> usize {
    grants
        .iter()
        .filter(|text| text.starts_with("GRANT PROXY"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_the_server_prints_them() {
        let grant = parse("GRANT SELECT, INSERT ON `free\\_hold`.* TO `router`@`%`").unwrap();
        assert!(grant.allows("free_hold", "store", "SELECT"));
        assert!(!grant.allows("freexhold", "store", "SELECT"));
        assert!(!grant.allows("free_hold", "store", "DELETE"));

        let table = parse("GRANT SELECT, UPDATE (`a`, `b`) ON `d`.`slots` TO `u`@`h`").unwrap();
        assert!(table.allows("d", "slots", "SELECT"));
        assert!(
            !table.allows("d", "slots", "UPDATE"),
            "some columns are not the table"
        );
        assert!(!table.allows("d", "store", "SELECT"));

        let all = parse("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION");
        assert!(all.unwrap().allows("any", "store", "DELETE"));
        assert_eq!(parse("GRANT `role`@`%` TO `u`@`h`"), None);
    }

    #[test]
    fn a_grant_for_a_pattern_of_databases_fits_those() {
        for (pattern, name, fits) in [
            ("free%", "freehold", true),
            ("%hold", "freehold", true),
            ("f__ehold", "freehold", true),
            ("freehold", "freehold2", false),
            ("free\\%", "freehold", false),
        ] {
            assert_eq!(like(pattern, name), fits, "{pattern} {name}");
        }
    }
}
