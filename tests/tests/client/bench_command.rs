//! `freehold bench`.

use freehold_tests::{Result, Router};
use serde_json::Value;

#[tokio::test]
async fn a_bench_of_a_running_router_shows_each_second_and_a_summary_and_leaves_no_key()
-> Result<()> {
    let router = Router::embedded().await?;
    router.cli(&["put", "mine", "1"]).await?.success()?;
    let arguments = "bench --duration 2500ms --callers 8 --keys 200 --reads 50 --json";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let said = router.cli(&arguments).await?.success()?;
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (summary, seconds) = lines.split_last().unwrap();
    assert!((1..=2).contains(&seconds.len()), "{said}");
    for kind in ["reads", "writes"] {
        let answered = summary[kind]["answered"].as_u64().unwrap();
        let seen: u64 = seconds
            .iter()
            .map(|second| second["seen"][kind]["answered"].as_u64().unwrap())
            .sum();
        assert!(seen > 0 && seen <= answered, "{said}");
        assert_eq!(summary[kind]["failed"], 0, "{said}");
    }
    assert_eq!(summary["wrong_reads"], 0, "{said}");
    assert_eq!(summary["deleted"], true, "{said}");
    let left = router.cli(&["scan", "--keys-only"]).await?.success()?;
    assert_eq!(left, "mine\n");
    Ok(())
}

#[tokio::test]
async fn a_bench_tells_people_which_keys_it_writes_before_it_does() -> Result<()> {
    let router = Router::embedded().await?;
    let answer = router
        .cli(&["bench", "--duration", "1s", "--keys", "10"])
        .await?;
    assert!(
        answer
            .stderr
            .starts_with("10 keys that begin with freehold-bench:"),
        "{answer:?}"
    );
    let said = answer.success()?;
    assert!(
        said.contains("PER SECOND") && said.contains("writes"),
        "{said}"
    );
    Ok(())
}
