//! `compare` as a whole, on a real database, small: figures are a benchmark's business, not a
//! test's.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{fs, path::Path, process::Command};

use serde_json::Value;

/// Runs it; returns `report.md` and `report.json`.
fn compare(folder: &Path, more: &[&str]) -> (String, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_freehold-bench"))
        .args(["compare", "--rows", "1000", "--seconds", "0.2"])
        .args(["--repetitions", "2", "--buffer-pool-mib", "64"])
        .arg("--out")
        .arg(folder)
        .args(more)
        // A program that is not there.
        .env("FREEHOLD_BENCH_REDIS", folder.join("no-redis"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = fs::read_to_string(folder.join("report.md")).unwrap();
    let json = fs::read(folder.join("report.json")).unwrap();
    (text, serde_json::from_slice(&json).unwrap())
}

fn records<'a>(report: &'a Value, target: &str, workload: &str) -> Vec<&'a Value> {
    let records = report["records"].as_array().unwrap().iter();
    records
        .filter(|record| record["target"] == target && record["workload"] == workload)
        .collect()
}

/// Rounds of which the store had not counted enough: on a busy machine one of a fifth of a second may
/// be over before the store's counters are looked at.
fn miscounted(report: &Value, target: &str, workload: &str) -> usize {
    let failures = report["failures"].as_array().unwrap().iter();
    failures
        .filter(|failure| failure["target"] == target && failure["workload"] == workload)
        .filter(|failure| failure["reason"].as_str().unwrap().contains("counted"))
        .count()
}

#[test]
fn a_report_has_every_round_the_goals_the_charts_and_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (text, report) = compare(
        folder.path(),
        &[
            "--targets=direct,unary,client,raw,empty-call,redis",
            "--workloads=get,put,ycsb-d,ycsb-e",
            "--callers=1,4",
            "--value-bytes=100",
        ],
    );
    for target in ["direct", "unary", "client"] {
        for (workload, rounds) in [("get", 4), ("put", 4), ("ycsb-d", 2), ("ycsb-e", 2)] {
            let found = records(&report, target, workload);
            let lost = miscounted(&report, target, workload);
            assert!(!found.is_empty(), "{target} {workload}");
            assert_eq!(found.len() + lost, rounds, "{target} {workload}");
            for record in found {
                assert!(record["operations"].as_u64().unwrap() > 0, "{record}");
                assert!(
                    record["p50_us"].as_u64() <= record["p99_us"].as_u64(),
                    "{record}"
                );
                assert!(
                    record["counted"]["statements"].as_u64().unwrap() > 0,
                    "{record}"
                );
            }
        }
    }
    assert_eq!(records(&report, "raw", "get").len(), 4);
    assert_eq!(records(&report, "empty-call", "get").len(), 2);
    let failures = report["failures"].as_array().unwrap();
    let lost = ["get", "put", "ycsb-d", "ycsb-e"];
    let lost = lost.map(|workload| miscounted(&report, "direct", workload));
    assert_eq!(lost.iter().sum::<usize>(), failures.len(), "{failures:?}");
    let reason = report["missing"]["redis"].as_str().unwrap();
    assert!(reason.contains("no-redis"), "{reason}");
    assert!(text.contains("| redis | missing |"), "{text}");
    assert!(
        text.contains("| one caller, Rust client, GET p50 | ≤ 1.40 × direct |"),
        "{text}"
    );
    for chart in [
        "get-rate",
        "get-p50",
        "get-p99",
        "get-p999",
        "put-database-cpu",
    ] {
        let svg = fs::read_to_string(folder.path().join(format!("{chart}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("client"), "{chart}");
    }
}

#[test]
fn a_target_that_is_slowed_down_on_purpose_is_seen_to_be_slow() {
    let folder = tempfile::tempdir().unwrap();
    let (text, report) = compare(
        folder.path(),
        &[
            "--targets=direct,client",
            "--workloads=get",
            "--callers=2",
            "--value-bytes=100",
            "--slow=client:30000",
        ],
    );
    for record in records(&report, "client", "get") {
        assert!(record["p50_us"].as_u64().unwrap() >= 30_000, "{record}");
        // Two callers, 30 ms each.
        assert!(
            record["rate_per_second"].as_f64().unwrap() < 67.0,
            "{record}"
        );
    }
    for record in records(&report, "direct", "get") {
        assert!(record["p50_us"].as_u64().unwrap() < 30_000, "{record}");
    }
    assert!(text.contains("client was slowed down on purpose"), "{text}");
}
