//! Session tokens and reads of every level across a failover.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use freehold_client::{Client, Consistency, Error};
use freehold_tests::{Engine, replication};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::site::{Copies, Site, until_alarmed, until_served};
use crate::scene::{Result, keys_of, until};

/// The token of a write to a replica that had it is good, that of one that nobody had is not.
async fn tokens_of_the_term_before_are_told_apart_after_adoption(engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, Copies::Later, "").await?;
    let clients = site.clients().await?;
    let mut keys = keys_of(0, 2, "token");
    let [survived, lost, other] = std::array::from_fn(|_| keys.next().expect("endless"));
    let good = clients[0].put(survived.clone(), "1").await?.session_token;
    let [master, first, second] = &site.shards[0][..] else {
        unreachable!("three servers");
    };
    for replica in [first, second] {
        replication::wait_until_caught_up(master, replica).await?;
        replication::stop(replica).await?;
    }
    let bad = clients[0].put(lost.clone(), "1").await?.session_token;
    site.shards[0][0].kill();
    site.promote_second(0).await?;
    until_served(&clients, &other).await?;
    for client in &clients {
        let read = |key: &String, token: &Bytes| {
            let level = Consistency::Session(token.clone());
            client.get(key.clone()).consistency(level)
        };
        // Where the term before ended, each router learns after it follows.
        until(
            "the token that survived to be known",
            async || match read(&survived, &good).await {
                Ok(reply) => {
                    assert_eq!(reply.value(), Some(&"1".into()));
                    Ok(true)
                }
                Err(Error::NotApplied { .. }) => Ok(false),
                Err(error) => Err(error.into()),
            },
        )
        .await?;
        for key in [&lost, &survived, &other] {
            match read(key, &bad).await {
                Err(Error::Refused { reason, .. }) => assert_eq!(reason, "SESSION_LOST"),
                answer => panic!("{answer:?}"),
            }
        }
        let new = client.put(lost.clone(), "2").await?.session_token;
        let both: Bytes = [&good[..], &new[..]].concat().into();
        assert_eq!(read(&lost, &both).await?.value(), Some(&"2".into()));
    }
    Ok(())
}

/// What a reader asks for, and what it may find: never less than was acknowledged when it asked.
struct Reader {
    client: Client,
    key: String,
    level: Consistency,
    acknowledged: Arc<AtomicU64>,
    found: Arc<AtomicU64>,
}

impl Reader {
    async fn run(self, stop: CancellationToken) -> Result<u64> {
        let mut read = 0;
        while !stop.is_cancelled() {
            let least = self.acknowledged.load(Ordering::SeqCst);
            let get = self.client.get(self.key.clone());
            let get = get
                .consistency(self.level.clone())
                .timeout(Duration::from_secs(20));
            let Ok(reply) = get.await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let value = reply
                .value()
                .map(|value| String::from_utf8_lossy(value).into_owned());
            let value: u64 = value.unwrap_or_default().parse()?;
            if value < least {
                let level = &self.level;
                return Err(format!("{level:?} read {value} after {least} was written").into());
            }
            self.found.fetch_max(value, Ordering::SeqCst);
            read += 1;
        }
        Ok(read)
    }
}

/// It hangs, is replaced, wakes up, and is started again as a master: reads that fall to the leader
/// never find what it had.
async fn no_read_finds_what_a_replaced_master_had(engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, Copies::Later, "").await?;
    let clients = site.clients().await?;
    let mut keys = keys_of(0, 2, "levels");
    let [key, other] = std::array::from_fn(|_| keys.next().expect("endless"));
    let token = clients[0].put(key.clone(), "0").await?.session_token;
    replication::wait_until_caught_up(&site.shards[0][0], &site.shards[0][1]).await?;
    // No replica is fresh enough for what is asked.
    replication::stop(&site.shards[0][2]).await?;
    let (acknowledged, found) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let stop = CancellationToken::new();
    let mut readers = JoinSet::new();
    for client in &clients {
        for level in [
            Consistency::Strong,
            Consistency::BoundedStaleness(Duration::from_millis(1)),
            Consistency::Session(token.clone()),
        ] {
            let session = matches!(level, Consistency::Session(_));
            let reader = Reader {
                client: client.clone(),
                key: key.clone(),
                level,
                // Its token is of the first write, so that alone is promised.
                acknowledged: if session {
                    Arc::default()
                } else {
                    acknowledged.clone()
                },
                found: found.clone(),
            };
            readers.spawn(reader.run(stop.clone()));
        }
    }
    let rewrite = |number: u64| {
        let (client, key, acknowledged) = (&clients[1], key.clone(), acknowledged.clone());
        async move {
            until("a write", async || {
                Ok(client.put(key.clone(), number.to_string()).await.is_ok())
            })
            .await?;
            acknowledged.store(number, Ordering::SeqCst);
            Result::<()>::Ok(())
        }
    };
    let is_read = async |number: u64| {
        let found = found.clone();
        until("the write to be read", async || {
            Ok(found.load(Ordering::SeqCst) == number)
        })
        .await
    };
    rewrite(1).await?;
    is_read(1).await?;
    replication::wait_until_caught_up(&site.shards[0][0], &site.shards[0][1]).await?;
    site.shards[0][0].freeze()?;
    site.promote_second(0).await?;
    rewrite(2).await?;
    site.shards[0][0].thaw()?;
    let former = site.address(0, 0);
    until_alarmed(&site, &former).await?;
    rewrite(3).await?;
    is_read(3).await?;
    site.shards[0][0].kill_and_start_again().await?;
    until_alarmed(&site, &former).await?;
    rewrite(4).await?;
    is_read(4).await?;
    until_served(&clients, &other).await?;
    stop.cancel();
    let mut reads = 0;
    while let Some(read) = readers.join_next().await {
        reads += read??;
    }
    println!("{reads} reads");
    Ok(())
}

on_servers!(
    tokens_of_the_term_before_are_told_apart_after_adoption,
    no_read_finds_what_a_replaced_master_had
);
