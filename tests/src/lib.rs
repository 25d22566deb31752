//! Fixtures: real servers, real replication, the real router, and ways to break them.
//!
//! Everything is started on ports of 127.0.0.1 that no other test takes, in folders that go away,
//! and nothing outlives the test, not even one that is killed. Where a program is missing the
//! fixture fails and says how to get it. Functions return [`Result`], whose `Debug` is fit to
//! read, so that a test can be `async fn name() -> Result<()>` and use `?`.
//!
//! # A database server
//!
//! ```no_run
//! # async fn example() -> freehold_tests::Result<()> {
//! use freehold_tests::{Engine, Login, Server, ServerOptions};
//!
//! let mut server = Server::of(Engine::MariaDb).await?;       // about 0.3 s; MySQL 0.9 s
//! let careful = Server::start(ServerOptions::new(Engine::MySql).synced().sql_mode("ANSI")).await?;
//!
//! let mut sql = server.connect().await?;                      // all rights, database `freehold`
//! sql.run("CREATE TABLE t (v INT); INSERT INTO t VALUES (1)").await?;
//! let rows: Vec<u32> = sql.rows("SELECT v FROM t").await?;
//! let count: u64 = sql.one("SELECT COUNT(*) FROM t").await?;
//!
//! server.freeze()?;                                           // SIGSTOP
//! server.thaw()?;                                             // SIGCONT
//! server.kill();                                              // kill -9
//! server.start_again().await?;                                // same port, same data
//! server.stop().await?;                                       // SIGTERM, and waits
//!
//! let dsn = careful.dsn(&Login::admin());                     // for Freehold's config
//! let mut tls = Login::admin();
//! tls.ca = Some(careful.ca_file().to_owned());                // TLS, certificate checked
//! careful.connect_as(&tls).await?;
//! # Ok(()) }
//! ```
//!
//! Servers start with `deploy/<engine>/my.cnf`, so they are what operators are told to run. By
//! default ([`Durability::Relaxed`]) a commit is not synced to disk: it survives `kill -9` of the
//! server, but not a power cut. [`ServerOptions`] has the time zone, `sql_mode`, read-only and
//! free command-line options. For several servers at once, `tokio::try_join!`.
//!
//! With [`ServerOptions::disk_mib_max`] a server has a [`Disk`] of its own, which can be filled, with
//! [`ServerOptions::own_clock`] a clock that [`Server::set_clock`] sets; [`Slowness`] makes the disk
//! under it slow. Not every machine allows all of that: [`Disk::is_available`] and its like tell.
//!
//! # A replica
//!
//! ```no_run
//! # async fn example() -> freehold_tests::Result<()> {
//! use freehold_tests::{Engine, Server, replication};
//!
//! let master = Server::of(Engine::MySql).await?;
//! let replica = replication::start_replica(&master).await?;   // read-only, with deploy/'s SQL
//! replication::wait_until_caught_up(&master, &replica).await?;
//! replication::stop_applier(&replica).await?;                 // it shows the past from here on
//! replication::start_applier(&replica).await?;
//! replication::set_delay(&replica, 5).await?;                 // seconds
//! # Ok(()) }
//! ```
//!
//! # A network that fails
//!
//! ```no_run
//! # async fn example() -> freehold_tests::Result<()> {
//! use freehold_tests::{Engine, Login, Proxy, Server};
//!
//! let (server, other) = tokio::try_join!(Server::of(Engine::MySql), Server::of(Engine::MySql))?;
//! let proxy = Proxy::to(&server).await?;
//! let dsn = proxy.dsn(&server, &Login::admin());
//! proxy.hold();                               // keeps what open connections send
//! proxy.release();                            // and now it arrives
//! proxy.lead_to(&other);                      // open connections break, new ones lead there
//! # Ok(()) }
//! ```
//!
//! # The router
//!
//! ```no_run
//! # async fn example() -> freehold_tests::Result<()> {
//! use freehold_tests::{Engine, Router, Server, Shard};
//! use std::time::Duration;
//!
//! let (a, b) = tokio::try_join!(Server::of(Engine::MariaDb), Server::of(Engine::MariaDb))?;
//! let shards = [Shard::new("a", &a, &[]), Shard::new("b", &b, &[])];
//! let mut router = Router::init_and_serve(&shards, "").await?; // "" = more TOML
//!
//! let address = router.address();                             // gRPC
//! let said = router.cli(&["put", "k", "v"]).await?.success()?;
//! let shards = router.admin_cli(&["shards", "--json"]).await?;
//! let findings = router.with_config(&["doctor", "--json"]).await?;
//! let (status, metrics) = router.http_get("/metrics").await?;
//!
//! router.kill();
//! router.serve().await?;                                      // again, until every shard is up
//! assert!(router.stop(Duration::from_secs(30)).await?.success());
//! println!("{}", router.log());
//!
//! let embedded = Router::embedded().await?;                   // no config, SQLite
//! # Ok(()) }
//! ```
//!
//! # Clients in other languages
//!
//! [`clients::python`] and [`clients::node`] are commands with the packages that `tests/run install`
//! put into the cache.
//!
//! # What nextest makes of names
//!
//! At most two tests of this package run at once.
//!
//! # By hand
//!
//! `cargo run -p freehold-tests --bin servers -- mysql 2 1` starts two masters with a replica each
//! and prints the shards of a config for them.
//!
//! # Where things come from
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `FREEHOLD_TEST_CACHE` | what is dear to make: MySQL's files, initialised data folders | `$XDG_CACHE_HOME/freehold`, `~/.cache/freehold` |
//! | `FREEHOLD_TEST_MARIADBD` | the `mariadbd` program | from `PATH` |
//! | `FREEHOLD_TEST_MYSQLD_ROOT` | a folder with `usr/sbin/mysqld`; `/` for an installed MySQL | `mysql` in the cache |
//! | `FREEHOLD_TEST_BIN` | the `freehold` program | beside the test |
//! | `FREEHOLD_TEST_CONTAINERS` | run MySQL servers as containers of `deploy/compose.yaml` | as processes |
//! | `FREEHOLD_TEST_KEEP` | keep the folders of servers and routers | remove them |
//! | `FREEHOLD_TEST_SEED` | what random choices of a test begin with; each prints its own | drawn |

mod certificates;
pub mod cli;
pub mod clients;
pub mod clock;
mod container;
pub mod deploy;
mod disk;
mod doctest;
mod engine;
mod error;
pub mod failover;
pub mod group;
mod options;
mod port;
mod process;
mod proxy;
pub mod replication;
mod router;
mod server;
mod sql;
mod template;
mod waiting;

pub use certificates::Certificates;
pub use cli::Answer;
pub use disk::{Disk, Slowness};
pub use doctest::doctest;
pub use engine::{Engine, Program};
pub use error::{Error, Result};
pub use mysql_async;
pub use options::{Durability, ServerOptions};
pub use port::Port;
pub use process::{Process, Signal};
pub use proxy::Proxy;
pub use router::{Router, Shard, shards_toml};
pub use server::Server;
pub use sql::{Login, Session, Sql};
pub use waiting::until;
