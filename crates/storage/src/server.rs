//! One database server, and the connections that can be opened to it.

use std::time::Duration;

use crate::{
    data::DataConnection,
    dsn::{Dsn, Target},
    error::StorageError,
    mysql::MysqlServer,
    schema::SchemaConnection,
    sqlite::SqliteServer,
    sweep::SweepConnection,
};

/// How connections are opened.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// For name, TCP, TLS and authentication together.
    pub connect_timeout: Duration,
    /// Random, for what the storage draws itself (stamps).
    pub seed: u64,
}

/// A server of a shard: a master or a replica.
#[derive(Debug, Clone)]
pub enum Server {
    /// MySQL or MariaDB; which of them shows when a connection is opened.
    Mysql(MysqlServer),
    /// A SQLite file of this process.
    Sqlite(SqliteServer),
}

impl Server {
    /// Prepares a server without connecting to it.
    #[must_use]
    pub fn new(dsn: &Dsn, options: ConnectOptions) -> Self {
        match dsn.target() {
            Target::Mysql(target) => Self::Mysql(MysqlServer::new(target, options)),
            Target::Sqlite(path) => Self::Sqlite(SqliteServer::new(path.clone(), options)),
        }
    }

    /// Host and port, or the file: never a user or a password.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::Mysql(server) => server.address(),
            Self::Sqlite(server) => server.address(),
        }
    }

    /// Opens a connection for requests.
    ///
    /// # Errors
    /// [`StorageError::Unreachable`], or [`StorageError::Refused`] if the server turns it down.
    pub async fn connect(&self) -> Result<Box<dyn DataConnection>, StorageError> {
        Ok(match self {
            Self::Mysql(server) => Box::new(server.connect_data().await?),
            Self::Sqlite(server) => Box::new(server.connect().await?),
        })
    }

    /// Opens a connection for sweeping.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_sweep(&self) -> Result<Box<dyn SweepConnection>, StorageError> {
        Ok(match self {
            Self::Mysql(server) => Box::new(server.connect_sweep().await?),
            Self::Sqlite(server) => Box::new(server.connect().await?),
        })
    }

    /// Opens a connection for `init`, `migrate` and `doctor`.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_schema(&self) -> Result<Box<dyn SchemaConnection>, StorageError> {
        Ok(match self {
            Self::Mysql(server) => Box::new(server.connect_schema().await?),
            Self::Sqlite(server) => Box::new(server.connect().await?),
        })
    }
}
