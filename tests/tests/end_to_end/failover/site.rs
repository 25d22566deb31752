//! Two shards with two replicas each, and two routers that serve them.

use std::time::Duration;

use freehold_client::{Client, Consistency};
use freehold_tests::{
    Engine, Router, Server, ServerOptions, Shard, failover,
    replication::{self},
};
use tokio::time::Instant;

use crate::scene::{NAMES, Result, client, until};

/// How commits reach the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    /// Some time after they are acknowledged.
    Later,
    /// At least one has them before they are acknowledged, however long that takes.
    First,
}

/// One shard: its servers, of which the first led when it began.
pub(crate) struct Site {
    // First: they end before the servers do.
    pub(crate) routers: [Router; 2],
    pub(crate) shards: [Vec<Server>; 2],
    /// Which server of each shard leads.
    pub(crate) leaders: [usize; 2],
    pub(crate) copies: Copies,
    rebuilt: u32,
}

impl Site {
    pub(crate) async fn new(engine: Engine, copies: Copies, more: &str) -> Result<Self> {
        let (a, b) = tokio::try_join!(servers(engine, copies), servers(engine, copies))?;
        let shards = [a, b];
        let config: Vec<Shard> = NAMES
            .iter()
            .zip(&shards)
            .map(|(name, servers)| {
                let replicas: Vec<&Server> = servers[1..].iter().collect();
                Shard::new(name, &servers[0], &replicas)
            })
            .collect();
        let first = Router::init_and_serve(&config, more).await?;
        let mut second = Router::configure(&config, more)?;
        second.serve().await?;
        let site = Self {
            routers: [first, second],
            shards,
            leaders: [0, 0],
            copies,
            rebuilt: 0,
        };
        for servers in &site.shards {
            for replica in &servers[1..] {
                replication::wait_until_caught_up(&servers[0], replica).await?;
            }
        }
        site.until_replicas_are_seen().await?;
        Ok(site)
    }

    /// Both routers have seen every replica as it is.
    pub(crate) async fn until_replicas_are_seen(&self) -> Result<()> {
        for router in &self.routers {
            until("all servers to be seen", async || {
                let shards = shards_json(router).await?;
                let servers = shards
                    .iter()
                    .flat_map(|shard| shard["servers"].as_array().cloned().unwrap_or_default());
                let usable = servers.filter(|server| server["usable"] == true);
                Ok(usable.count() == 6)
            })
            .await?;
        }
        Ok(())
    }

    /// What the leader of a shard had not sent is lost; the second server leads, and the third one
    /// copies it. Answers when the second one was open.
    pub(crate) async fn promote_second(&mut self, shard: usize) -> Result<Instant> {
        self.promote(shard, 1).await
    }

    /// The replica that received most leads, and the other one copies it. Answers when it was open.
    pub(crate) async fn promote_best(&mut self, shard: usize) -> Result<Instant> {
        let replicas = self.replicas(shard);
        let servers = replicas.map(|place| &self.shards[shard][place]);
        let best = failover::most_received(&servers).await?;
        self.promote(shard, replicas[best]).await
    }

    /// The places of the two servers of a shard that do not lead.
    pub(crate) fn replicas(&self, shard: usize) -> [usize; 2] {
        let leader = self.leaders[shard];
        [(leader + 1) % 3, (leader + 2) % 3]
    }

    async fn promote(&mut self, shard: usize, place: usize) -> Result<Instant> {
        let replicas = self.replicas(shard);
        let heir = &self.shards[shard][place];
        let prepare = match self.copies {
            Copies::First => failover::wait_for_replicas(heir.engine()),
            Copies::Later => "DO 0".to_owned(),
        };
        failover::promote(heir, &prepare).await?;
        let open = Instant::now();
        for other in replicas.into_iter().filter(|other| *other != place) {
            failover::repoint(&self.shards[shard][other], heir).await?;
        }
        self.leaders[shard] = place;
        Ok(open)
    }

    /// Makes a former master, which may have what nobody else has, an empty server that copies the
    /// leader from its first write on.
    pub(crate) async fn rebuild(&mut self, shard: usize, place: usize) -> Result<()> {
        self.rebuilt += 1;
        let leader = self.leaders[shard];
        let server = &mut self.shards[shard][place];
        // What a server finds in a log under its own number it does not apply.
        let server_id = u32::from(server.port()) + 100_000 * self.rebuilt;
        server.options_mut().read_only = true;
        server.options_mut().server_id = Some(server_id);
        server.kill();
        server.lose_everything().await?;
        server.start_again().await?;
        let (leader, server) = (&self.shards[shard][leader], &self.shards[shard][place]);
        replication::copy(leader, server).await?;
        replication::wait_until_caught_up(leader, server).await?;
        self.until_replicas_are_seen().await
    }

    /// Clients of both routers.
    pub(crate) async fn clients(&self) -> Result<[Client; 2]> {
        Ok([
            client(&self.routers[0]).await?,
            client(&self.routers[1]).await?,
        ])
    }

    /// The address that routers know a server by.
    pub(crate) fn address(&self, shard: usize, server: usize) -> String {
        format!("127.0.0.1:{}", self.shards[shard][server].port())
    }
}

async fn servers(engine: Engine, copies: Copies) -> Result<Vec<Server>> {
    let options = |read_only: bool| {
        let mut options = ServerOptions::new(engine);
        if copies == Copies::First {
            options.arguments = failover::semi_synchronous(engine);
        }
        options.read_only = read_only;
        options
    };
    let (master, first, second) = tokio::try_join!(
        Server::start(options(false)),
        Server::start(options(true)),
        Server::start(options(true))
    )?;
    tokio::try_join!(
        replication::attach(&master, &first),
        replication::attach(&master, &second)
    )?;
    let servers = vec![master, first, second];
    if copies == Copies::First {
        // Not yet where it is none's master: what is applied there would wait, too.
        let wait = failover::wait_for_replicas(engine);
        servers[0].connect().await?.run(&wait).await?;
    }
    Ok(servers)
}

/// What `freehold shards` shows.
pub(crate) async fn shards_json(router: &Router) -> Result<Vec<serde_json::Value>> {
    let shown = router.admin_cli(&["shards", "--json"]).await?;
    let shown: serde_json::Value = serde_json::from_str(&shown.success()?)?;
    Ok(shown["shards"].as_array().cloned().unwrap_or_default())
}

/// Waits until both routers have a server marked, and says how long that took.
pub(crate) async fn until_alarmed(site: &Site, address: &str) -> Result<Duration> {
    let began = Instant::now();
    for router in &site.routers {
        until("an alarm", async || {
            let shards = shards_json(router).await?;
            let mut servers = shards
                .iter()
                .flat_map(|shard| shard["servers"].as_array().cloned().unwrap_or_default());
            Ok(servers.any(|server| server["address"] == address && server["alarm"] != ""))
        })
        .await?;
    }
    Ok(began.elapsed())
}

/// Waits until a write and a STRONG read of this key end well through every client.
pub(crate) async fn until_served(clients: &[Client], key: &str) -> Result<()> {
    for client in clients {
        until("the shard to be served", async || {
            Ok(client.put(key.to_owned(), "served").await.is_ok()
                && client
                    .get(key.to_owned())
                    .consistency(Consistency::Strong)
                    .await
                    .is_ok())
        })
        .await?;
    }
    Ok(())
}
