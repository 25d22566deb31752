//! Slots that were on their way to another shard when theirs failed over. Their states are changed
//! by SQL, as a mover would.

use std::time::Duration;

use freehold_client::Client;
use freehold_core::NOT_COMPARED;
use freehold_tests::{Engine, Server, replication};

use super::site::{Copies, Site, until_served};
use crate::{
    fence::in_one_transaction,
    scene::{Result, keys_of, slot_of, until},
};

/// What a mover drew that knows what the failover lost.
const ATTEMPT: u64 = 4711;

async fn row_is(
    server: &Server,
    slot: u16,
    state: &str,
    slot_epoch: u64,
    peer: &str,
) -> Result<()> {
    let change = format!(
        "REPLACE INTO slots (slot, state, slot_epoch, peer, attempt, since_epoch) \
         SELECT {slot}, '{state}', {slot_epoch}, '{peer}', {ATTEMPT}, epoch FROM shard"
    );
    in_one_transaction(&mut server.connect().await?, &change).await
}

async fn number(server: &Server, column: &str, slot: u16) -> Result<u64> {
    let query = format!("SELECT {column} FROM slots WHERE slot = {slot}");
    Ok(server.connect().await?.one(&query).await?)
}

async fn shown(client: &Client, key: &str) -> Option<String> {
    let reply = client.get(key.to_owned()).await.ok()?;
    reply
        .value()
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

async fn slots_on_their_way_are_served_once_their_peer_was_asked(engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, Copies::Later, "").await?;
    let mut keys = keys_of(0, 2, "compared");
    let [outgoing, fenced, given, other] = std::array::from_fn(|_| keys.next().expect("endless"));
    let clients = site.clients().await?;
    for key in [&outgoing, &fenced, &given, &other] {
        clients[0].put(key.clone(), "at a").await?;
    }
    let (a, b) = (&site.shards[0][0], &site.shards[1][0]);
    for (key, state) in [
        (&outgoing, "outgoing"),
        (&fenced, "fenced"),
        (&given, "fenced"),
    ] {
        row_is(b, slot_of(key), "incoming", 2, "a").await?;
        row_is(a, slot_of(key), state, 1, "b").await?;
    }
    for replica in &site.shards[0][1..] {
        replication::wait_until_caught_up(a, replica).await?;
        replication::stop(replica).await?;
    }
    // No replica hears of it: the slot was given away.
    row_is(a, slot_of(&given), "gone", 2, "b").await?;
    let copy = format!(
        "INSERT INTO store (slot, `key`, value, version, expires_at) \
         VALUES ({}, '{given}', 'at b', 1, {})",
        slot_of(&given),
        i64::MAX
    );
    b.connect().await?.run(&copy).await?;
    row_is(b, slot_of(&given), "owned", 2, "a").await?;
    until("the slot to be served by its new owner", async || {
        Ok(shown(&clients[0], &given).await.as_deref() == Some("at b"))
    })
    .await?;

    // The master dies while its peer does not answer.
    site.shards[1][0].freeze()?;
    site.shards[0][0].kill();
    site.promote_second(0).await?;
    until_served(&clients, &other).await?;
    let new = &site.shards[0][1];
    for key in [&outgoing, &fenced, &given] {
        assert_eq!(
            number(new, "since_epoch", slot_of(key)).await?,
            NOT_COMPARED
        );
    }
    for client in &clients {
        for key in [&outgoing, &fenced] {
            let read = client.get(key.clone()).timeout(Duration::from_millis(500));
            let error = read.await.expect_err("nobody knows who owns the slot");
            println!("{error}");
        }
        client.put(other.clone(), "meanwhile").await?;
    }

    site.shards[1][0].thaw()?;
    until_served(&clients, &outgoing).await?;
    for client in &clients {
        until("a fenced slot to be read", async || {
            Ok(shown(client, &fenced).await.as_deref() == Some("at a"))
        })
        .await?;
        until("the new owner to be asked", async || {
            Ok(shown(client, &given).await.as_deref() == Some("at b"))
        })
        .await?;
    }
    let (new, b) = (&site.shards[0][1], &site.shards[1][0]);
    for key in [&outgoing, &fenced] {
        assert_ne!(
            number(b, "attempt", slot_of(key)).await?,
            ATTEMPT,
            "the mover is stopped"
        );
        assert_eq!(number(new, "attempt", slot_of(key)).await?, ATTEMPT);
        let epoch: u64 = new.connect().await?.one("SELECT epoch FROM shard").await?;
        let since = number(new, "since_epoch", slot_of(key)).await?;
        assert!(since <= epoch, "{since} {epoch}");
    }
    // What it lost, it does not claim.
    assert_eq!(
        number(new, "since_epoch", slot_of(&given)).await?,
        NOT_COMPARED
    );
    assert_eq!(number(b, "attempt", slot_of(&given)).await?, ATTEMPT);
    Ok(())
}

on_servers!(slots_on_their_way_are_served_once_their_peer_was_asked);
