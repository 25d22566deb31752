//! What `SHOW GRANTS` says an account may do.

use super::{Judge, Severity, Topic, Words};

/// Every right there is.
pub(super) const ALL: &str = "ALL PRIVILEGES";

/// The right on a procedure.
pub(super) const EXECUTE: &str = "EXECUTE";

/// Tables and procedures, and the rights on each that somebody needs. A right on some columns is
/// written as a GRANT has it: `UPDATE (a, b)`.
pub(super) type Needs = [(&'static str, &'static [&'static str])];

/// An account's rights, all of them known.
#[derive(Debug)]
pub(super) struct Grants(Vec<Grant>);

impl Grants {
    /// The rights of the account that is called `what`. `None` where nothing can be said: roles hide
    /// what they allow, which is found then.
    pub(super) fn read(judge: &mut Judge<'_>, what: &str, texts: &[String]) -> Option<Self> {
        let grants = Self::parse(texts);
        if grants.is_none() && !texts.is_empty() {
            let words = Words {
                found: "a role, or rights that are not known here",
                wanted: "rights that SHOW GRANTS lists one by one",
                why: "What it may do was not looked at: no word here about it says that all is well.",
            };
            let mend =
                vec!["compare SHOW GRANTS with deploy/*/accounts.sql and grants.sql".to_owned()];
            judge.add(Severity::Advice, Topic::Account, what, words, mend);
        }
        grants
    }

    fn parse(texts: &[String]) -> Option<Self> {
        let grants: Vec<Grant> = texts.iter().filter_map(|text| parse(text)).collect();
        let all_known = texts.len() <= grants.len() + skippable(texts);
        (all_known && !grants.is_empty()).then_some(Self(grants))
    }

    /// Whose they are, quoted.
    pub(super) fn grantee(&self) -> &str {
        self.0.first().map_or("", |grant| &grant.grantee)
    }

    /// Rights on every database.
    pub(super) fn global(&self) -> impl Iterator<Item = &str> {
        let global = self.0.iter().filter(|grant| grant.is_global);
        global.flat_map(|grant| grant.rights.iter().map(String::as_str))
    }

    /// What is missing of `needs`, in words, and the statements that grant it.
    pub(super) fn lacks(&self, database: &str, needs: &Needs) -> Option<(String, Vec<String>)> {
        let mut found = Vec::new();
        let mut mend = Vec::new();
        for (table, rights) in needs {
            let allows = |right: &&str| {
                let mut grants = self.0.iter();
                grants.any(|grant| grant.allows(database, table, right))
            };
            let lacks: Vec<&str> = rights
                .iter()
                .filter(|right| !allows(right))
                .copied()
                .collect();
            if !lacks.is_empty() {
                let kind = match lacks.as_slice() {
                    [EXECUTE] => "PROCEDURE ",
                    _ => "",
                };
                let rights = lacks.join(", ");
                found.push(format!("no {rights} on {table}"));
                let grantee = self.grantee();
                mend.push(format!(
                    "GRANT {rights} ON {kind}`{database}`.`{table}` TO {grantee};"
                ));
            }
        }
        (!found.is_empty()).then(|| (found.join("; "), mend))
    }
}

/// One line of `SHOW GRANTS`.
#[derive(Debug, PartialEq, Eq)]
struct Grant {
    rights: Vec<String>,
    /// Rights on some columns, with these.
    column_rights: Vec<(String, Vec<String>)>,
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
        let (name, columns) = split_columns(right);
        let whole = self.rights.iter().any(|own| *own == name || own == ALL);
        let of_columns = |(own, theirs): &(String, Vec<String>)| {
            *own == name && columns.iter().all(|column| theirs.contains(column))
        };
        whole || (!columns.is_empty() && self.column_rights.iter().any(of_columns))
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
    let place = place.strip_prefix("PROCEDURE ").unwrap_or(place);
    let (database, table) = place.rsplit_once('.')?;
    let (column_rights, rights) = split_rights(rights)
        .into_iter()
        .partition::<Vec<_>, _>(|right| right.contains('('));
    let column_rights = column_rights.iter().map(|right| split_columns(right));
    Some(Grant {
        rights,
        column_rights: column_rights.collect(),
        is_global: database == "*",
        database: unquote(database),
        table: (table != "*").then(|| unquote(table)),
        grantee: grantee.split(' ').next().unwrap_or_default().to_owned(),
    })
}

/// A right's name, and its columns if it is on some alone.
fn split_columns(right: &str) -> (String, Vec<String>) {
    let Some((name, columns)) = right.split_once('(') else {
        return (right.to_owned(), Vec::new());
    };
    let columns = columns.trim_end_matches(')').split(',');
    let columns = columns.map(|column| unquote(column.trim()).to_ascii_lowercase());
    (name.trim().to_owned(), columns.collect())
}

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
        assert!(table.allows("d", "slots", "UPDATE (b)"));
        assert!(!table.allows("d", "slots", "UPDATE (b, c)"));
        assert!(!table.allows("d", "store", "SELECT"));

        let procedure = parse("GRANT EXECUTE ON PROCEDURE `d`.`write_logged` TO `u`@`h`").unwrap();
        assert!(procedure.allows("d", "write_logged", EXECUTE));
        assert!(!procedure.allows("d", "store", EXECUTE));

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
