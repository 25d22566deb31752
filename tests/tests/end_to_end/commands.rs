//! Commands of operators, as the program answers them: `migrate`, `sweep`, `import` with bad lines,
//! `completions`.

use std::{
    fs,
    process::{Command, Stdio},
};

use freehold_tests::{Engine, Router, Server, cli};
use serde_json::Value;

use crate::scene::{Cluster, Result, keys_of, shards, until};

async fn migrate_says_how_far_the_tables_are(engine: Engine) -> Result<()> {
    let masters = [Server::of(engine).await?];
    let router = Router::configure(&shards(&masters), "")?;
    let mut sql = masters[0].connect().await?;
    let refused = |what: &'static str| {
        let router = &router;
        async move {
            let answer = router.with_config(&["migrate"]).await?;
            assert_eq!(answer.code, Some(3), "{}", answer.stdout);
            for words in ["shard 'a'", what] {
                assert!(answer.stderr.contains(words), "{words}: {}", answer.stderr);
            }
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        }
    };
    refused("run `freehold init` first").await?;
    router.init().await?.success()?;
    let fence = "SELECT CONCAT_WS('-', schema_version, term, epoch, stamp) FROM shard";
    let before: String = sql.one(fence).await?;

    let said = router.with_config(&["migrate"]).await?.success()?;
    assert!(said.contains("nothing to do"), "{said}");
    let said = router
        .with_config(&["migrate", "--json"])
        .await?
        .success()?;
    let said: Value = serde_json::from_str(&said)?;
    let shard = &said["shards"][0];
    assert_eq!(shard["shard"], "a", "{said}");
    assert_eq!(shard["from_version"], shard["to_version"], "{said}");
    assert_eq!(sql.one::<String>(fence).await?, before, "nothing changed");

    sql.run("UPDATE shard SET schema_version = 999").await?;
    refused("use a newer one").await?;
    sql.run("UPDATE shard SET schema_version = 0").await?;
    refused("run `freehold init` again").await?;
    Ok(())
}

/// The sweepers as `freehold sweep` shows them, by shard.
async fn sweepers(router: &Router, arguments: &[&str]) -> Result<[Value; 2]> {
    let said = router
        .admin_cli(&[&["sweep", "--json"], arguments].concat())
        .await?
        .success()?;
    let mut said: Value = serde_json::from_str(&said)?;
    let [a, b] = [0, 1].map(|index| said["sweepers"][index].take());
    assert_eq!((&a["shard"], &b["shard"]), (&"a".into(), &"b".into()));
    Ok([a, b])
}

async fn rows(master: &Server) -> Result<u64> {
    let mut sql = master.connect().await?;
    Ok(sql.one("SELECT COUNT(*) FROM store").await?)
}

async fn a_pause_holds_for_its_shard_until_it_is_ended(engine: Engine) -> Result<()> {
    let mut cluster = Cluster::of_two(engine, "").await?;
    let paused = cluster
        .router
        .admin_cli(&["sweep", "--pause", "--shard", "a"])
        .await?
        .success()?;
    assert!(
        paused.contains("paused") && !paused.contains('b'),
        "{paused}"
    );
    for shard in [0, 1] {
        for key in keys_of(shard, 2, "m").take(3) {
            let (router, key) = (&cluster.router, key.as_str());
            router.cli(&["put", key, "v"]).await?.success()?;
            router.cli(&["del", key]).await?.success()?;
        }
    }
    let masters = &cluster.masters;
    until("shard b to be swept", async || {
        Ok(rows(&masters[1]).await? == 0)
    })
    .await?;

    // Neither the others' sweeping, nor a restart, nor being asked what is due ends it.
    cluster.router.kill();
    cluster.router.serve().await?;
    until("the new router to know of the pause", async || {
        let [a, _] = sweepers(&cluster.router, &[]).await?;
        Ok(a["paused"] == true && a["held_here"] == true)
    })
    .await?;
    let [a, b] = sweepers(&cluster.router, &["--dry-run"]).await?;
    assert_eq!((&a["rows_due"], &a["paused"]), (&3.into(), &true.into()));
    assert_eq!((&b["rows_due"], &b["paused"]), (&0.into(), &false.into()));
    let said = cluster.router.admin_cli(&["sweep", "--dry-run"]).await?;
    assert!(said.success()?.contains("OLDEST DUE FOR"));
    assert_eq!(
        rows(&cluster.masters[0]).await?,
        3,
        "a dry run deletes none"
    );

    let [a, _] = sweepers(&cluster.router, &["--resume"]).await?;
    assert_eq!(a["paused"], false);
    let masters = &cluster.masters;
    until("shard a to be swept", async || {
        Ok(rows(&masters[0]).await? == 0)
    })
    .await?;

    let stranger = cluster
        .router
        .admin_cli(&["sweep", "--pause", "--shard", "nobody"])
        .await?;
    assert_eq!(stranger.code, Some(2), "{}", stranger.stdout);
    assert!(stranger.stderr.contains("nobody"), "{}", stranger.stderr);
    Ok(())
}

