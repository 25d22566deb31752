//! Two masters with their replicas, two routers, and a network between all of them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use freehold_checker::record::{Clock, Record};
use freehold_tests::{
    Engine, Login, Router, Server, ServerOptions, Shard, deploy, failover, replication,
};
use tokio::sync::{Mutex, MutexGuard, RwLock};
use tokio::time::sleep;

use crate::Result;
use crate::journal::Journal;
use crate::link::{Link, Mode};
use crate::moves::MOVERS;
use crate::options::Kind;
use crate::schedule::{Place, ROUTERS, SHARDS};

/// A server's own disk: an empty one takes up to 200 MiB, and its binary logs grow from there.
const DISK_MIB_MAX: u32 = 1_500;

const PASSWORD: &str = "router-password";
const SWEEPER_PASSWORD: &str = "sweeper-password";
const MOVER_PASSWORD: &str = "mover-password";

/// Short times, so that what is broken shows and what is mended heals within a round; a sweeper
/// that is always busy. A router that starts reads up to 65,536 claims of each shard within the
/// statement's and the connection's time: on a machine with ten programs per core, an unoptimised
/// build took more than 4 s for it, again and again.
const SETTINGS: &str = "\
[server]
request_timeout_ms = 3000
grace_period_ms = 2000
map_poll_ms = 200
[lanes]
statement_timeout_ms = 8000
connect_timeout_ms = 2000
[sweeper]
user = \"freehold_sweeper\"
password_env = \"FREEHOLD_SWEEPER_PASSWORD\"
idle_ms = 20
batch_rows_max = 16
replica_lag_ms_max = 60000
[mover]
user = \"freehold_mover\"
password_env = \"FREEHOLD_MOVER_PASSWORD\"
abandoned_after_ms = 1000
";

/// Everything, each part behind a lock of its own: a fault holds what it breaks.
pub struct Cluster {
    /// First: routers end before their servers.
    routers: Vec<Mutex<Router>>,
    /// In front of each router.
    client_links: Vec<Link>,
    /// In front of each server, for each router.
    links: Vec<Vec<Link>>,
    /// The servers of one shard after those of the other.
    servers: Vec<Mutex<Server>>,
    /// Which server of each shard leads it.
    leaders: [AtomicUsize; SHARDS],
    /// Whoever breaks the network of a shard's servers reads; a failover whose former master goes on
    /// answering writes: cut off together with it, a router cannot know better, which
    /// `deploy/failover.md` says.
    pub networks: [RwLock<()>; SHARDS],
    /// Whoever changes owners has it: hand-overs know nothing of moves.
    pub owners: Mutex<()>,
    engine: Engine,
    /// Of each shard.
    replicas: usize,
}

/// What differs from one cluster to another.
pub struct Plan<'a> {
    /// Which database.
    pub engine: Engine,
    /// A bug to plant.
    pub bug: Option<&'a str>,
    /// What is to be broken.
    pub kinds: &'a [Kind],
    /// Two replicas per shard, of which one has each write before it is acknowledged, instead of one
    /// that has it later.
    pub fails_over: bool,
}

impl Plan<'_> {
    fn replicas(&self) -> usize {
        if self.fails_over { 2 } else { 1 }
    }

    fn options(&self, leads: bool) -> ServerOptions {
        let mut options = ServerOptions::new(self.engine);
        options.read_only = !leads;
        options.arguments = arguments(self.engine, self.fails_over, leads);
        options.disk_mib_max = self
            .kinds
            .contains(&Kind::FullDisks)
            .then_some(DISK_MIB_MAX);
        options.own_clock = self.kinds.contains(&Kind::Clocks);
        options
    }

    /// A master that no replica has yet. It waits for none before it has one.
    async fn start_master(&self) -> Result<Server> {
        let mut options = self.options(false);
        options.read_only = false;
        let mut master = Server::start(options).await?;
        *master.options_mut() = self.options(true);
        Ok(master)
    }

    async fn start_replicas(&self, master: &Server) -> Result<Vec<Server>> {
        let mut replicas = Vec::new();
        for _ in 0..self.replicas() {
            let replica = Server::start(self.options(false)).await?;
            replication::attach(master, &replica).await?;
            replicas.push(replica);
        }
        if self.fails_over {
            let wait = failover::wait_for_replicas(self.engine);
            master.connect().await?.run(&wait).await?;
        }
        Ok(replicas)
    }
}

