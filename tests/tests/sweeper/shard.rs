//! A shard on real servers, its sweepers and its rows.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use freehold_core::{Fence, Key, ShardIdentity};
use freehold_storage::{
    ConnectOptions, DataConnection, Dsn, Outcome, PutRow, Server as Store, sweep::Holder,
};
use freehold_sweeper::{Sweeper, SweeperHandle, SweeperMetrics, SweeperSettings, SweeperState};
use freehold_tests::{Engine, Login, Server, replication};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Generous: what is late here is wrong, not slow.
const WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct Shard {
    pub(crate) master: Server,
    pub(crate) replicas: Vec<Server>,
    /// As whom sweepers connect.
    pub(crate) login: Login,
}

impl Shard {
    /// A master that owns all slots.
    pub(crate) async fn new(engine: Engine) -> Result<Self> {
        let shard = Self {
            master: Server::of(engine).await?,
            replicas: Vec::new(),
            login: Login::admin(),
        };
        let mut schema = shard.store().connect_schema().await?;
        let identity = ShardIdentity {
            name: "a".to_owned(),
            cluster_id: 1,
            schema_version: 0,
        };
        schema.create(&identity).await?;
        schema.take_slots(0..=u16::MAX).await?;
        Ok(shard)
    }

    pub(crate) async fn with_replica(engine: Engine) -> Result<Self> {
        let mut shard = Self::new(engine).await?;
        let replica = replication::start_replica(&shard.master).await?;
        replication::wait_until_caught_up(&shard.master, &replica).await?;
        shard.replicas.push(replica);
        Ok(shard)
    }

    pub(crate) fn store(&self) -> Store {
        store(&self.master, &Login::admin())
    }

    /// Starts a sweeper as a router of its own would.
    pub(crate) fn sweeper(&self, id: u64, settings: SweeperSettings) -> Running {
        let sweeper = Sweeper {
            shard: "a".to_owned(),
            servers: std::iter::once(&self.master)
                .chain(&self.replicas)
                .map(|server| store(server, &self.login))
                .collect(),
            leader: Arc::new(|| 0),
            settings,
            holder: Holder {
                id,
                name: format!("router-{id}"),
            },
        };
        let shutdown = CancellationToken::new();
        let handle = sweeper.spawn(&SweeperMetrics::default(), id, shutdown.clone());
        Running { handle, shutdown }
    }

    pub(crate) async fn connect(&self) -> Result<(Box<dyn DataConnection>, Fence)> {
        let mut connection = self.store().connect().await?;
        let fence = connection.claims(u64::MAX).await?.fence;
        Ok((connection, fence))
    }

    /// Stores rows that expire after a millisecond.
    pub(crate) async fn put_expired(&self, prefix: &str, count: usize) -> Result {
        let (mut connection, fence) = self.connect().await?;
        for keys in keys(prefix, count).chunks(128) {
            let outcomes = connection.put(&fence, &rows(keys, 1, Some(1))).await;
            assert!(
                outcomes
                    .iter()
                    .all(|outcome| *outcome == Outcome::Applied(()))
            );
        }
        sleep(Duration::from_millis(2)).await;
        Ok(())
    }

    /// Waits until the sweeper that has the lease has made one more decision: a tick renews the
    /// lease first, if that is due, and has decided before the next tick renews it again.
    pub(crate) async fn one_more_decision(&self) -> Result {
        let mut master = self.master.connect().await?;
        let lease = "SELECT lease_until FROM leases WHERE task = 'sweep'";
        let mut before: i64 = master.one(lease).await?;
        let deadline = Instant::now() + WITHIN;
        for _ in 0..2 {
            loop {
                let now = master.one(lease).await?;
                if now != before {
                    before = now;
                    break;
                }
                assert!(Instant::now() < deadline, "nobody renews the lease");
                sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    /// All rows of the table, live or not, by plain SQL.
    pub(crate) async fn row_count(&self) -> Result<u64> {
        Ok(self
            .master
            .connect()
            .await?
            .one("SELECT COUNT(*) FROM store")
            .await?)
    }
}

fn store(server: &Server, login: &Login) -> Store {
    let dsn = Dsn::parse(&server.dsn(login)).expect("the fixtures' DSN");
    let options = ConnectOptions {
        connect_timeout: Duration::from_secs(5),
        seed: 1,
    };
    Store::new(&dsn, options)
}

/// A sweeper with its switch.
pub(crate) struct Running {
    pub(crate) handle: SweeperHandle,
    shutdown: CancellationToken,
}

impl Running {
    pub(crate) fn state(&self) -> SweeperState {
        self.handle.state()
    }

    pub(crate) fn waits_for(&self) -> Option<&'static str> {
        self.state().waiting_for.map(|waiting| waiting.as_str())
    }

    pub(crate) async fn stop(&self) {
        self.shutdown.cancel();
        self.handle.stopped().await;
    }

    /// Waits until the state is as wanted, and shows it if it never is.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&SweeperState) -> bool) {
        let deadline = Instant::now() + WITHIN;
        while !wanted(&self.state()) {
            assert!(
                Instant::now() < deadline,
                "not in time: {what}: {:?}",
                self.state()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Else it would go on at whatever server gets that port next.
impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Looks and renews its lease often.
pub(crate) fn watchful() -> SweeperSettings {
    SweeperSettings {
        renew_interval: Duration::from_millis(100),
        look_interval: Duration::from_millis(1),
        ..SweeperSettings::default()
    }
}

/// No pauses, and no rest when nothing is due.
pub(crate) fn full_speed() -> SweeperSettings {
    SweeperSettings {
        pause_factor: 0.0,
        pause_min: Duration::ZERO,
        idle_interval: Duration::from_millis(1),
        ..SweeperSettings::default()
    }
}

pub(crate) fn keys(prefix: &str, count: usize) -> Vec<Key> {
    let key = |number| Key::new(format!("{prefix}-{number}")).ok();
    let mut keys: Vec<Key> = (0..count).filter_map(key).collect();
    keys.sort_unstable();
    keys
}

pub(crate) fn rows(keys: &[Key], version: u64, ttl_ms: Option<u64>) -> Vec<PutRow> {
    let value = Bytes::from_static(b"a value of some length");
    let row = |key: &Key| PutRow {
        key: key.clone(),
        value: value.clone(),
        version,
        ttl_ms,
    };
    keys.iter().map(row).collect()
}
