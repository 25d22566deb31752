//! A master that hung, was replaced, and wakes up.

use std::time::Duration;

use freehold_client::Client;
use freehold_tests::Engine;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::site::{Copies, Site};
use crate::scene::{Result, keys_of, until};

/// Its answers come promptly again, and routers that have not looked at the others yet could take
/// them for the truth.
async fn a_master_that_wakes_up_shows_nobody_the_past(engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, Copies::First, "").await?;
    let clients = site.clients().await?;
    let key = keys_of(0, 2, "awake").next().expect("endless");
    clients[0].put(key.clone(), "before").await?;
    let (stored, is_stored) = watch::channel(None);
    let mut readers = JoinSet::new();
    for client in &clients {
        // Several, so that some are asked while others wait for an answer.
        for _ in 0..4 {
            readers.spawn(read(client.clone(), key.clone(), is_stored.clone()));
        }
    }
    site.shards[0][0].freeze()?;
    site.promote_second(0).await?;
    until("the promoted server to be adopted", async || {
        let mut sql = site.shards[0][1].connect().await?;
        let named: i64 = sql.one("SELECT server_id = @@server_id FROM shard").await?;
        Ok(named == 1)
    })
    .await?;
    site.shards[0][0].thaw()?;
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

/// Reads until it has seen enough after something else was stored.
async fn read(client: Client, key: String, stored: watch::Receiver<Option<Instant>>) -> Result<()> {
    let mut answers = 0;
    while answers < 100 {
        let began = Instant::now();
        let get = client.get(key.clone()).timeout(Duration::from_secs(1));
        let Ok(reply) = get.await else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        if stored.borrow().is_some_and(|stored| stored < began) {
            let value = reply.value().map(|value| &value[..]);
            assert_eq!(value, Some(&b"after"[..]), "answer {answers}");
            answers += 1;
        }
    }
    Ok(())
}

on_servers!(a_master_that_wakes_up_shows_nobody_the_past);
