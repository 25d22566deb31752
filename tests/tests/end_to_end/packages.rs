//! Real input: the whole package index of a Debian machine, in and out again.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use freehold_tests::{Engine, Router};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    scene::{Cluster, Result, until},
    table,
};

/// Below this it is not the whole index.
const RECORDS_MIN: usize = 60_000;

/// What an import of the index is, sorted: one line per key, each with its end.
struct Index {
    file: PathBuf,
    lines: Vec<String>,
}

impl Index {
    /// Reads the machine's index and writes it into `folder`, one key per line.
    fn write(folder: &Path) -> Result<Self> {
        let said = Command::new("apt-cache").arg("dumpavail").output();
        let said = said.map_err(|error| format!("apt-cache: {error}; this test needs Debian"))?;
        let text = String::from_utf8(said.stdout)?;
        let mut records: BTreeMap<String, &str> = BTreeMap::new();
        for record in text
            .split("\n\n")
            .filter(|record| !record.trim().is_empty())
        {
            // Of two lines of one key an import stores the later one.
            records.insert(key_of(record)?, record);
        }
        if records.len() < RECORDS_MIN {
            let many = records.len();
            return Err(format!(
                "apt-cache dumpavail shows {many} packages, of at least {RECORDS_MIN}: run \
                 `apt-get update` as root, on a machine with Debian's main archive"
            )
            .into());
        }
        let line = |(key, value)| json_line(key, value);
        let mut lines: Vec<String> = records.into_iter().map(line).collect();
        let file = folder.join("packages.ndjson");
        fs::write(&file, lines.concat())?;
        lines.sort_unstable();
        Ok(Self { file, lines })
    }

    /// Fails unless an export holds the same lines.
    fn compare(&self, export: &Path) -> Result<()> {
        let text = fs::read_to_string(export)?;
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        lines.sort_unstable();
        assert_eq!(
            lines.len(),
            self.lines.len(),
            "as many keys come out as went in"
        );
        let differs = lines
            .iter()
            .zip(&self.lines)
            .find(|(out, given)| *out != given);
        match differs {
            None => Ok(()),
            Some((out, given)) => Err(format!("exported {out} instead of {given}").into()),
        }
    }
}

fn key_of(record: &str) -> Result<String> {
    let field = |name: &str| {
        let line = record.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
            .ok_or_else(|| format!("no {name} in {record}"))
    };
    Ok(format!(
        "{}:{}:{}",
        field("Package:")?,
        field("Version:")?,
        field("Architecture:")?
    ))
}

/// As an export writes it.
fn json_line(key: String, value: &str) -> String {
    let (key, value) = (json!(key), json!(value));
    format!("{{\"key\":{key},\"value\":{value}}}\n")
}

async fn run(router: &Router, command: &str, file: &Path) -> Result<(Option<i32>, String)> {
    let began = Instant::now();
    let answer = router
        .cli(&[command, &file.display().to_string(), "--json"])
        .await?;
    println!("{command}: exit {:?} in {:?}", answer.code, began.elapsed());
    Ok((answer.code, answer.stdout + &answer.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_index_goes_in_and_comes_out_identical() -> Result<()> {
    let cluster = Cluster::of_two(Engine::MariaDb, "").await?;
    let folder = cluster.router.folder().to_owned();
    let index = Index::write(&folder)?;
    println!("{} records", index.lines.len());
    let (code, said) = run(&cluster.router, "import", &index.file).await?;
    assert_eq!(code, Some(0), "{said}");
    let export = folder.join("exported.ndjson");
    let (code, said) = run(&cluster.router, "export", &export).await?;
    assert_eq!(code, Some(0), "{said}");
    index.compare(&export)
}

/// The first run may say of some lines that their outcome is unknown. Nobody else writes these
/// keys, so a second run is the way out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_lost_its_router_is_completed_by_a_second_run() -> Result<()> {
    let mut cluster = Cluster::of_two(Engine::MariaDb, "").await?;
    let folder = cluster.router.folder().to_owned();
    let index = Index::write(&folder)?;
    let third = index.lines.len() as u64 / 3;

    let address = cluster.router.address().to_string();
    let file = index.file.display().to_string();
    let arguments = ["import", &file, "--json", "--addr", &address].map(str::to_owned);
    let cwd = folder.clone();
    let first = tokio::spawn(async move {
        freehold_tests::cli::run(&cwd, &[], arguments, std::process::Stdio::null()).await
    });
    let mut sql = cluster.masters[0].connect().await?;
    until("a third of the import", async || {
        Ok(table::count(&mut sql).await? * 2 >= third)
    })
    .await?;
    cluster.router.kill();
    let stored: u64 = table::count(&mut sql).await?;
    assert!(
        stored < index.lines.len() as u64 / 2,
        "the kill came too late: {stored} rows"
    );
    cluster.router.serve().await?;
    let first = first.await??;
    println!("the first run, over the kill: exit {:?}", first.code);
    // Done, if nothing was on its way at that moment; else some lines are of unknown outcome.
    assert!(
        matches!(first.code, Some(0 | 4)),
        "{}{}",
        first.stdout,
        first.stderr
    );

    let (code, said) = run(&cluster.router, "import", &index.file).await?;
    assert_eq!(code, Some(0), "{said}");
    let export = folder.join("exported.ndjson");
    let (code, said) = run(&cluster.router, "export", &export).await?;
    assert_eq!(code, Some(0), "{said}");
    index.compare(&export)
}
