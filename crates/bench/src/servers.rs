//! The servers of a run: a durable database, a router, and what else is compared with them.
//!
//! A peer that cannot be started is missing from the run, with its reason; without the database or
//! the router there is no run.

mod load;
mod mysql_router;
mod redis;
mod spider;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use freehold_tests::{Login, Router, Server, ServerOptions, Shard, Sql};
use mysql_async::{Opts, OptsBuilder};

pub(crate) use self::redis::connect as connect_redis;
use self::{mysql_router::MysqlRouter, redis::Redis};
use crate::{
    data::DataSet,
    error::Error,
    plan::Plan,
    targets::{Store, Target},
    workload::Inserted,
};

/// Nobody calls it any more by then.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// What targets are measured on.
pub(crate) struct Servers {
    database: Server,
    router: Router,
    mysql_router: Option<MysqlRouter>,
    spider: Option<Server>,
    redis: Option<Redis>,
    redis_always: Option<Redis>,
    /// Why a target that was asked for is not there.
    pub(crate) missing: BTreeMap<Target, String>,
    /// What the router took when it had started and nobody had called.
    pub(crate) router_idle_mib: f64,
    inserted: HashMap<(Store, DataSet), Arc<Inserted>>,
}

/// The processes whose work is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Processes {
    /// Of whatever keeps the rows.
    pub(crate) database: u32,
    /// Of whatever stands between it and the callers.
    pub(crate) between: Option<u32>,
}

impl Servers {
    /// Starts everything (each commit flushed and synced) and loads every store with the same rows.
    pub(crate) async fn start(plan: &Plan) -> Result<Self, Error> {
        let database = Server::start(database_options(plan)).await?;
        let shards = [Shard::new("a", &database, &[])];
        let router = Router::init_and_serve(&shards, &plan.router_config).await?;
        let mut servers = Self {
            database,
            router,
            mysql_router: None,
            spider: None,
            redis: None,
            redis_always: None,
            missing: BTreeMap::new(),
            router_idle_mib: 0.0,
            inserted: HashMap::new(),
        };
        servers.create_direct().await?;
        for target in &plan.targets {
            if let Err(error) = servers.start_peer(*target).await {
                let reason = error.to_string();
                eprintln!("{} is missing: {reason}", target.as_str());
                servers.missing.insert(*target, reason);
            }
        }
        servers.load(plan).await?;
        // A fresh one: what loading left in its memory is not what callers need.
        servers.router.stop(STOPPED_WITHIN).await?;
        servers.router.serve().await?;
        servers.router_idle_mib = crate::cpu::memory_mib(servers.router.pid()?)?;
        Ok(servers)
    }

    async fn start_peer(&mut self, target: Target) -> Result<(), Error> {
        match target {
            Target::MysqlRouter => {
                self.mysql_router = Some(MysqlRouter::start(self.database.port()).await?);
                self.try_out(target).await?;
            }
            Target::Spider => {
                self.spider = Some(spider::start(&self.database).await?);
                self.try_out(target).await?;
            }
            Target::Redis | Target::RedisPipelined => {
                if self.redis.is_none() {
                    self.redis = Some(Redis::start(redis::Durability::None).await?);
                }
            }
            Target::RedisAlways => {
                self.redis_always = Some(Redis::start(redis::Durability::Always).await?);
            }
            Target::Direct | Target::Unary | Target::Client | Target::Raw | Target::EmptyCall => {}
        }
        Ok(())
    }

    /// Sees that statements pass: some servers do not go together.
    async fn try_out(&self, target: Target) -> Result<(), Error> {
        let mut connection = mysql_async::Conn::new(self.sql_options(target)?).await?;
        let query = "SELECT COUNT(*) FROM direct";
        mysql_async::prelude::Queryable::query_drop(&mut connection, query).await?;
        connection.disconnect().await?;
        Ok(())
    }

    /// Where a target speaks SQL to.
    pub(crate) fn sql_options(&self, target: Target) -> Result<Opts, Error> {
        let server = match (target, &self.spider) {
            (Target::Spider, Some(spider)) => spider,
            _ => &self.database,
        };
        let url = server.dsn(&Login::admin());
        let options = Opts::from_url(&url).map_err(mysql_async::Error::from)?;
        let mut options = OptsBuilder::from_opts(options)
            // Over TCP, as from another machine and as Freehold itself: the driver would look for a
            // local socket.
            .prefer_socket(false);
        if let (Target::MysqlRouter, Some(router)) = (target, &self.mysql_router) {
            options = options.tcp_port(router.port());
        }
        Ok(options.into())
    }

    /// Where a target speaks Redis' protocol to.
    pub(crate) fn redis_port(&self, target: Target) -> Option<u16> {
        let redis = match target {
            Target::RedisAlways => &self.redis_always,
            _ => &self.redis,
        };
        redis.as_ref().map(Redis::port)
    }

    /// Where the router is.
    pub(crate) fn router_address(&self) -> String {
        self.router.address().to_string()
    }

    /// Whom to ask what the database has done.
    pub(crate) async fn database_session(&self) -> Result<Sql, Error> {
        Ok(self.database.connect().await?)
    }

    /// What the database says it is.
    pub(crate) async fn database_version(&self) -> Result<String, Error> {
        let mut session = self.database.connect().await?;
        let version: String = session
            .one("SELECT CONCAT(@@version_comment, ' ', VERSION())")
            .await?;
        session.close().await?;
        Ok(version)
    }

    pub(crate) fn processes(&mut self, target: Target) -> Result<Processes, Error> {
        let redis = match target {
            Target::Redis | Target::RedisPipelined => &self.redis,
            Target::RedisAlways => &self.redis_always,
            _ => &None,
        };
        let database = match redis {
            Some(redis) => redis.pid(),
            None => self.database.pid()?,
        };
        let between = match target {
            Target::MysqlRouter => self.mysql_router.as_ref().map(MysqlRouter::pid),
            Target::Spider => self.spider.as_mut().map(Server::pid).transpose()?,
            Target::Unary | Target::Client | Target::EmptyCall => Some(self.router.pid()?),
            Target::Direct
            | Target::Raw
            | Target::Redis
            | Target::RedisPipelined
            | Target::RedisAlways => None,
        };
        Ok(Processes { database, between })
    }

    pub(crate) fn inserted(&self, target: Target, data: DataSet) -> &Arc<Inserted> {
        &self.inserted[&(target.store(), data)]
    }
}

/// The same for every target: a log that does not wrap during a round, and rows in memory.
fn database_options(plan: &Plan) -> ServerOptions {
    let log = match plan.engine {
        freehold_tests::Engine::MariaDb => "--innodb-log-file-size=1G",
        freehold_tests::Engine::MySql => "--innodb-redo-log-capacity=1G",
    };
    ServerOptions::new(plan.engine)
        .synced()
        .argument("--max-connections=4000")
        .argument("--max-prepared-stmt-count=200000")
        .argument(log)
        .argument(&format!(
            "--innodb-buffer-pool-size={}M",
            plan.buffer_pool_mib
        ))
}
