//! `export`: complete and each key once, however many walks share the work, or no file at all.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, symlink},
    path::Path,
};

use freehold_client::Write;
use freehold_core::Key;
use freehold_tests::{Engine, Router};
use serde_json::Value;

use crate::scene::{Cluster, Result};

const KEYS: usize = 3_000;
const TAGGED: usize = 40;

/// Keys of all slots, and some of one.
async fn fill(cluster: &Cluster) -> Result<Vec<String>> {
    let plain = (0..KEYS).map(|number| format!("user:{number}"));
    let tagged = (0..TAGGED).map(|number| format!("{{user:1}}:{number:02}"));
    let mut keys: Vec<String> = plain.chain(tagged).collect();
    let client = cluster.client().await?;
    for keys in keys.chunks(1_000) {
        let put = |key: &String| Write::Put {
            key: key.clone().into(),
            value: format!("value of {key}").into(),
            ttl: None,
        };
        for result in client.batch_write(keys.iter().map(put)).await? {
            result?;
        }
    }
    keys.sort_by_key(|key| Key::new(key.clone()).expect("a key"));
    Ok(keys)
}

/// The keys of a complete export, in the order of its lines, each with its own value.
async fn exported(router: &Router, file: &Path, more: &[&str]) -> Result<Vec<String>> {
    let name = file.display().to_string();
    let arguments = [&["export", &name, "--json"], more].concat();
    let answer = router.cli(&arguments).await?;
    let said: Value = serde_json::from_str(&answer.success()?)?;
    let text = fs::read_to_string(file)?;
    assert_eq!(said["bytes"], text.len(), "{said}");
    let mut keys = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        let key = line["key"].as_str().ok_or("no key")?.to_owned();
        assert_eq!(line["value"], format!("value of {key}"));
        keys.push(key);
    }
    assert_eq!(said["exported"], keys.len(), "{said}");
    Ok(keys)
}

async fn an_export_holds_every_key_once_however_many_walks_there_are(engine: Engine) -> Result<()> {
    let cluster = Cluster::of_two(engine, "").await?;
    let router = &cluster.router;
    let file = router.folder().join("exported.ndjson");
    let in_order = fill(&cluster).await?;
    assert_eq!(
        exported(router, &file, &["--parallel", "1"]).await?,
        in_order,
        "in the order of slots"
    );
    let mut sorted = in_order.clone();
    sorted.sort_unstable();
    for parallel in ["2", "4", "64"] {
        let mut keys = exported(router, &file, &["--parallel", parallel]).await?;
        keys.sort_unstable();
        assert_eq!(keys, sorted, "{parallel} walks");
    }
    let mut users = exported(router, &file, &["--prefix", "user:"]).await?;
    users.sort_unstable();
    assert!(
        users
            .iter()
            .eq(sorted.iter().filter(|key| key.starts_with("user:")))
    );
    let tagged = exported(router, &file, &["--prefix", "{user:1}"]).await?;
    assert!(
        tagged
            .iter()
            .eq(sorted.iter().filter(|key| key.starts_with('{')))
    );
    // A link goes on leading to the file, and what is no file stays what it is.
    let link = router.folder().join("link.ndjson");
    symlink(&file, &link)?;
    assert_eq!(exported(router, &link, &[]).await?.len(), sorted.len());
    assert!(fs::symlink_metadata(&link)?.is_symlink());
    let answer = router.cli(&["export", "/dev/null"]).await?;
    answer.success()?;
    assert!(fs::metadata("/dev/null")?.file_type().is_char_device());
    Ok(())
}

async fn an_export_that_cannot_read_one_shard_leaves_no_file(engine: Engine) -> Result<()> {
    let mut cluster = Cluster::of_two(engine, "").await?;
    fill(&cluster).await?;
    cluster.masters[1].kill();
    let file = cluster.router.folder().join("exported.ndjson");
    let name = file.display().to_string();
    let arguments = ["export", &name, "--patience", "1s", "--json"];
    let answer = cluster.router.cli(&arguments).await?;
    assert_eq!(answer.code, Some(3), "{}", answer.stderr);
    let said: Value = serde_json::from_str(&answer.stderr)?;
    assert_eq!(said["error"]["kind"], "not_applied", "{said}");
    assert!(
        !file.exists(),
        "an export that is not complete looks like one"
    );
    // A later one that is complete takes its place.
    cluster.masters[1].start_again().await?;
    assert_eq!(
        exported(&cluster.router, &file, &[]).await?.len(),
        KEYS + TAGGED
    );
    Ok(())
}

on_servers!(
    an_export_holds_every_key_once_however_many_walks_there_are,
    an_export_that_cannot_read_one_shard_leaves_no_file,
);
