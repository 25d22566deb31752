//! What moves cost is measured on few rows: every answer is right, and every figure is there. What the
//! figures are is printed only.

use clap::Parser as _;
use freehold_torture::Result;
use freehold_torture::moving::{Options, run};

const SLOTS: usize = 512;
const CHANGES: usize = 3;

async fn measured(engine: &str) -> Result<()> {
    let seed = std::env::var("FREEHOLD_TEST_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("FREEHOLD_TEST_SEED={seed}");
    let out = tempfile::tempdir()?;
    let folder = out.path().display().to_string();
    let line = [
        "moving",
        "--engine",
        engine,
        "--rows",
        "3000",
        "--callers",
        "8",
        "--rate",
        "200",
        "--rounds",
        "1",
        "--seconds",
        "1",
        "--slots",
        &SLOTS.to_string(),
        "--changes",
        &CHANGES.to_string(),
        // With so few rows most of the time would be rest.
        "--latency-factor-max",
        "0",
        "--buffer-pool-mib",
        "64",
        "--out",
        &folder,
    ];
    let report = run(Options::try_parse_from(line)?, seed).await?;
    println!("{report}");
    for round in &report.rounds {
        let slots = round.moved.pauses.iter().map(|pause| pause.slots);
        let slots = slots.sum::<usize>();
        assert!(round.moved.was_resumed || slots == SLOTS, "{report}");
        assert!(round.moved.was_resumed || round.moved.rows > 0, "{report}");
    }
    for filling in &report.fillings {
        for filled in [&filling.idle, &filling.loaded] {
            assert!(filled.rows > 0 && filled.dump_rows > 0, "{report}");
        }
        assert!(filling.loaded.requests.is_some(), "{report}");
    }
    let changes = report.changes.as_ref().map(|changes| &changes.longest_ms);
    assert_eq!(changes.map(Vec::len), Some(CHANGES), "{report}");
    assert_eq!((report.rounds.len(), report.fillings.len()), (1, 1));
    assert!(
        report.goals.iter().all(|goal| goal.met.is_some()),
        "{report}"
    );
    let file = std::fs::read(out.path().join(format!("{engine}.json")))?;
    let file: serde_json::Value = serde_json::from_slice(&file)?;
    assert_eq!(file["seed"], seed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_are_measured_on_mariadb() -> Result<()> {
    measured("mariadb").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_are_measured_on_mysql() -> Result<()> {
    measured("mysql").await
}