on_servers!(
    migrate_says_how_far_the_tables_are,
    a_pause_holds_for_its_shard_until_it_is_ended,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_tells_every_bad_line_by_its_number_and_stores_the_others() -> Result<()> {
    let router = Router::embedded().await?;
    let lines = [
        r#"{"key":"one","value":"1"}"#,
        "not JSON",
        "",
        r#"{"key":"","value":"an empty key"}"#,
        r#"{"key":"two","value":"2","ttl":3600}"#,
        r#"{"key":"three","value":"3","ttl":-1}"#,
        r#"{"key":"four","value_base64":"!"}"#,
        r#"{"key":"five","valeu":"5"}"#,
        r#"{"key":"six","value_base64":"AP8="}"#,
    ];
    let file = router.folder().join("lines.ndjson");
    fs::write(&file, lines.join("\n"))?;
    let file = file.display().to_string();

    let answer = router.cli(&["import", &file]).await?;
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    for words in [
        "line 2: ",
        "line 4: ",
        "line 6: ",
        "line 7: ",
        "line 8: ",
        "imported 3 keys",
        "5 lines that can never be stored as they are",
    ] {
        assert!(answer.stderr.contains(words), "{words}: {}", answer.stderr);
    }
    let stored = router.cli(&["scan"]).await?.success()?;
    for key in ["one", "two", "six"] {
        assert!(stored.contains(key), "{key}: {stored}");
    }
    for key in ["three", "four", "five"] {
        assert_eq!(router.cli(&["get", key]).await?.code, Some(1), "{key}");
    }

    let answer = router.cli(&["import", &file, "--json"]).await?;
    assert_eq!(answer.code, Some(1));
    let told: Vec<Value> = answer
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let (sum, bad) = told.split_last().ok_or("it says nothing")?;
    assert_eq!((&sum["imported"], &sum["bad"]), (&3.into(), &5.into()));
    let numbers: Vec<u64> = bad
        .iter()
        .filter_map(|line| line["lines"][0].as_u64())
        .collect();
    assert_eq!(numbers, [2, 4, 6, 7, 8]);
    assert!(bad.iter().all(|line| line["outcome"] == "bad"), "{bad:?}");
    Ok(())
}

/// What scripts read: an answer on one line for each command, and its exit code.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_on_keys_answer_scripts() -> Result<()> {
    let router = Router::embedded().await?;
    let asked = async |arguments: &[&str], code: i32| -> Result<Vec<Value>> {
        let answer = router.cli(&[&["--json"], arguments].concat()).await?;
        assert_eq!(answer.code, Some(code), "{arguments:?}: {}", answer.stderr);
        let lines = answer.stdout.lines();
        Ok(lines.map(serde_json::from_str).collect::<Result<_, _>>()?)
    };
    let one = async |arguments: &[&str], code: i32| -> Result<Value> {
        let mut answers = asked(arguments, code).await?;
        assert_eq!(answers.len(), 1, "{arguments:?}: {answers:?}");
        Ok(answers.remove(0))
    };
    let put = one(&["put", "a", "v", "--ttl", "1h"], 0).await?;
    assert!(put["version"].is_string() && put["session_token"].is_string());
    let got = one(&["get", "a"], 0).await?;
    assert_eq!((&got["found"], &got["value"]), (&true.into(), &"v".into()));
    assert_eq!(got["version"], put["version"]);
    assert_eq!(got["served"]["source"], "master");
    let ttl = |answer: &Value| answer["ttl"].as_f64();
    assert!(ttl(&got).is_some_and(|ttl| (3_500.0..=3_600.0).contains(&ttl)));
    assert_eq!(one(&["get", "nobody"], 1).await?["found"], false);
    assert_eq!(one(&["ttl", "nobody"], 1).await?["found"], false);
    assert_eq!(one(&["expire", "a", "30s"], 0).await?["existed"], true);
    assert!(ttl(&one(&["ttl", "a"], 0).await?).is_some_and(|ttl| ttl <= 30.0));
    assert_eq!(one(&["persist", "a"], 0).await?["existed"], true);
    assert_eq!(ttl(&one(&["ttl", "a"], 0).await?), None);
    assert_eq!(
        one(&["expire", "nobody", "30s"], 1).await?["existed"],
        false
    );

    // Bytes that are no text.
    one(&["put", "--hex", "00ff", "fe00"], 0).await?;
    let got = router.cli(&["get", "--hex", "00ff"]).await?.success()?;
    assert_eq!(got.trim(), "fe00");
    let got = router.cli(&["get", "--base64", "AP8="]).await?.success()?;
    assert_eq!(got.trim(), "/gA=");
    let got = router.cli(&["get", "--raw", "a"]).await?.success()?;
    assert_eq!(got, "v", "and no line end");

    let all = asked(&["scan"], 0).await?;
    assert_eq!(all.len(), 2, "{all:?}");
    let first = asked(&["scan", "--limit", "1"], 0).await?;
    let token = first[1]["page_token"].as_str().expect("where to go on");
    let rest = asked(&["scan", "--page-token", token], 0).await?;
    assert_eq!([&first[0], &rest[0]], [&all[0], &all[1]]);
    assert_eq!(rest.len(), 1, "{rest:?}");

    assert_eq!(one(&["del", "a"], 0).await?["existed"], true);
    assert_eq!(one(&["del", "a"], 1).await?["existed"], false);
    Ok(())
}

