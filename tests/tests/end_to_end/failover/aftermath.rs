//! What becomes of the servers that do not lead any more, or never did.

use std::time::Duration;

use bytes::Bytes;
use freehold_client::{Consistency, Error};
use freehold_tests::{Engine, Server, failover, replication};

use super::site::{Copies, Site, shards_json, until_served};
use crate::scene::{Result, client, keys_of, until};

async fn close(server: &Server) -> Result<()> {
    let statement = match server.engine() {
        Engine::MariaDb => "SET GLOBAL read_only = ON",
        Engine::MySql => "SET GLOBAL super_read_only = ON",
    };
    Ok(server.connect().await?.run(statement).await?)
}

/// Nobody leads for a while, and no connection breaks: what routers said of it then is over.
async fn a_master_that_was_switched_in_order_serves_as_a_replica(engine: Engine) -> Result<()> {
    let more = "[failover]\nadopt = \"manual\"\n";
    let mut site = Site::new(engine, Copies::Later, more).await?;
    let clients = site.clients().await?;
    let key = keys_of(0, 2, "switched").next().expect("endless");
    clients[0].put(key.clone(), "before").await?;
    close(&site.shards[0][0]).await?;
    for replica in &site.shards[0][1..] {
        replication::wait_until_caught_up(&site.shards[0][0], replica).await?;
    }
    site.promote_second(0).await?;
    // One of the routers has never seen it led.
    site.routers[1].kill();
    site.routers[1].launch()?;
    let words = ["waits for `freehold adopt`", "run `freehold adopt`"];
    for (router, words) in site.routers.iter().zip(words) {
        let mut shown = String::new();
        until("the shard to wait for somebody", async || {
            let shards = shards_json(router).await.unwrap_or_default();
            shown = shards.first().map(ToString::to_string).unwrap_or_default();
            Ok(shown.contains(words))
        })
        .await
        .map_err(|error| format!("{error}: {shown}"))?;
    }
    for client in &clients {
        let put = client.put(key.clone(), "too early");
        match put.timeout(Duration::from_secs(2)).await {
            Err(Error::NotApplied { .. }) => {}
            other => panic!("it will pass by itself: {other:?}"),
        }
    }
    let adopted = site.routers[0].admin_cli(&["adopt", "a"]).await?;
    adopted.success()?;
    until_served(&clients, &key).await?;
    failover::repoint(&site.shards[0][0], &site.shards[0][1]).await?;
    // As before: three servers of each shard, all of use.
    site.until_replicas_are_seen().await
}

/// MySQL lets it copy the new master without a word.
async fn a_replica_that_has_what_a_failover_lost_serves_nothing(engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, Copies::Later, "").await?;
    let clients = site.clients().await?;
    let mut keys = keys_of(0, 2, "tail");
    let [key, other] = std::array::from_fn(|_| keys.next().expect("endless"));
    clients[0].put(key.clone(), "kept").await?;
    let [master, heir, ahead] = &site.shards[0][..] else {
        unreachable!("three servers");
    };
    replication::wait_until_caught_up(master, heir).await?;
    replication::stop_receiver(heir).await?;
    clients[0].put(key.clone(), "lost").await?;
    replication::wait_until_caught_up(master, ahead).await?;
    site.shards[0][0].kill();
    site.promote_second(0).await?;
    until_served(&clients, &other).await?;
    let address = site.address(0, 2);
    let mut seen = vec![String::new(); 2];
    until("both routers to see that it has more", async || {
        for (client, (router, seen)) in clients.iter().zip(site.routers.iter().zip(&mut seen)) {
            for level in [
                Consistency::Eventual,
                Consistency::BoundedStaleness(Duration::from_secs(1)),
            ] {
                let reply = client.get(key.clone()).consistency(level.clone()).await?;
                let value = reply.value().map(|value| &value[..]);
                assert_eq!(value, Some(&b"kept"[..]), "{level:?} read what was lost");
            }
            *seen = shards_json(router).await?[0].to_string();
        }
        let says = |seen: &String| {
            let of_it = seen.split(&address).nth(1).unwrap_or_default();
            of_it.contains("transactions that the leader lacks")
        };
        Ok(seen.iter().all(says))
    })
    .await
    .map_err(|error| format!("{error}: {seen:?}").into())
}

/// The session's other shard is dead, and this router has never seen it.
async fn a_session_reads_one_shard_while_the_other_is_dead(engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, Copies::Later, "").await?;
    let [first, _] = site.clients().await?;
    let tokens: Vec<Bytes> = {
        let mut tokens = Vec::new();
        for shard in 0..2 {
            let key = keys_of(shard, 2, "session").next().expect("endless");
            tokens.push(first.put(key, "1").await?.session_token);
        }
        tokens
    };
    site.shards[0][0].kill();
    site.routers[1].kill();
    site.routers[1].launch()?;
    let mut connected = None;
    until("the router to listen", async || {
        connected = client(&site.routers[1]).await.ok();
        Ok(connected.is_some())
    })
    .await?;
    let client = connected.ok_or("no client")?;
    let key = keys_of(1, 2, "session").next().expect("endless");
    until_served(std::slice::from_ref(&client), &key).await?;
    client.put(key.clone(), "2").await?;
    for _ in 0..20 {
        let session = Consistency::Session(tokens.concat().into());
        let get = client.get(key.clone()).consistency(session);
        let reply = get.timeout(Duration::from_secs(5)).await?;
        assert_eq!(reply.value(), Some(&"2".into()));
    }
    Ok(())
}

on_servers!(
    a_master_that_was_switched_in_order_serves_as_a_replica,
    a_session_reads_one_shard_while_the_other_is_dead,
);

mod only {
    use super::a_replica_that_has_what_a_failover_lost_serves_nothing;

    on_servers!(mysql, MySql: a_replica_that_has_what_a_failover_lost_serves_nothing);
}
