//! A store of one engine: one shard with all slots, or nothing yet.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use freehold_core::ShardIdentity;
use freehold_storage::{
    ConnectOptions, DataConnection, Dsn, MoveConnection, SchemaConnection, Server, SweepConnection,
    schema::SchemaState,
};
use freehold_tests::{Engine, Login, ServerOptions};
use tempfile::TempDir;

use crate::{audit::Audit, lane::Lane};

/// What tests return: whatever went wrong, in words.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// For everything that a test waits for; far above what any of it takes.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// Dealing 65,536 slots out takes longer than most tests; one server may serve several of them.
const AS_INIT_LEFT_IT: &str = "DELETE FROM store; DELETE FROM moved_keys; DELETE FROM moves; \
    UPDATE slots SET state = 'owned', slot_epoch = 1, peer = NULL, since_epoch = 1 \
        WHERE state <> 'owned' OR since_epoch <> 1; \
    UPDATE shard SET term = 1, epoch = 1; \
    UPDATE leases SET holder = NULL, holder_name = NULL, lease_until = 0, paused = 0";

/// An empty place for a shard. It ends with this value.
pub(crate) struct Store {
    home: Home,
    server: Server,
}

enum Home {
    File(TempDir),
    Server(Box<freehold_tests::Server>),
}

impl Store {
    /// A file that is not there yet.
    pub(crate) fn file() -> Result<Self> {
        let folder = TempDir::new()?;
        let server = server(&Dsn::sqlite(folder.path().join("shard")));
        Ok(Self {
            home: Home::File(folder),
            server,
        })
    }

    /// A server with the settings of `deploy/`.
    pub(crate) async fn server(engine: Engine) -> Result<Self> {
        Self::with_options(ServerOptions::new(engine)).await
    }

    /// A server with settings of its own.
    pub(crate) async fn with_options(options: ServerOptions) -> Result<Self> {
        let home = freehold_tests::Server::start(options).await?;
        let server = server(&Dsn::parse(&home.dsn(&Login::admin()))?);
        Ok(Self {
            home: Home::Server(Box::new(home)),
            server,
        })
    }

    /// The engine, if it is a server.
    pub(crate) fn engine(&self) -> Option<Engine> {
        match &self.home {
            Home::File(_) => None,
            Home::Server(home) => Some(home.engine()),
        }
    }

    /// A shard as `init` leaves it, with all slots and no row, and a lane to it.
    pub(crate) async fn ready(&self) -> Result<Lane> {
        let mut schema = self.schema().await?;
        match schema.state().await? {
            SchemaState::Ready { .. } => self.audit().await?.run(AS_INIT_LEFT_IT).await?,
            _ => {
                schema.create(&identity()).await?;
                schema.take_slots(0..=u16::MAX).await?;
            }
        }
        self.lane().await
    }

    /// Another connection for requests, that believes what the fence shows now.
    pub(crate) async fn lane(&self) -> Result<Lane> {
        Lane::open(self.server.connect().await?).await
    }

    /// A connection for requests, as the storage crate gives it.
    pub(crate) async fn data(&self) -> Result<Box<dyn DataConnection>> {
        Ok(self.server.connect().await?)
    }

    /// A connection for sweeping.
    pub(crate) async fn sweep(&self) -> Result<Box<dyn SweepConnection>> {
        Ok(self.server.connect_sweep().await?)
    }

    /// A connection for moving slots.
    pub(crate) async fn moves(&self) -> Result<Box<dyn MoveConnection>> {
        Ok(self.server.connect_moves().await?)
    }

    /// A connection for `init` and `migrate`.
    pub(crate) async fn schema(&self) -> Result<Box<dyn SchemaConnection>> {
        Ok(self.server.connect_schema().await?)
    }

    /// Throws everything away; the database is made again with these `CREATE DATABASE` options.
    pub(crate) async fn empty(&self, options: &str) -> Result<()> {
        let mut audit = self.audit().await?;
        let name = audit.rows("SELECT DATABASE()").await?.concat().concat();
        let again = format!("DROP DATABASE {name}; CREATE DATABASE {name} {options}");
        audit.run(&again).await
    }

    /// Plain SQL.
    pub(crate) async fn audit(&self) -> Result<Audit> {
        match &self.home {
            Home::File(folder) => Audit::of_file(&folder.path().join("shard")),
            Home::Server(home) => Audit::of_server(home.connect().await?).await,
        }
    }
}

/// Whose tables the tests create.
pub(crate) fn identity() -> ShardIdentity {
    ShardIdentity {
        name: "a".to_owned(),
        cluster_id: u64::MAX - 1,
        schema_version: 0,
    }
}

/// Each one draws other stamps, as two processes would.
fn server(dsn: &Dsn) -> Server {
    static SEED: AtomicU64 = AtomicU64::new(1);
    let seed = u64::from(std::process::id()) << 32 | SEED.fetch_add(1, Ordering::Relaxed);
    Server::new(
        dsn,
        ConnectOptions {
            connect_timeout: WITHIN,
            seed,
        },
    )
}