/// The options that make a server what it is.
fn arguments(engine: Engine, fails_over: bool, leads: bool) -> Vec<String> {
    let mut arguments = match (fails_over, leads) {
        (false, _) => Vec::new(),
        (true, false) => failover::semi_synchronous(engine),
        (true, true) => failover::semi_synchronous_leader(engine),
    };
    if engine == Engine::MySql {
        // What it was told when it became a replica does not hold once it leads.
        arguments.push("--persisted-globals-load=OFF".to_owned());
    }
    arguments
}

impl Cluster {
    /// Starts everything.
    pub async fn start(plan: &Plan<'_>) -> Result<Self> {
        let engine = plan.engine;
        let (a, b) = tokio::try_join!(plan.start_master(), plan.start_master())?;
        let passwords = [
            ("FREEHOLD_PASSWORD", PASSWORD),
            ("FREEHOLD_SWEEPER_PASSWORD", SWEEPER_PASSWORD),
            ("FREEHOLD_MOVER_PASSWORD", MOVER_PASSWORD),
            ("FREEHOLD_SCHEMA_PASSWORD", "schema-password"),
        ];
        for master in [&a, &b] {
            let accounts = deploy::sql(engine, "accounts.sql", &passwords)?;
            master.connect().await?.run(&accounts).await?;
        }
        let shards = [Shard::new("a", &a, &[]), Shard::new("b", &b, &[])];
        Router::configure(&shards, "")?.init().await?.success()?;
        for master in [&a, &b] {
            let grants = deploy::sql(engine, "grants.sql", &[])?;
            master.connect().await?.run(&grants).await?;
        }
        let (of_a, of_b) = tokio::try_join!(plan.start_replicas(&a), plan.start_replicas(&b))?;
        let mut servers = vec![a];
        servers.extend(of_a);
        servers.push(b);
        servers.extend(of_b);
        let (mut routers, mut links, mut client_links) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUTERS {
            let mut of_router = Vec::new();
            for server in &servers {
                of_router.push(Link::to(address(server.port())).await?);
            }
            let mut router = Router::configure(&shards_by(&of_router), SETTINGS)?;
            router.set_environment("FREEHOLD_SWEEPER_PASSWORD", SWEEPER_PASSWORD);
            router.set_environment("FREEHOLD_MOVER_PASSWORD", MOVER_PASSWORD);
            if let Some(bug) = plan.bug {
                router.set_environment("FREEHOLD_PLANTED_BUG", bug);
            }
            router.serve().await?;
            client_links.push(Link::to(router.address()).await?);
            routers.push(Mutex::new(router));
            links.push(of_router);
        }
        Ok(Self {
            routers,
            client_links,
            links,
            servers: servers.into_iter().map(Mutex::new).collect(),
            leaders: Default::default(),
            networks: Default::default(),
            owners: Mutex::default(),
            engine,
            replicas: plan.replicas(),
        })
    }

    /// Which database it is.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// A router.
    pub fn router(&self, router: usize) -> &Mutex<Router> {
        &self.routers[router]
    }

    /// How many replicas each shard has.
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// Which of its servers leads a shard.
    pub fn leader(&self, shard: usize) -> usize {
        self.leaders[shard].load(Ordering::Acquire)
    }

    /// From now on another one does. The caller has all of them.
    pub fn set_leader(&self, shard: usize, server: usize) {
        self.leaders[shard].store(server, Ordering::Release);
    }

    fn index(&self, place: Place) -> usize {
        let (leader, each) = (self.leader(place.shard), self.replicas + 1);
        let within = match place.rank {
            0 => leader,
            rank if rank <= leader => rank - 1,
            rank => rank,
        };
        place.shard * each + within
    }

