//! What scripts see of a write that may or may not have been applied.

use freehold_tests::{Engine, cli::Answer};
use serde_json::Value;

use crate::scene::{Cluster, Result, keys_of, until};

const KEY: &str = "k";

/// The write waits for a row's lock when its caller's time is over: it was sent.
async fn a_write_whose_outcome_is_unknown_says_so(engine: Engine) -> Result<()> {
    let cluster = Cluster::of_two(engine, "").await?;
    let key = keys_of(0, 2, KEY).next().expect("endless");
    let router = &cluster.router;
    router.cli(&["put", &key, "before"]).await?.success()?;
    let mut lock = cluster.masters[0].connect().await?;
    let held = "START TRANSACTION; UPDATE store SET version = version + 1";
    lock.run(held).await?;

    for (command, more) in [
        (&["put", &key, "after"][..], &[][..]),
        (&["put", &key, "after"], &["--json"]),
        (&["del", &key], &[]),
        (&["expire", &key, "1h"], &[]),
    ] {
        let arguments = [command, more, &["--timeout", "1s"]].concat();
        let mut answer = None;
        until("a write that was sent in time", async || {
            let said = router.cli(&arguments).await?;
            // On a busy machine it may not have been sent by then, and says that.
            assert!(matches!(said.code, Some(3 | 4)), "{arguments:?}: {said:?}");
            let sent = said.code == Some(4);
            answer = Some(said);
            Ok(sent)
        })
        .await?;
        let Some(Answer { stdout, stderr, .. }) = answer else {
            unreachable!("it was answered");
        };
        assert_eq!(stdout, "", "{arguments:?}");
        if more.is_empty() {
            for words in ["outcome unknown", "may or may not have been applied"] {
                assert!(stderr.contains(words), "{words}: {stderr}");
            }
        } else {
            let said: Value = serde_json::from_str(&stderr)?;
            assert_eq!(said["error"]["kind"], "outcome_unknown", "{said}");
        }
    }
    lock.run("ROLLBACK").await?;
    // Reads settle nothing at once; a later write does.
    until("a later write", async || {
        Ok(router.cli(&["put", &key, "later"]).await?.code == Some(0))
    })
    .await?;
    let read = router.cli(&["get", &key]).await?.success()?;
    assert_eq!(read.trim_end(), "later");
    Ok(())
}

on_servers!(a_write_whose_outcome_is_unknown_says_so);
