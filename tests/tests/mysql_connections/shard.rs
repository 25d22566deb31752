//! A server with a shard on it, and requests in few words.

use std::time::Duration;

use freehold_core::{Fence, Key, ShardIdentity};
use freehold_storage::{
    Columns, ConnectOptions, DataConnection, Dsn, ExpireRow, Outcome, PutRow, Refusal,
    SchemaConnection, Server, StorageError, SweepConnection, Value,
};
use freehold_tests::{Engine, Login, ServerOptions, Sql};
use tokio::time::sleep;

pub(crate) use freehold_tests::until;

/// What tests return: whatever went wrong, in words.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// For everything that a test waits for; far above what any of it takes.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// A value that is fetched whole, whatever its size.
pub(crate) const WHOLE: Columns = Columns::Value {
    bytes_max: usize::MAX,
};

/// A server of the storage crate for a DSN.
pub(crate) fn server(dsn: &str) -> Result<Server> {
    let options = ConnectOptions {
        connect_timeout: WITHIN,
        seed: std::process::id().into(),
    };
    Ok(Server::new(&Dsn::parse(dsn)?, options))
}

/// A server with one shard that has all slots.
pub(crate) struct Shard {
    pub(crate) home: freehold_tests::Server,
    pub(crate) server: Server,
    pub(crate) fence: Fence,
}

impl Shard {
    pub(crate) async fn of(engine: Engine) -> Result<Self> {
        Self::with_options(ServerOptions::new(engine)).await
    }

    pub(crate) async fn with_options(options: ServerOptions) -> Result<Self> {
        let home = freehold_tests::Server::start(options).await?;
        let server = server(&home.dsn(&Login::admin()))?;
        let mut schema = server.connect_schema().await?;
        let identity = ShardIdentity {
            name: "a".to_owned(),
            cluster_id: 7,
            schema_version: 0,
        };
        schema.create(&identity).await?;
        schema.take_slots(0..=u16::MAX).await?;
        let fence = server.connect().await?.claims(u64::MAX).await?.fence;
        Ok(Self {
            home,
            server,
            fence,
        })
    }

    pub(crate) async fn data(&self) -> Result<Box<dyn DataConnection>> {
        Ok(self.server.connect().await?)
    }

    /// The same place with another account.
    pub(crate) fn as_account(&self, user: &str, password: &str) -> Result<Server> {
        server(&self.home.dsn(&Login::new(user, password)))
    }

    /// An account with these rights on the shard's tables.
    pub(crate) async fn account(&self, user: &str, rights: &str) -> Result<Server> {
        let mut sql = self.home.connect().await?;
        sql.run(&format!(
            "CREATE USER {user}@'%' IDENTIFIED BY 'secret'; GRANT {rights} ON freehold.* TO {user}@'%'"
        ))
        .await?;
        self.as_account(user, "secret")
    }

    pub(crate) async fn sweep(&self) -> Result<Box<dyn SweepConnection>> {
        Ok(self.server.connect_sweep().await?)
    }

    pub(crate) async fn schema(&self) -> Result<Box<dyn SchemaConnection>> {
        Ok(self.server.connect_schema().await?)
    }

    /// The stored value, by plain SQL.
    pub(crate) async fn stored(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        let mut sql = self.home.connect().await?;
        let hex: String = key
            .bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let slot = key.slot();
        let query = format!("SELECT value FROM store WHERE slot = {slot} AND `key` = x'{hex}'");
        Ok(sql.first(&query).await?)
    }
}

/// Until a statement waits for a row that another transaction holds.
pub(crate) async fn until_waiting(admin: &mut Sql) -> Result<()> {
    let waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx \
                   WHERE trx_state = 'LOCK WAIT'";
    until("a write to wait", async || {
        // Who asks more often than every 100 ms is shown the same again.
        sleep(Duration::from_millis(120)).await;
        Ok(admin.one::<u64>(waiting).await? > 0)
    })
    .await
}

/// Keys of one slot, in order.
pub(crate) fn keys(count: usize) -> Vec<Key> {
    let key = |index| Key::new(format!("{{t}}{index:04}")).expect("a short key");
    (0..count).map(key).collect()
}

pub(crate) fn row(key: &Key, value: impl Into<bytes::Bytes>) -> PutRow {
    PutRow {
        key: key.clone(),
        value: value.into(),
        version: 1,
        ttl_ms: None,
    }
}

pub(crate) fn expire(key: &Key, ttl_ms: Option<u64>) -> ExpireRow {
    ExpireRow {
        key: key.clone(),
        ttl_ms,
    }
}

pub(crate) async fn value(
    data: &mut Box<dyn DataConnection>,
    key: &Key,
) -> Result<Option<Vec<u8>>> {
    let read = data.read(std::slice::from_ref(key), WHOLE).await?;
    let row = read.rows.into_iter().next().flatten();
    Ok(row.map(|row| match row.value {
        Value::Bytes(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }))
}

pub(crate) fn is_refused<T>(outcome: &Outcome<T>, expected: Refusal) -> bool {
    matches!(outcome, Outcome::Failed(StorageError::Refused { refusal, .. }) if *refusal == expected)
}

pub(crate) fn is_lost<T>(outcome: &Outcome<T>) -> bool {
    matches!(outcome, Outcome::Failed(StorageError::Lost { .. }))
}

pub(crate) fn is_unreachable<T>(outcome: &Outcome<T>) -> bool {
    matches!(outcome, Outcome::Failed(StorageError::Unreachable { .. }))
}
