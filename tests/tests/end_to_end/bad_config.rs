//! A config that cannot be used: an exit code of its own, and words that name key and file.

use std::{fs, process::Stdio};

use freehold_tests::{Router, cli};

use crate::scene::Result;

const GOOD: &str = "[[shards]]\nname = \"a\"\nmaster = \"mysql://u:geheim@db-a/freehold\"\n";

/// What stands in the file, and what must be said of it.
const CASES: [(&str, &[&str]); 9] = [
    ("", &["shards", "there are none"]),
    ("[server]\nlissten = \"127.0.0.1:1\"\n", &["lissten"]),
    ("[serverr]\nlisten = \"127.0.0.1:1\"\n", &["serverr"]),
    (
        "[[shards]]\nname = \"a\"\nmaster = \"mysql://u:geheim@db-a/freehold\"\n\
         replicas = [\"mysql://v@db-a:3306/freehold\"]\n",
        &["shards[0].replicas[0]", "master of its own shard"],
    ),
    (
        "[[shards]]\nname = \"a\"\nmaster = \"mysql://u:geheim@db-a/freehold\"\n\
         [[shards]]\nname = \"a\"\nmaster = \"mysql://u:geheim@db-b/freehold\"\n",
        &["shards[1].name", "already the name of shards[0]"],
    ),
    (
        "[[shards]]\nname = \"a\"\nmaster = \"mysql://u:geheim@db-a/freehold\"\n\
         [[shards]]\nname = \"b\"\nmaster = \"mysql://w@db-a:3306/freehold\"\n",
        &["shards[1].master", "named twice", "shards[0].master"],
    ),
    (
        "[[shards]]\nname = \"a\"\nmaster = \"mysql://u:geheim@db-a/freehold?ssl=yes\"\n",
        &["shards[0].master", "unknown parameter 'ssl'"],
    ),
    ("[lanes]\nreads = 0\n", &["lanes.reads", "1 to 64"]),
    ("[server\n", &["freehold.toml"]),
];

#[tokio::test]
async fn a_bad_config_ends_with_78_and_names_key_and_file() -> Result<()> {
    let folder = Router::configure(&[], "")?;
    let file = folder.config_file();
    for (index, (text, words)) in CASES.iter().enumerate() {
        // Where nothing is wrong with the shards, there are some.
        let tail = if text.contains("[[shards]]") || text.is_empty() {
            ""
        } else {
            GOOD
        };
        fs::write(&file, format!("{text}{tail}"))?;
        for command in ["serve", "init", "doctor"] {
            let said = run(&folder, &[], &[command, "--config", "freehold.toml"]).await?;
            assert_eq!(
                said.code,
                Some(78),
                "case {index}, {command}: {}",
                said.stderr
            );
            for words in words.iter().chain([&"freehold.toml"]) {
                assert!(
                    said.stderr.contains(words),
                    "case {index}: {words}: {}",
                    said.stderr
                );
            }
            assert!(
                !said.stderr.contains("geheim"),
                "case {index}: {}",
                said.stderr
            );
        }
    }
    let missing = run(&folder, &[], &["serve", "--config", "elsewhere.toml"]).await?;
    assert_eq!(missing.code, Some(78), "{}", missing.stderr);
    assert!(
        missing.stderr.contains("elsewhere.toml"),
        "{}",
        missing.stderr
    );
    Ok(())
}

#[tokio::test]
async fn a_bad_variable_is_named_and_a_good_one_wins_over_the_file() -> Result<()> {
    let folder = Router::configure(&[], "")?;
    fs::write(folder.config_file(), format!("[lanes]\nreads = 0\n{GOOD}"))?;
    let arguments = ["serve", "--config", "freehold.toml"];
    for (name, value, words) in [
        ("FREEHOLD__LANES__READS", "many", "FREEHOLD__LANES__READS"),
        ("FREEHOLD__LANES__REEDS", "2", "reeds"),
        (
            "FREEHOLD__LANES__READS",
            "65",
            "lanes.reads: 65 is out of range",
        ),
    ] {
        let variable = [(name.to_owned(), value.to_owned())];
        let said = run(&folder, &variable, &arguments).await?;
        assert_eq!(said.code, Some(78), "{name}={value}: {}", said.stderr);
        assert!(
            said.stderr.contains(words),
            "{name}={value}: {}",
            said.stderr
        );
    }
    Ok(())
}

#[tokio::test]
async fn json_tells_programs_which_key_is_wrong() -> Result<()> {
    let folder = Router::configure(&[], "")?;
    fs::write(
        folder.config_file(),
        format!("[lanes]\nreads = 0\nwrites = 65\n{GOOD}"),
    )?;
    let said = run(
        &folder,
        &[],
        &["serve", "--config", "freehold.toml", "--json"],
    )
    .await?;
    assert_eq!(said.code, Some(78), "{}", said.stderr);
    let error: serde_json::Value = serde_json::from_str(said.stderr.trim())?;
    assert_eq!(error["error"]["kind"], "config", "{error}");
    let keys: Vec<_> = error["error"]["problems"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|problem| problem["key"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(keys, ["lanes.reads", "lanes.writes"]);
    Ok(())
}

async fn run(
    folder: &Router,
    environment: &[(String, String)],
    arguments: &[&str],
) -> Result<cli::Answer> {
    Ok(cli::run(folder.folder(), environment, arguments, Stdio::null()).await?)
}
