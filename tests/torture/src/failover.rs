//! Another server of a shard is promoted, as an operator's tool does it, because its master was
//! killed, hangs, or cannot be reached. The master comes back afterwards.
//!
//! A commit waits for one of two replicas, however long that takes, and the one that has received
//! most is promoted: so nothing that was acknowledged may be gone.

use std::time::Duration;

use freehold_tests::{Server, failover, replication};
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::cluster::Cluster;
use crate::link::Mode;
use crate::schedule::{Cause, Place, ROUTERS};

/// How long routers may take to adopt a server that was promoted before somebody does it by hand.
/// None may have seen it as a replica: all of them were killed meanwhile.
const ADOPTED_WITHIN: Duration = Duration::from_secs(10);

/// How long that may take altogether, on a machine that does much else.
const LED_WITHIN: Duration = Duration::from_secs(90);

/// How the former master comes back.
#[derive(Debug, Clone, Copy)]
pub struct Back {
    /// It takes writes at first, as if nothing had happened.
    pub is_open: bool,
    /// For how long.
    pub lasts: Duration,
}

/// Replaces the server that leads a shard.
pub async fn fail_over(cluster: &Cluster, shard: usize, cause: Cause, back: Back) -> Result<()> {
    // A router that is cut off together with a former master that still answers cannot know better.
    let alone = match (cause, back.is_open) {
        (Cause::Killed, false) => None,
        _ => Some(cluster.networks[shard].write().await),
    };
    let mut servers = cluster.servers_of(shard).await;
    let old = cluster.leader(shard);
    let copies: Vec<usize> = (0..servers.len()).filter(|one| *one != old).collect();
    for copy in &copies {
        // So that what is acknowledged until the end is somewhere else, too.
        replication::wait_for_state(&servers[*copy], |state| state.receiving).await?;
    }
    let cut = |mode: Mode| {
        for router in 0..ROUTERS {
            cluster.link_to(router, shard, old).set(mode);
        }
    };
    match cause {
        Cause::Killed => servers[old].kill(),
        Cause::Frozen => servers[old].freeze()?,
        Cause::CutOff => cut(Mode::KeepAll),
    }
    let replicas: Vec<&Server> = copies.iter().map(|copy| &*servers[*copy]).collect();
    let new = copies[failover::most_received(&replicas).await?];
    let wait = failover::wait_for_replicas(servers[new].engine());
    failover::promote(&servers[new], &wait).await?;
    for copy in copies.iter().filter(|copy| **copy != new) {
        failover::repoint(&servers[*copy], &servers[new]).await?;
        // Nothing is stored before, not even the adoption.
        replication::wait_for_state(&servers[*copy], |state| state.receiving).await?;
    }
    cluster.set_leader(shard, new);
    cluster.prepare(&mut servers[new], true);
    until_adopted(cluster, shard, &servers[new]).await?;
    if back.is_open {
        match cause {
            // Its options are still those of a leader: no commit of it ends without a replica.
            Cause::Killed => servers[old].start_again().await?,
            Cause::Frozen => servers[old].thaw()?,
            Cause::CutOff => cut(Mode::Open),
        }
        sleep(back.lasts).await;
    }

    servers[old].kill();
    if cause == Cause::CutOff {
        cut(Mode::Open);
    }
    cluster.prepare(&mut servers[old], false);
    servers[old].start_again().await?;
    let [former, leader] = servers
        .get_disjoint_mut([old, new])
        .map_err(|error| error.to_string())?;
    failover::rejoin(former, leader).await?;
    drop(alone);
    Ok(replication::wait_until_caught_up(leader, former).await?)
}

/// Waits until the fence names the server that was promoted.
async fn until_adopted(cluster: &Cluster, shard: usize, server: &Server) -> Result<()> {
    let began = Instant::now();
    let mut sql = server.connect().await?;
    loop {
        let named: u64 = sql.one("SELECT server_id = @@server_id FROM shard").await?;
        if named == 1 {
            return Ok(());
        }
        if began.elapsed() > LED_WITHIN {
            let what = format!("{} was not adopted", Place::leader(shard));
            return Err(what.into());
        }
        if began.elapsed() > ADOPTED_WITHIN {
            for router in 0..ROUTERS {
                let name = ["a", "b"][shard];
                // It may be down, or think otherwise: the next one may not.
                drop(cluster.adopt(router, name).await);
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}
