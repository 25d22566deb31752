//! Two shards with two replicas each, and two routers in front of them.

use std::time::Duration;

use freehold_client::{Client, ClientOptions};
use freehold_tests::{Engine, Router, Server, ServerOptions, Shard, replication};
use rand::{
    RngExt as _, SeedableRng as _,
    rngs::{StdRng, SysRng},
};

/// What tests return: whatever went wrong, in words.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// A master and what copies it.
pub(crate) struct Servers {
    pub(crate) master: Server,
    pub(crate) replicas: [Server; 2],
}

impl Servers {
    async fn start(options: &ServerOptions) -> Result<Self> {
        let (master, first, second) = tokio::try_join!(
            Server::start(options.clone()),
            Server::start(options.clone().read_only()),
            Server::start(options.clone().read_only())
        )?;
        tokio::try_join!(
            replication::attach(&master, &first),
            replication::attach(&master, &second)
        )?;
        Ok(Self {
            master,
            replicas: [first, second],
        })
    }

    pub(crate) async fn catch_up(&self) -> Result<()> {
        for replica in &self.replicas {
            replication::wait_until_caught_up(&self.master, replica).await?;
        }
        Ok(())
    }
}

pub(crate) struct Cluster {
    // First: they end before their servers do.
    pub(crate) routers: [Router; 2],
    pub(crate) clients: [Client; 2],
    pub(crate) shards: [Servers; 2],
}

impl Cluster {
    pub(crate) async fn start(engine: Engine) -> Result<Self> {
        let started = Started::new(&ServerOptions::new(engine)).await?;
        started.serve([0, 0]).await
    }

    /// Routers whose clocks are five minutes off in either direction, and so are those of the
    /// servers, where the engine bears that: MySQL 9.7 hangs while it starts under libfaketime.
    pub(crate) async fn with_clocks_apart(engine: Engine) -> Result<Self> {
        let mut options = ServerOptions::new(engine);
        options.own_clock = engine == Engine::MariaDb;
        let started = Started::new(&options).await?;
        if options.own_clock {
            for (servers, [master, first, second]) in started.shards.iter().zip(CLOCKS_S) {
                servers.master.set_clock(master)?;
                servers.replicas[0].set_clock(first)?;
                servers.replicas[1].set_clock(second)?;
            }
            let mut first = started.shards[0].master.connect().await?;
            let mut second = started.shards[1].master.connect().await?;
            freehold_tests::until("clocks to be apart", async || {
                let now = "SELECT UNIX_TIMESTAMP()";
                let (one, other) = (first.one::<i64>(now).await?, second.one::<i64>(now).await?);
                Ok(one.abs_diff(other) > 500)
            })
            .await?;
        }
        let cluster = started.serve(ROUTER_CLOCKS_S).await?;
        for router in &cluster.routers {
            let said = router.with_config(&["doctor", "--json"]).await?.stdout;
            assert!(said.contains("the clock"), "{said}");
        }
        Ok(cluster)
    }
}

/// How many seconds the clocks of a shard's servers are ahead.
const CLOCKS_S: [[i64; 3]; 2] = [[300, -300, 0], [-300, 300, -120]];

/// Likewise, of the routers.
const ROUTER_CLOCKS_S: [i64; 2] = [300, -300];

/// Servers that are no cluster yet.
struct Started {
    routers: [Router; 2],
    shards: [Servers; 2],
}

impl Started {
    async fn new(options: &ServerOptions) -> Result<Self> {
        let (a, b) = tokio::try_join!(Servers::start(options), Servers::start(options))?;
        let shard = |name, servers: &Servers| {
            let [first, second] = &servers.replicas;
            Shard::new(name, &servers.master, &[first, second])
        };
        let config = [shard("a", &a), shard("b", &b)];
        let routers = [
            Router::configure(&config, PATIENT)?,
            Router::configure(&config, PATIENT)?,
        ];
        routers[0].init().await?.success()?;
        Ok(Self {
            routers,
            shards: [a, b],
        })
    }

    async fn serve(mut self, clocks_s: [i64; 2]) -> Result<Cluster> {
        for (router, ahead_s) in self.routers.iter_mut().zip(clocks_s) {
            if ahead_s != 0 {
                router.put_clock_ahead(ahead_s)?;
            }
            router.serve().await?;
        }
        for servers in &self.shards {
            servers.catch_up().await?;
        }
        for router in &self.routers {
            until_replicas_follow(router, 4).await?;
        }
        let [first, second] = &self.routers;
        Ok(Cluster {
            clients: [client(first).await?, client(second).await?],
            routers: self.routers,
            shards: self.shards,
        })
    }
}

/// A read may have to wait for a busy machine; how long one waits for a replica is another setting.
const PATIENT: &str = "[server]\nrequest_timeout_ms = 30000\n";

/// Calls to a router.
pub(crate) async fn client(router: &Router) -> Result<Client> {
    let options = ClientOptions {
        timeout: Duration::from_secs(60),
        ..ClientOptions::default()
    };
    Ok(Client::connect(&router.address().to_string(), &options).await?)
}

/// Waits until a router uses so many replicas for every level.
pub(crate) async fn until_replicas_follow(router: &Router, count: usize) -> Result<()> {
    freehold_tests::until("replicas to follow", async || {
        let shards = router.admin_cli(&["shards", "--json"]).await?.success()?;
        Ok(shards.matches("\"fitness\":\"follows\"").count() == count)
    })
    .await
}

/// A number from the environment, or this one.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given
        .and_then(|given| given.parse().ok())
        .unwrap_or(default)
}

/// A random number that is printed, so that a failure can be tried again with
/// `FREEHOLD_TEST_SEED`.
pub(crate) fn seed() -> u64 {
    let random = StdRng::try_from_rng(&mut SysRng).map(|mut random| random.random());
    let random = random.expect("the system has random numbers");
    let seed = setting("FREEHOLD_TEST_SEED", random);
    println!("FREEHOLD_TEST_SEED={seed}");
    seed
}
