//! How much of the reading replicas take off the master when they lag a little.

use std::time::Duration;

use freehold_client::{Client, Consistency, Source};
use freehold_tests::{Engine, Proxy, replication, until};
use tokio::time::Instant;

use crate::{
    figures::Figures,
    scene::{Cluster, Result, setting, until_replicas_follow},
};

/// Reads of each kind in CI.
const READS: u64 = 400;

/// Callers at once.
const CALLERS: u64 = 8;

/// One caller: writes a key of its own, and reads it at once.
async fn write_and_read(client: Client, number: u64, reads: u64, strong: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    let key = format!("share:{number}");
    for round in 0..reads {
        let put = client.put(key.clone(), round.to_string()).await?;
        let level = match strong {
            true => Consistency::Strong,
            false => Consistency::Session(put.session_token),
        };
        let began = Instant::now();
        let reply = client.get(key.clone()).consistency(level).await?;
        figures.add(reply.served.source, began.elapsed());
        if reply.value().map(|value| &value[..]) != Some(round.to_string().as_bytes()) {
            figures
                .wrong
                .push(format!("round {round}: {:?}", reply.served));
        }
    }
    Ok(figures)
}

async fn read_bounded(client: Client, number: u64, reads: u64) -> Result<Figures> {
    let mut figures = Figures::default();
    let level = Consistency::BoundedStaleness(Duration::from_secs(1));
    for _ in 0..reads {
        let began = Instant::now();
        let key = format!("share:{number}");
        let reply = client.get(key).consistency(level.clone()).await?;
        figures.add(reply.served.source, began.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(figures)
}

/// All callers of one kind.
async fn together<F: Future<Output = Result<Figures>> + Send + 'static>(
    caller: impl Fn(u64) -> F,
) -> Result<Figures> {
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..CALLERS {
        callers.spawn(caller(number));
    }
    let mut all = Figures::default();
    while let Some(figures) = callers.join_next().await {
        all.merge(figures??);
    }
    Ok(all)
}

/// The share of replicas in a run for figures; a machine that does other things besides has less, and
/// shows at least that they are used.
fn least(share: f64) -> f64 {
    match std::env::var_os("FREEHOLD_TEST_SHARE_READS") {
        Some(_) => share,
        None => 0.05,
    }
}

async fn replicas_that_lag_a_little_serve_most_reads(engine: Engine) -> Result<()> {
    let reads = setting("FREEHOLD_TEST_SHARE_READS", READS) / CALLERS;
    let cluster = Cluster::start(engine).await?;
    let mut proxies = Vec::new();
    for (lag_ms, is_session) in [(100, true), (300, false)] {
        for servers in &cluster.shards {
            for replica in &servers.replicas {
                let proxy = Proxy::to(&servers.master).await?;
                proxy.delay(Duration::from_millis(lag_ms));
                replication::receive_from(replica, proxy.port()).await?;
                proxies.push(proxy);
            }
        }
        // They take a while to connect, and to catch up with what came meanwhile.
        for servers in &cluster.shards {
            for replica in &servers.replicas {
                replication::wait_for_state(replica, |state| state.receiving).await?;
            }
            servers.catch_up().await?;
        }
        for router in &cluster.routers {
            until_replicas_follow(router, 4).await?;
        }
        for client in &cluster.clients {
            for key in ["{a}share", "{user:1}share"] {
                until("a replica to be near", async || {
                    let level = Consistency::BoundedStaleness(Duration::from_millis(900));
                    let reply = client.get(key).consistency(level).await?;
                    Ok(reply.served.source == Source::Replica)
                })
                .await?;
            }
        }
        // Of two routers one writes the beats, and the other one sees them.
        let client = |number: u64| cluster.clients[usize::from(number.is_multiple_of(2))].clone();
        if is_session {
            let session = |number| write_and_read(client(number), number, reads, false);
            let session = together(session).await?;
            let strong = |number| write_and_read(client(number), number, reads, true);
            let strong = together(strong).await?;
            let extra = session.median().saturating_sub(strong.median());
            println!(
                "{engine}, lag {lag_ms} ms: SESSION {session}; STRONG {strong}; p50 {extra:?} more"
            );
            assert!(session.wrong.is_empty(), "{:?}", session.wrong);
            // 80 % is what there should be.
            assert!(session.share_of_replicas() > least(0.4), "{session}");
        } else {
            let bounded = together(|number| read_bounded(client(number), number, reads)).await?;
            println!("{engine}, lag {lag_ms} ms: BOUNDED 1 s {bounded}");
            // 90 % is what there should be.
            assert!(bounded.share_of_replicas() > least(0.5), "{bounded}");
        }
    }
    Ok(())
}

on_servers!(replicas_that_lag_a_little_serve_most_reads);