    /// A server, when nobody else has it. It is what the place says for as long as it is had.
    pub async fn server(&self, place: Place) -> MutexGuard<'_, Server> {
        loop {
            let index = self.index(place);
            let server = self.servers[index].lock().await;
            if self.index(place) == index {
                return server;
            }
        }
    }

    /// All servers of a shard, in their own order.
    pub async fn servers_of(&self, shard: usize) -> Vec<MutexGuard<'_, Server>> {
        let each = self.replicas + 1;
        let mut all = Vec::new();
        for server in &self.servers[shard * each..(shard + 1) * each] {
            all.push(server.lock().await);
        }
        all
    }

    /// Makes the next start of a server that of a leader, or of a replica.
    pub fn prepare(&self, server: &mut Server, leads: bool) {
        let arguments = arguments(self.engine, self.replicas > 1, leads);
        let options = server.options_mut();
        options.read_only = !leads;
        options.arguments = arguments;
    }

    /// The network from a router to a server.
    pub fn link(&self, router: usize, place: Place) -> &Link {
        &self.links[router][self.index(place)]
    }

    /// The same for a server by its number, whatever it is just now.
    pub fn link_to(&self, router: usize, shard: usize, server: usize) -> &Link {
        &self.links[router][shard * (self.replicas + 1) + server]
    }

    /// What an operator does about a promoted server that no router has seen as a replica.
    pub async fn adopt(&self, router: usize, shard: &str) -> Result<String> {
        // Whoever has it keeps it down, or may.
        let router = self.routers[router].try_lock()?;
        Ok(router.admin_cli(&["adopt", shard]).await?.success()?)
    }

    /// The network from the clients to a router.
    pub fn client_link(&self, router: usize) -> &Link {
        &self.client_links[router]
    }

    /// Where clients reach each router.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.client_links.iter().map(Link::address).collect()
    }

    /// Opens every network and waits until every router serves every shard.
    pub async fn become_well(&self) -> Result<()> {
        let all = self.links.iter().flatten().chain(&self.client_links);
        all.for_each(|link| link.set(Mode::Open));
        for router in &self.routers {
            let wait =
                |status: u16, health: &str| status == 200 && !health.contains("\"up\":false");
            let mut router = router.lock().await;
            // It waits for a minute: twice, for a machine that does much else besides.
            if router
                .wait_for_health("every shard up", wait)
                .await
                .is_err()
            {
                router.wait_for_health("every shard up", wait).await?;
            }
        }
        Ok(())
    }

    /// Looks at the servers' clocks again and again. One that does not answer is left out.
    pub async fn watch_the_clocks(&self, journal: &Journal) {
        loop {
            for (number, server) in self.servers.iter().enumerate() {
                // Whoever breaks it has it now.
                let Ok(server) = server.try_lock() else {
                    continue;
                };
                let look = look_at_clock(&server, journal);
                let clock = tokio::time::timeout(Duration::from_millis(300), look).await;
                if let Ok(Ok(clock)) = clock {
                    journal.note(Record::Clock(Clock {
                        server: number.to_string(),
                        ..clock
                    }));
                }
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    /// Notes what a clock shows that was stepped. However long the look took, it counts: it is about
    /// an hour.
    pub async fn note_clock(&self, place: Place, server: &Server, journal: &Journal) -> Result<()> {
        let clock = look_at_clock(server, journal).await?;
        journal.note(Record::Clock(Clock {
            server: self.index(place).to_string(),
            before_ns: clock.after_ns,
            ..clock
        }));
        Ok(())
    }

    /// What all programs have said so far, by their names.
    pub async fn logs(&self) -> Vec<(String, String)> {
        let mut logs = Vec::new();
        for (number, router) in self.routers.iter().enumerate() {
            let router = router.lock().await;
            logs.push((format!("router-{number}"), router.log()));
            logs.push((format!("movers-{number}"), router.log_of(MOVERS)));
        }
        for (number, server) in self.servers.iter().enumerate() {
            let server = server.lock().await;
            logs.push((format!("server-{number}-{}", server.port()), server.log()));
        }
        logs
    }
}

async fn look_at_clock(server: &Server, journal: &Journal) -> Result<Clock> {
    let mut sql = server.connect().await?;
    sql.run("SET SESSION time_zone = '+00:00'").await?;
    let before_ns = journal.now_ns();
    let database_ms: i64 = sql
        .one("SELECT CAST(ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED)")
        .await?;
    Ok(Clock {
        server: String::new(),
        before_ns,
        after_ns: journal.now_ns(),
        database_ms,
    })
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The shards as one router reaches them.
fn shards_by(links: &[Link]) -> Vec<Shard> {
    let Login { user, .. } = Login::new("freehold", PASSWORD);
    let dsn = |link: &Link| format!("mysql://{user}:{PASSWORD}@{}/freehold", link.address());
    let each = links.len() / SHARDS;
    links
        .chunks(each)
        .zip(["a", "b"])
        .map(|(links, name)| Shard {
            name: name.to_owned(),
            master: dsn(&links[0]),
            replicas: links[1..].iter().map(dsn).collect(),
        })
        .collect()
}
