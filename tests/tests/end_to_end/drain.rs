//! SIGTERM: the router stops accepting, answers what it has, and ends well.

use std::{collections::BTreeMap, time::Duration};

use freehold_tests::{Engine, Router, Signal};
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle, time::Instant};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    history::{Ending, History},
    load::{Load, Plan},
    scene::{Cluster, Result, client, seed},
    table, wire,
};

/// The default of the config.
const GRACE_PERIOD: Duration = Duration::from_secs(10);

/// Requests on the open stream: far more than are answered by the time of the signal.
const STREAMED: u64 = 60_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_shards_drain_when_told_to_end() -> Result<()> {
    drains(&mut Router::embedded().await?).await
}

async fn servers_drain_when_told_to_end(engine: Engine) -> Result<()> {
    drains(&mut Cluster::of_two(engine, "").await?.router).await
}

on_servers!(servers_drain_when_told_to_end);

async fn drains(router: &mut Router) -> Result<()> {
    let load = Load::start(router.address(), &Plan::new("load", seed())).await?;
    let stub = wire::stub(router).await?;
    let requests = (0..STREAMED)
        .map(|id| wire::pipelined_put(&key(id), "1"))
        .collect();
    let (sent, mut sending) = mpsc::channel(1);
    let stream = tokio::spawn(async move { wire::pipeline(&stub, requests, sent).await });
    while sending.recv().await.is_some_and(|sent| sent < 2_000) {}
    load.until_done(100).await?;
    let watched = watch(router).await?;

    let began = Instant::now();
    router.signal(Signal::TERM)?;
    let status = router.wait(GRACE_PERIOD + Duration::from_secs(20)).await?;
    let took = began.elapsed();
    assert_eq!(status.code(), Some(0), "{}", router.log());
    assert!(took < GRACE_PERIOD, "it took {took:?} to drain");
    assert!(
        TcpStream::connect(router.address()).await.is_err(),
        "it still accepts"
    );

    let told = watched.await??;
    let expected = [ServingStatus::Serving, ServingStatus::NotServing];
    assert_eq!(told, expected.map(i32::from), "changes alone, and the end");

    let streamed = stream.await??;
    let written = judge_stream(&streamed);
    let outcome = load.stop().await?;
    println!("drained in {took:?}; {:?}", outcome.failures);
    assert_eq!(outcome.violations, [""; 0]);
    let unclear = outcome
        .failures
        .keys()
        .find(|words| words.starts_with("unknown: the router closed"));
    assert_eq!(
        unclear, None,
        "the end of a stream says what became of the rest"
    );

    router.serve().await?;
    let client = client(router).await?;
    table::audit(&client, &outcome.history).await?;
    table::audit(&client, &written).await?;
    let shown = table::shown(&client, &outcome.history).await?;
    let unanswered = outcome.history.unanswered(&shown);
    assert_eq!(unanswered, [""; 0], "what was taken is answered");
    Ok(())
}

/// What a health check that watches the router is told, to the end.
async fn watch(router: &Router) -> Result<JoinHandle<Result<Vec<i32>>>> {
    let endpoint = Endpoint::from_shared(format!("http://{}", router.address()))?;
    let mut health = HealthClient::new(endpoint.connect().await?);
    let request = HealthCheckRequest::default();
    let mut changes = health.watch(request).await?.into_inner();
    Ok(tokio::spawn(async move {
        let mut told = Vec::new();
        while let Ok(Some(change)) = changes.message().await {
            told.push(change.status);
        }
        Ok(told)
    }))
}

fn key(id: u64) -> String {
    format!("streamed:{id}")
}

/// Every request that was taken has its answer, and the stream's end says of all others that they
/// were not applied.
fn judge_stream(streamed: &wire::Streamed) -> History {
    assert_eq!(streamed.end.code, Code::Unavailable, "{:?}", streamed.end);
    assert_eq!(streamed.end.reason, "SHUTTING_DOWN", "{:?}", streamed.end);
    let mut history = History::default();
    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    for id in 0..STREAMED {
        let ending = match streamed.answers.get(&id).map(Vec::as_slice) {
            None => Ending::NotApplied,
            Some([answer]) => {
                *codes
                    .entry(format!("{:?} {}", answer.code, answer.reason))
                    .or_default() += 1;
                answer.of_write()
            }
            Some(more) => panic!("request {id} is answered {} times", more.len()),
        };
        history.note(&key(id), Some("1".to_owned()), ending);
    }
    println!("on the stream: {codes:?}");
    assert!(
        codes.get("Ok ").is_some_and(|applied| *applied > 0),
        "{codes:?}"
    );
    assert!(
        streamed.answers.len() < STREAMED as usize,
        "the stream was over before the signal"
    );
    history
}
