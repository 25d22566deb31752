//! A config file, and the variables over it: those stand in the lines before it, as
//! `FREEHOLD__SECTION__KEY=VALUE`.

use std::collections::HashMap;

use crate::program::config::{ConfigError, check as check_config, parse};

/// What errors call the file.
const SOURCE: &str = "freehold.toml";

/// A DSN with this password is in the seeds. No error may show it.
const PASSWORD: &str = "hunter2";

/// Gives the text to whoever reads configs.
///
/// # Panics
/// If an error does not say what is wrong, or shows a password.
pub fn check(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        // Refused where the file is read.
        return;
    };
    let mut environment = HashMap::new();
    let mut file = text;
    while file.starts_with("FREEHOLD__") {
        let (line, rest) = file.split_once('\n').unwrap_or((file, ""));
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        environment.insert(name.to_owned(), value.to_owned());
        file = rest;
    }
    // Where it is a password, and nothing else. Names of variables are read in lower case.
    let as_password = format!("://u:{PASSWORD}@");
    let read = text.to_ascii_lowercase();
    let is_secret = read.matches(PASSWORD).count() == read.matches(&as_password).count();
    let config = match parse(SOURCE.to_owned(), Some(file), environment) {
        Ok(config) => config,
        Err(error) => return says_what_is_wrong(&error, is_secret),
    };
    for embedded in [false, true] {
        match check_config(&config, SOURCE, embedded) {
            Err(error) => says_what_is_wrong(&error, is_secret),
            Ok(shards) => {
                assert_eq!(shards.is_empty(), embedded);
                for shard in shards {
                    assert!(!shard.name.is_empty() && shard.master.may_lead());
                    assert!(!shard.replicas.contains(&shard.master));
                }
            }
        }
    }
}

fn says_what_is_wrong(error: &ConfigError, is_secret: bool) {
    let words = error.to_string();
    assert!(words.starts_with(SOURCE), "{words}");
    assert!(!error.problems.is_empty());
    for problem in &error.problems {
        assert!(!problem.words.trim().is_empty(), "{words}");
    }
    assert!(!(is_secret && words.contains(PASSWORD)), "{words}");
}
