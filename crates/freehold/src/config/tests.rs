use std::{collections::HashMap, io::Write as _, path::Path};

use super::*;

fn read(toml: &str, variables: &[(&str, &str)]) -> Result<(Config, Vec<ShardConfig>), String> {
    let mut file = tempfile::Builder::new()
        .suffix("-freehold.toml")
        .tempfile()
        .unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    let environment: HashMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let config =
        load(Some(file.path()), environment).map_err(|error| named(&error, file.path()))?;
    let shards = check(&config, &file.path().display().to_string(), false)
        .map_err(|error| named(&error, file.path()))?;
    Ok((config, shards))
}

/// Every error must name the file; what is returned is the rest.
fn named(error: &ConfigError, file: &Path) -> String {
    let text = error.to_string();
    let begins = format!("{}: ", file.display());
    text.strip_prefix(&begins)
        .unwrap_or_else(|| panic!("no file in: {text}"))
        .to_owned()
}

const GOOD: &str = r#"
[[shards]]
name = "a"
master = "mysql://user:secret@db-a:3306/freehold"
replicas = ["mysql://user@db-a2:3306/freehold"]

[[shards]]
name = "b"
master = "mysql://user@db-b/freehold?password_env=PASSWORD"
"#;

#[test]
fn a_config_gives_its_shards_and_the_defaults() {
    let (config, shards) = read(GOOD, &[]).unwrap();
    assert_eq!(
        shards.iter().map(|shard| &*shard.name).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(shards[0].master.to_string(), "db-a:3306/freehold");
    assert_eq!(shards[0].replicas.len(), 1);
    assert_eq!(config.server.listen, "127.0.0.1:7420");
    assert_eq!(config.lanes.queue_bytes_max, 64 << 20);
}

#[test]
fn the_environment_goes_over_the_file() {
    let variables = [
        ("FREEHOLD__SERVER__LISTEN", "0.0.0.0:1"),
        ("FREEHOLD__LOG__FORMAT", "json"),
    ];
    let (config, _) = read(
        &format!("{GOOD}\n[server]\nlisten = '0.0.0.0:2'"),
        &variables,
    )
    .unwrap();
    assert_eq!(config.server.listen, "0.0.0.0:1");
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn an_unknown_key_is_named_wherever_it_stands() {
    for (toml, key) in [
        ("[server]\nlisen = 'x'", "server.lisen"),
        ("[serve]\nlisten = 'x'", "serve"),
        ("[[shards]]\nname = 'a'\nmastr = 'x'", "shards[0].mastr"),
    ] {
        let error = read(toml, &[]).unwrap_err();
        assert!(
            error.contains(&format!("{key}: unknown field `")),
            "{error}"
        );
    }
    let error = read(GOOD, &[("FREEHOLD__LANES__READ", "3")]).unwrap_err();
    assert!(error.contains("unknown field `read`"), "{error}");
    assert!(error.contains("FREEHOLD__LANES__READ"), "{error}");
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_key() {
    let error = read("[lanes]\nreads = 'many'", &[]).unwrap_err();
    assert!(
        error.contains("\"many\"") && error.contains("lanes.reads"),
        "{error}"
    );
    let error = read(GOOD, &[("FREEHOLD__LANES__READS", "many")]).unwrap_err();
    assert!(
        error.contains("lanes.reads") && error.contains("environment"),
        "{error}"
    );
}

#[test]
fn servers_and_names_stand_once() {
    let twice = GOOD.replace("db-b/", "DB-A:3306/");
    let error = read(&twice, &[]).unwrap_err();
    assert!(
        error.contains("shards[1].master: 'DB-A:3306/freehold' is named twice"),
        "{error}"
    );
    assert!(error.contains("also shards[0].master"), "{error}");
    let error = read(&GOOD.replace("db-a2", "db-a"), &[]).unwrap_err();
    assert!(error.contains("shards[0].replicas[0]"), "{error}");
    assert!(
        error.contains("is the master of its own shard 'a'"),
        "{error}"
    );
    let error = read(&GOOD.replace("\"b\"", "\"a\""), &[]).unwrap_err();
    assert!(
        error.contains("shards[1].name: 'a' is already the name of shards[0]"),
        "{error}"
    );
    let error = read("[server]", &[]).unwrap_err();
    assert!(error.contains("shards: there are none"), "{error}");
}

#[test]
fn a_bad_dsn_is_named_with_its_key_and_what_to_write() {
    let error = read(
        &GOOD.replace("mysql://user@db-b", "postgres://user@db-b"),
        &[],
    )
    .unwrap_err();
    assert!(
        error.contains("shards[1].master: unknown scheme 'postgres'"),
        "{error}"
    );
}

#[test]
fn limits_are_checked_and_all_problems_come_at_once() {
    let bad = format!(
        "{GOOD}\n[server]\nvalue_bytes_max = 99999999\nlisten = 'here'\nconnections_max = 0\n\
         answer_bytes_max = 1000\n[lanes]\nreads = 0\n\
         statement_timeout_ms = 3499\n\
         [sweeper]\npause_ms_min = 9\npause_ms_max = 3\npassword_file = 'x'\n\
         pause_factor = -0.5\nbatch_ms_max = 2001\nidle_ms = 0\n\
         [audit]\ninterval_s = 0\nrows_per_s_max = 0\n\
         [log]\nfilter = 'a=b=c'"
    );
    let error = read(&bad, &[]).unwrap_err();
    for words in [
        "server.value_bytes_max: 99999999 is out of range: use 1 to 15728640",
        "server.listen: 'here' is not ADDRESS:PORT",
        "server.connections_max: 0 is out of range: use 1 to 1000000",
        "server.answer_bytes_max: 1000 is out of range: use 1048576 to 1099511627776",
        "lanes.reads: 0 is out of range: use 1 to 64",
        "lanes.statement_timeout_ms: 3499 is too near to the 2000 ms that a statement may wait for a \
         row's lock: use 3500 to 600000",
        "sweeper.pause_factor: -0.5 is out of range: use 0 to 1000",
        "sweeper.batch_ms_max: 2001 is out of range: use 1 to 2000",
        "sweeper.idle_ms: 0 is out of range: use 10 to 600000",
        "sweeper.pause_ms_min: 9 is above sweeper.pause_ms_max (3)",
        "sweeper.user: is missing",
        "audit.interval_s: 0 is out of range: use 1 to 31536000",
        "audit.rows_per_s_max: 0 is out of range: use 1 to 10000000",
        "log.filter: 'a=b=c'",
    ] {
        assert!(error.contains(words), "{words} is not in: {error}");
    }
}

#[test]
fn the_routers_limits_have_its_own_defaults() {
    let settings = crate::app::router_settings(&Config::default());
    let defaults = freehold_router::RouterSettings::default();
    assert_eq!(
        [settings.connections_max, settings.calls_max],
        [defaults.connections_max, defaults.calls_max]
    );
    assert_eq!(
        [settings.received_bytes_max, settings.answer_bytes_max],
        [defaults.received_bytes_max, defaults.answer_bytes_max]
    );
}

#[test]
fn the_sweepers_defaults_are_its_own() {
    let settings = crate::app::sweeper_settings(&Config::default().sweeper);
    assert_eq!(settings, freehold_sweeper::SweeperSettings::default());
}

#[test]
fn a_factor_is_a_number_with_or_without_a_point() {
    for (toml, factor) in [("0", 0.0), ("2", 2.0), ("0.25", 0.25)] {
        let toml = format!("{GOOD}\n[sweeper]\npause_factor = {toml}");
        let (config, _) = read(&toml, &[]).unwrap();
        assert!((config.sweeper.pause_factor - factor).abs() < f64::EPSILON);
    }
    let (config, _) = read(GOOD, &[("FREEHOLD__SWEEPER__PAUSE_FACTOR", "0.5")]).unwrap();
    assert!((config.sweeper.pause_factor - 0.5).abs() < f64::EPSILON);
    for bad in ["nan", "inf", "-1"] {
        let toml = format!("{GOOD}\n[sweeper]\npause_factor = {bad}");
        let error = read(&toml, &[]).unwrap_err();
        assert!(error.contains("sweeper.pause_factor"), "{error}");
        assert!(error.contains("use 0 to 1000"), "{error}");
    }
}

#[test]
fn no_error_shows_a_password() {
    let nested = GOOD
        .replace("replicas = [", "replicas = [[")
        .replace("freehold\"]", "freehold\"]]");
    let scalar = "[[shards]]\nname='a'\nmaster='m'\nreplicas = 'mysql://user:secret@h/d'";
    let name = GOOD.replace(
        "name = \"a\"",
        "nam = \"mysql://user:secret@db-a:3306/freehold\"",
    );
    let key = "[log]\n\"mysql://user:secret@db-a/freehold\" = 1".to_owned();
    for toml in [nested, scalar.to_owned(), name, key] {
        let error = read(&toml, &[]).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
    for variable in [
        ("FREEHOLD__MYSQL://U:secret@H", "1"),
        ("FREEHOLD__SERVER__LISTEN", "mysql://u:secret@h/d"),
    ] {
        let error = read(GOOD, &[variable]).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }
    assert_eq!(
        problem::without_credentials("a \"mysql://u:p@ss@h/d\" b \"x://y\""),
        "a \"mysql://...@h/d\" b \"x://y\""
    );
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let error = load(Some(Path::new("/nowhere/freehold.toml")), HashMap::new()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nowhere/freehold.toml: cannot be read"),
        "{error}"
    );
}

#[test]
fn the_readme_has_a_config_to_copy() {
    let readme = include_str!("../../../../README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (toml, _) = rest.split_once("```").unwrap();
    let (_, shards) = read(toml, &[]).unwrap();
    assert_eq!(shards.len(), 2);
}
