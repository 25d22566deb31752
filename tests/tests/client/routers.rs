//! Routers that are down, die, drain, come back, and hide behind a name.

use std::{collections::BTreeMap, sync::Arc};

use freehold_client::{Client, ClientOptions, ConnectError, Error};
use freehold_tests::{Router, Signal};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

use crate::scene::{Names, PATIENT, Result, WITHIN, client, name, options, until, who};

/// Two routers, named `a` and `b`.
async fn two() -> Result<(Router, Router)> {
    let (a, b) = tokio::try_join!(Router::embedded(), Router::embedded())?;
    tokio::try_join!(name(&a, "a"), name(&b, "b"))?;
    Ok((a, b))
}

/// Callers that never stop, each with keys of its own.
struct Callers {
    stop: CancellationToken,
    callers: JoinSet<BTreeMap<String, u64>>,
    done: mpsc::Receiver<()>,
}

impl Callers {
    fn start(client: &Client, writes: bool) -> Self {
        let (stop, mut callers) = (CancellationToken::new(), JoinSet::new());
        let (telling, done) = mpsc::channel(1);
        for caller in 0..32 {
            let (client, stop, telling) = (client.clone(), stop.clone(), telling.clone());
            callers.spawn(async move {
                let mut endings: BTreeMap<String, u64> = BTreeMap::new();
                for number in 0_u64.. {
                    if stop.is_cancelled() {
                        break;
                    }
                    let key = format!("{caller}:{number}");
                    let ended = if writes {
                        client.put(key, "1").await.map(drop)
                    } else {
                        client.get(key).await.map(drop)
                    };
                    let words = match ended {
                        Ok(()) => "ok".to_owned(),
                        Err(Error::OutcomeUnknown { .. }) => "unknown".to_owned(),
                        Err(other) => format!("{other:?}"),
                    };
                    *endings.entry(words).or_default() += 1;
                    // Full means that it was told.
                    let _ = telling.try_send(());
                }
                endings
            });
        }
        Self {
            stop,
            callers,
            done,
        }
    }

    /// Waits until so many more calls have ended, at least.
    async fn until_done(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            tokio::time::timeout(WITHIN, self.done.recv()).await?;
        }
        Ok(())
    }

    async fn stop(mut self) -> Result<BTreeMap<String, u64>> {
        self.stop.cancel();
        let mut all = BTreeMap::new();
        while let Some(endings) = self.callers.join_next().await {
            for (ending, count) in endings? {
                *all.entry(ending).or_default() += count;
            }
        }
        Ok(all)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_when_a_router_drains() -> Result<()> {
    let (mut a, mut b) = two().await?;
    let client = client(&[&a, &b], &options()).await?;
    let mut callers = Callers::start(&client, true);
    callers.until_done(100).await?;
    let draining = if who(&client).await? == "a" {
        &mut a
    } else {
        &mut b
    };
    draining.signal(Signal::TERM)?;
    let ended = draining.wait(WITHIN).await?;
    assert!(ended.success(), "{ended:?}");
    callers.until_done(100).await?;
    let endings = callers.stop().await?;
    println!("{endings:?}");
    assert_eq!(endings.keys().collect::<Vec<_>>(), ["ok"], "{endings:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_router_loses_no_read_and_no_write_is_sent_twice() -> Result<()> {
    for writes in [false, true] {
        let (mut a, mut b) = two().await?;
        let client = client(&[&a, &b], &options()).await?;
        let mut callers = Callers::start(&client, writes);
        callers.until_done(100).await?;
        let (killed, left) = if who(&client).await? == "a" {
            (&mut a, "b")
        } else {
            (&mut b, "a")
        };
        killed.kill();
        until("the other router to answer", async || {
            Ok(who(&client).await? == left)
        })
        .await?;
        callers.until_done(100).await?;
        let endings = callers.stop().await?;
        println!("{endings:?}");
        let allowed = if writes {
            vec!["ok", "unknown"]
        } else {
            vec!["ok"]
        };
        let is_allowed = |ending: &&str| allowed.contains(ending);
        assert!(
            endings
                .keys()
                .map(String::as_str)
                .all(|ending| is_allowed(&ending)),
            "{endings:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_router_that_is_down_at_the_start_is_passed_over_and_used_when_it_comes() -> Result<()>
{
    let (mut a, b) = two().await?;
    a.kill();
    let options = ClientOptions {
        streams: 2,
        ..options()
    };
    let client = client(&[&a, &b], &options).await?;
    assert_eq!(who(&client).await?, "b");
    a.serve().await?;
    until("one of the streams to go there", async || {
        Ok(who(&client).await? == "ab")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_was_restarted_is_found_again_and_calls_wait_for_it() -> Result<()> {
    let mut router = Router::embedded().await?;
    let client = client(&[&router], &options()).await?;
    client.put("k", "1").await?;
    router.kill();
    let waiting: JoinHandle<_> = tokio::spawn(client.get("k"));
    router.serve().await?;
    let reply = waiting.await??;
    assert_eq!(reply.value().ok_or("it is gone")?, "1");
    client.put("k", "2").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_router_at_all_is_an_error_when_connecting_and_not_sent_when_calling() -> Result<()> {
    let mut router = Router::embedded().await?;
    router.kill();
    let refused = client(&[&router], &options())
        .await
        .err()
        .ok_or("who answered?")?;
    let refused = refused.downcast::<ConnectError>()?;
    assert!(
        matches!(*refused, ConnectError::Unreachable { .. }),
        "{refused}"
    );

    let lazy = Client::connect_lazily(&router.address().to_string(), &options())?;
    let call = lazy.put("k", "1").timeout(Duration::from_millis(300));
    match call.await {
        Err(Error::NotApplied {
            reason, message, ..
        }) => {
            assert_eq!(reason, "NOT_SENT");
            assert!(message.contains("refused"), "it says why: {message}");
        }
        other => panic!("{other:?}"),
    }
    router.serve().await?;
    lazy.put("k", "1").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_with_several_addresses_is_several_routers_and_is_looked_up_again() -> Result<()> {
    let (mut a, b) = two().await?;
    let names = Names::default();
    names.set("routers", &[&a, &b]);
    let options = ClientOptions {
        streams: 2,
        resolver: Arc::new(names.clone()),
        ..options()
    };
    let client = Client::connect("routers:7420", &options).await?;
    until("both to be used", async || Ok(who(&client).await? == "ab")).await?;
    // The name leads to one alone: the other is left, although it still answers.
    names.set("routers", &[&b]);
    until("one to be left", async || Ok(who(&client).await? == "b")).await?;
    a.kill();
    assert_eq!(who(&client).await?, "b");
    // A name that cannot be resolved any more still leads where it led.
    names.clear();
    a.serve().await?;
    assert_eq!(who(&client).await?, "b");
    names.set("routers", &[&a]);
    until("the other to be used", async || {
        Ok(who(&client).await? == "a")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_nowhere_at_first_is_asked_again_soon() -> Result<()> {
    let router = Router::embedded().await?;
    let names = Names::default();
    let options = ClientOptions {
        refresh_interval: PATIENT * 100,
        resolver: Arc::new(names.clone()),
        ..options()
    };
    let client = Client::connect_lazily("routers:7420", &options)?;
    let early = client.put("k", "0").timeout(Duration::from_secs(2)).await;
    assert!(early.is_err(), "there is no router yet");
    names.set("routers", &[&router]);
    client.put("k", "1").await?;
    Ok(())
}
