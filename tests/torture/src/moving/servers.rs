//! Durable masters with a replica each, and two routers in front of them.

use std::fs;

use freehold_tests::{
    Engine, Router, Server, ServerOptions, Shard, replication, shards_toml, until,
};

use crate::Result;
use crate::moving::Options;

/// The shards that a run begins with.
const NAMES: [&str; 2] = ["a", "b"];

/// The one that comes later.
pub const NEW: &str = "c";

const ROUTERS: usize = 2;

/// Everything that is measured on.
pub struct Servers {
    /// First: routers end before their servers.
    routers: Vec<Router>,
    pairs: Vec<Pair>,
    durable: ServerOptions,
}

/// A master and its replica.
pub struct Pair {
    name: &'static str,
    /// The one that takes writes.
    pub master: Server,
    replica: Server,
}

impl Pair {
    /// The replica has nothing yet.
    async fn start(name: &'static str, options: &ServerOptions) -> Result<Self> {
        let (master, replica) = tokio::try_join!(
            Server::start(options.clone()),
            Server::start(options.clone().read_only())
        )?;
        Ok(Self {
            name,
            master,
            replica,
        })
    }

    fn shard(&self) -> Shard {
        Shard::new(self.name, &self.master, &[&self.replica])
    }

    /// As `init` wants it.
    fn master_alone(&self) -> Shard {
        Shard::new(self.name, &self.master, &[])
    }

    async fn replicate(&self) -> Result<()> {
        Ok(replication::attach(&self.master, &self.replica).await?)
    }
}

/// Each commit flushed and synced, and a log that does not wrap while a slot moves.
fn durable(options: &Options) -> ServerOptions {
    let log = match options.engine {
        Engine::MariaDb => "--innodb-log-file-size=1G",
        Engine::MySql => "--innodb-redo-log-capacity=1G",
    };
    let pool = format!("--innodb-buffer-pool-size={}M", options.buffer_pool_mib);
    ServerOptions::new(options.engine)
        .synced()
        .argument(log)
        .argument(&pool)
}

impl Servers {
    /// Starts them, and gives every slot an owner.
    ///
    /// # Errors
    /// Of whatever does not start.
    pub async fn start(options: &Options) -> Result<Self> {
        let durable = durable(options);
        let (a, b) = tokio::try_join!(
            Pair::start(NAMES[0], &durable),
            Pair::start(NAMES[1], &durable)
        )?;
        let pairs = vec![a, b];
        let masters: Vec<Shard> = pairs.iter().map(Pair::master_alone).collect();
        Router::configure(&masters, "")?.init().await?.success()?;
        for pair in &pairs {
            pair.replicate().await?;
        }
        let shards: Vec<Shard> = pairs.iter().map(Pair::shard).collect();
        let mut routers = Vec::new();
        for _ in 0..ROUTERS {
            let mut router = Router::configure(&shards, "")?;
            if let Some(factor) = options.latency_factor_max {
                router.set_environment("FREEHOLD__MOVER__LATENCY_FACTOR_MAX", &factor.to_string());
            }
            router.serve().await?;
            routers.push(router);
        }
        Ok(Self {
            routers,
            pairs,
            durable,
        })
    }

    /// Adds a shard that owns nothing, and waits until every router knows it.
    ///
    /// # Errors
    /// Of whatever does not start.
    pub async fn add(&mut self) -> Result<()> {
        let pair = Pair::start(NEW, &self.durable).await?;
        let mut shards: Vec<Shard> = self.pairs.iter().map(Pair::shard).collect();
        shards.push(pair.master_alone());
        let words = ["init", "--shard", NEW];
        let initialised = Router::configure(&shards, "")?.with_config(&words).await?;
        initialised.success()?;
        pair.replicate().await?;
        self.pairs.push(pair);
        let shards: Vec<Shard> = self.pairs.iter().map(Pair::shard).collect();
        for router in &self.routers {
            let file = router.config_file();
            fs::write(&file, shards_toml(&shards))
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
        for router in &self.routers {
            until("a router to know the new shard", async || {
                let shown = router.admin_cli(&["shards", "--json"]).await?.success()?;
                let shown: serde_json::Value = serde_json::from_str(&shown)?;
                let all = shown["shards"].as_array();
                Ok(all.is_some_and(|all| all.iter().any(|shard| shard["name"] == NEW)))
            })
            .await?;
        }
        Ok(())
    }

    /// As durable a master and replica that are no shard.
    ///
    /// # Errors
    /// If they do not start.
    pub async fn spare(&self) -> Result<Pair> {
        let pair = Pair::start("spare", &self.durable).await?;
        pair.replicate().await?;
        Ok(pair)
    }

    /// The master of a shard.
    ///
    /// # Errors
    /// If there is no such shard.
    pub fn master(&self, name: &str) -> Result<&Server> {
        let pair = self.pairs.iter().find(|pair| pair.name == name);
        Ok(pair
            .map(|pair| &pair.master)
            .ok_or_else(|| format!("no shard {name}"))?)
    }

    /// Where the routers are, as the client takes it.
    #[must_use]
    pub fn addresses(&self) -> String {
        let addresses = self
            .routers
            .iter()
            .map(|router| router.address().to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// A router, whose config commands are given.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.routers[0]
    }

    /// What the databases say they are.
    ///
    /// # Errors
    /// If one does not answer.
    pub async fn version(&self) -> Result<String> {
        let mut sql = self.pairs[0].master.connect().await?;
        let query = "SELECT CONCAT(@@version_comment, ' ', VERSION())";
        Ok(sql.one(query).await?)
    }

    /// Every slot has one owner, no master has rows of others' slots, and replicas have what their
    /// masters have.
    ///
    /// # Errors
    /// If not, with what was found.
    pub async fn audit(&self) -> Result<()> {
        let audit = ["audit", "--rate", "10000000"];
        self.router().with_config(&audit).await?.success()?;
        Ok(())
    }
}
