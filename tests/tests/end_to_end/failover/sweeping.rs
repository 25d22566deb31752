//! Rows are swept where the shard is led.

use std::time::Duration;

use freehold_tests::{Engine, replication};

use super::site::{Copies, Site, until_served};
use crate::{
    scene::{Result, keys_of, until},
    table,
};

/// Without anybody changing a config.
async fn sweeping_follows_the_leader(engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, Copies::Later, "[sweeper]\nidle_ms = 200\n").await?;
    let clients = site.clients().await?;
    let mut keys = keys_of(0, 2, "swept");
    let kept = keys.next().expect("endless");
    clients[0].put(kept.clone(), "stays").await?;
    site.shards[0][0].kill();
    site.promote_second(0).await?;
    until_served(&clients, &kept).await?;
    for key in keys.take(20) {
        let ttl = Duration::from_millis(1);
        clients[1].put(key, "goes").ttl(ttl).await?;
    }
    // While a server of the shard does not say how far it is behind, nothing is deleted.
    site.rebuild(0, 0).await?;
    let [first, leader, third] = &site.shards[0][..] else {
        unreachable!("three servers");
    };
    let mut sql = leader.connect().await?;
    until("the expired rows to be deleted", async || {
        Ok(table::count(&mut sql).await? == 1)
    })
    .await?;
    for replica in [first, third] {
        replication::wait_until_caught_up(leader, replica).await?;
        assert_eq!(table::count(&mut replica.connect().await?).await?, 1);
    }
    Ok(())
}

on_servers!(sweeping_follows_the_leader);
