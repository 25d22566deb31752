//! A master that hung, was replaced, and wakes up.

use std::time::Duration;

use freehold_client::{Client, Consistency};
use freehold_tests::{Engine, failover};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::site::{Copies, Site};
use crate::scene::{Result, keys_of, until};

/// How old a read of a replica may be, at most.
const FRESH: Duration = Duration::from_millis(500);

/// Its answers come promptly again, and routers that have not looked at the others yet could take
/// them for the truth.
async fn a_master_that_wakes_up_shows_nobody_the_past(engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, Copies::First, "").await?;
    let key = keys_of(0, 2, "awake").next().expect("endless");
    let (stored, mut readers) = start_reading(&site, &key, &Consistency::Strong).await?;
    site.shards[0][0].freeze()?;
    site.promote_second(0).await?;
    until("the promoted server to be adopted", async || {
        let mut sql = site.shards[0][1].connect().await?;
        let named: i64 = sql.one("SELECT server_id = @@server_id FROM shard").await?;
        Ok(named == 1)
    })
    .await?;
    site.shards[0][0].thaw()?;
    let clients = site.clients().await?;
    let put = async |client: &Client| {
        until("a write", async || {
            Ok(client.put(key.clone(), "after").await.is_ok())
        })
        .await
    };
    // Whichever router stores something first, the other one has to know.
    tokio::select! {
        stored = put(&clients[0]) => stored,
        stored = put(&clients[1]) => stored,
    }?;
    stored.send_replace(Some(Instant::now()));
    while let Some(read) = readers.join_next().await {
        read??;
    }
    Ok(())
}

/// A replica that still copies it brings fresh beats of it, if anybody still writes them: a router, say,
/// that slept meanwhile and has not heard of the new one.
async fn replicas_of_a_master_that_wakes_up_are_not_fresh(engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, Copies::Later, "").await?;
    let key = keys_of(0, 2, "awake").next().expect("endless");
    let level = Consistency::BoundedStaleness(FRESH);
    let (stored, mut readers) = start_reading(&site, &key, &level).await?;
    let [awake, _] = site.clients().await?;
    site.routers[1].freeze()?;
    site.shards[0][0].freeze()?;
    failover::promote(&site.shards[0][1], "DO 0").await?;
    until("a write", async || {
        Ok(awake.put(key.clone(), "after").await.is_ok())
    })
    .await?;
    stored.send_replace(Some(Instant::now()));
    sleep(2 * FRESH).await;
    site.shards[0][0].thaw()?;
    site.routers[1].thaw()?;
    while let Some(read) = readers.join_next().await {
        read??;
    }
    Ok(())
}

/// When something newer was stored, if it was.
type Stored = watch::Sender<Option<Instant>>;

/// Stores something, and reads it at a level through both routers.
async fn start_reading(
    site: &Site,
    key: &str,
    level: &Consistency,
) -> Result<(Stored, JoinSet<Result<()>>)> {
    let clients = site.clients().await?;
    clients[0].put(key.to_owned(), "before").await?;
    let (stored, is_stored) = watch::channel(None);
    let mut readers = JoinSet::new();
    for client in &clients {
        // Several, so that some are asked while others wait for an answer.
        for _ in 0..4 {
            let (client, key, level) = (client.clone(), key.to_owned(), level.clone());
            readers.spawn(read(client, key, level, is_stored.clone()));
        }
    }
    Ok((stored, readers))
}

/// Reads until it has seen enough after something else was stored.
async fn read(
    client: Client,
    key: String,
    level: Consistency,
    stored: watch::Receiver<Option<Instant>>,
) -> Result<()> {
    let age_max = match level {
        Consistency::BoundedStaleness(max) => max,
        _ => Duration::ZERO,
    };
    let mut answers = 0;
    while answers < 100 {
        let began = Instant::now();
        let get = client.get(key.clone()).consistency(level.clone());
        let get = get.timeout(Duration::from_secs(1));
        let Ok(reply) = get.await else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        if stored
            .borrow()
            .is_some_and(|stored| stored + age_max < began)
        {
            let value = reply.value().map(|value| &value[..]);
            assert_eq!(value, Some(&b"after"[..]), "answer {answers}");
            answers += 1;
        }
    }
    Ok(())
}

on_servers!(
    a_master_that_wakes_up_shows_nobody_the_past,
    replicas_of_a_master_that_wakes_up_are_not_fresh,
);
