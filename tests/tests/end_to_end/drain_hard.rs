//! SIGTERM when something holds the router up: callers that say nothing, and a master that does
//! not answer.

use std::time::Duration;

use freehold_tests::{Engine, Router, Signal};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};
use tonic::Code;

use crate::{
    history::{Ending, History},
    scene::{Cluster, Result, keys_of, until},
    table,
    wire::{self, Verdict},
};

const GRACE_PERIOD: Duration = Duration::from_secs(3);
const CONFIG: &str = "[server]\ngrace_period_ms = 3000\nrequest_timeout_ms = 60000\n";

/// For a process to end on a machine with too much to do.
const SLACK: Duration = Duration::from_secs(2);

async fn ends_well_in_time(router: &mut Router) -> Result<()> {
    let began = Instant::now();
    router.signal(Signal::TERM)?;
    let status = router.wait(GRACE_PERIOD * 10).await?;
    let took = began.elapsed();
    println!("ended in {took:?}");
    assert_eq!(status.code(), Some(0), "{}", router.log());
    assert!(took < GRACE_PERIOD + SLACK, "it took {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_say_nothing_do_not_hold_the_router_up() -> Result<()> {
    let mut router = Router::configure(&[], "")?;
    router.set_environment("FREEHOLD__SERVER__GRACE_PERIOD_MS", "3000");
    router.serve().await?;
    // Not even the first bytes of HTTP/2 come from this one.
    let _silent = TcpStream::connect(router.address()).await?;
    // This one has asked something, and keeps its connection.
    let idle = wire::stub(&router).await?;
    wire::put(&idle, "k", "v", Duration::from_secs(5)).await;
    // And this one has a stream open on which it says nothing.
    let (_sender, nothing) = tokio::sync::mpsc::channel(1);
    let nothing = tokio_stream::wrappers::ReceiverStream::new(nothing);
    let _stream = idle.clone().pipeline(nothing).await?;
    ends_well_in_time(&mut router).await
}

/// Writes that are with a frozen master when the time is up: each caller is told the truth.
async fn a_frozen_master_does_not_hold_the_router_up(engine: Engine) -> Result<()> {
    let mut cluster = Cluster::of_two(engine, CONFIG).await?;
    let stub = wire::stub(&cluster.router).await?;
    let keys: Vec<String> = keys_of(0, 2, "held").take(300).collect();
    for key in &keys {
        let stored = wire::put(&stub, key, "1", Duration::from_secs(30)).await;
        assert_eq!(stored.code, Code::Ok, "{stored:?}");
    }
    cluster.masters[0].freeze()?;
    let mut calls = JoinSet::new();
    let mut more = keys.iter();
    until("the requests to wait", async || {
        let (_, metrics) = cluster.router.http_get("/metrics").await?;
        let waiting: u64 = metrics
            .lines()
            .filter(|line| line.starts_with("freehold_queued_requests{shard=\"a\""))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        // Each connection has sent what there was at first, and the rest waits.
        if waiting >= 20 {
            return Ok(true);
        }
        let key = more
            .next()
            .ok_or("far fewer calls than these fill all connections")?
            .clone();
        let stub = stub.clone();
        calls.spawn(async move {
            let verdict = wire::put(&stub, &key, "2", Duration::from_secs(60)).await;
            (key, verdict)
        });
        Ok(false)
    })
    .await?;
    ends_well_in_time(&mut cluster.router).await?;
    let mut history = History::default();
    for key in &keys {
        history.note(key, Some("1".to_owned()), Ending::Applied);
    }
    let mut reasons: Vec<(Code, String)> = Vec::new();
    for (key, verdict) in calls.join_all().await {
        history.note(&key, Some("2".to_owned()), verdict.of_write());
        let Verdict { code, reason, .. } = verdict;
        reasons.push((code, reason));
    }
    reasons.sort_by_key(|(code, _)| *code as i32);
    reasons.dedup();
    println!("{reasons:?}");
    let told = [
        (Code::Unknown, "OUTCOME_UNKNOWN".to_owned()),
        (Code::Unavailable, "SHUTTING_DOWN".to_owned()),
    ];
    assert_eq!(reasons, told, "every caller is told by the router itself");

    cluster.masters[0].thaw()?;
    cluster.router.serve().await?;
    table::audit(&cluster.client().await?, &history).await
}

on_servers!(a_frozen_master_does_not_hold_the_router_up);