/// Of what is exported all comes back: also how long it has to live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_still_expires_after_an_export_and_an_import() -> Result<()> {
    let (from, to) = (Router::embedded().await?, Router::embedded().await?);
    for (key, ttl) in [("soon", Some("1h")), ("never", None)] {
        let ttl = ttl.map(|ttl| ["--ttl", ttl]);
        let arguments = [
            &["put", key, "v"][..],
            ttl.as_ref().map_or(&[][..], |ttl| &ttl[..]),
        ];
        from.cli(&arguments.concat()).await?.success()?;
    }
    let file = from.folder().join("all.ndjson").display().to_string();
    from.cli(&["export", &file]).await?.success()?;
    to.cli(&["import", &file]).await?.success()?;
    let ttl = async |key: &str| -> Result<Option<f64>> {
        let said = to.cli(&["--json", "ttl", key]).await?.success()?;
        Ok(serde_json::from_str::<Value>(&said)?["ttl"].as_f64())
    };
    let soon = ttl("soon").await?;
    assert!(
        soon.is_some_and(|ttl| (3_500.0..=3_600.0).contains(&ttl)),
        "{soon:?}"
    );
    assert_eq!(ttl("never").await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_are_scripts_that_shells_take() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = async |shell: &str| {
        let arguments = ["completions", shell];
        let answer = cli::run(folder.path(), &[], arguments, Stdio::null()).await?;
        Ok::<String, Box<dyn std::error::Error + Send + Sync>>(answer.success()?)
    };
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = script(shell).await?;
        for word in ["freehold", "persist", "--consistency"] {
            let word = word.trim_start_matches("--");
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    // What a person who types `freehold swe` and the tabulator gets.
    let ask = "COMP_WORDS=(freehold swe); COMP_CWORD=1; _freehold freehold swe freehold\n\
               printf '%s\\n' \"${COMPREPLY[@]}\"\n";
    let file = folder.path().join("ask.bash");
    fs::write(&file, script("bash").await? + ask)?;
    let said = Command::new("bash").arg(&file).output()?;
    assert_eq!(String::from_utf8(said.stdout)?, "sweep\n");
    Ok(())
}
