//! One database server, and the connections that can be opened to it.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    audit::AuditConnection,
    data::DataConnection,
    dsn::{Dsn, Target},
    error::{Refusal, StorageError},
    moves::MoveConnection,
    mysql::MysqlServer,
    other::{LeadsAlone, OtherServer, serves_requests_alone},
    promotion::PromotionConnection,
    schema::SchemaConnection,
    sqlite::SqliteServer,
    sweep::SweepConnection,
    watch::WatchConnection,
};

/// How connections are opened.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// For name, TCP, TLS and authentication together.
    pub connect_timeout: Duration,
    /// Random, for what the storage draws itself (stamps).
    pub seed: u64,
}

/// The name under which one connection of a lane writes, and its successors.
///
/// It is what keeps writes in order when a lane gives the connection up: see
/// [`Server::connect_writer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterName(Arc<str>);

impl WriterName {
    /// A name made of a random number, one per connection of a lane and process.
    #[must_use]
    pub fn new(random: u64) -> Self {
        Self(format!("freehold-lane-{random:016x}").into())
    }
}

impl fmt::Display for WriterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A server of a shard: a master or a replica.
#[derive(Debug, Clone)]
pub enum Server {
    /// MySQL or MariaDB; which of them shows when a connection is opened.
    Mysql(MysqlServer),
    /// A SQLite file of this process.
    Sqlite(SqliteServer),
    /// Whatever else answers.
    Other(Arc<dyn OtherServer>),
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
            Self::Other(server) => server.address(),
        }
    }

    /// Where it leads, whatever the account: two servers of a config never have the same. Never a
    /// user or a password.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Mysql(server) => server.place(),
            Self::Sqlite(_) | Self::Other(_) => self.address().to_owned(),
        }
    }

    /// Whether connections to both are opened in the same way: same place, account and options.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mysql(one), Self::Mysql(other)) => one.is_same_as(other),
            _ => self.place() == other.place(),
        }
    }

    /// Opens a connection for requests that read, or whose order across connections does not
    /// matter.
    ///
    /// # Errors
    /// [`StorageError::Unreachable`], or [`StorageError::Refused`] if the server turns it down.
    pub async fn connect(&self) -> Result<Box<dyn DataConnection>, StorageError> {
        Ok(match self {
            Self::Mysql(server) => Box::new(server.connect_data().await?),
            Self::Sqlite(server) => Box::new(server.connect().await?),
            Self::Other(server) => server.connect().await?,
        })
    }

    /// Opens a connection for requests that write in order: nothing that an earlier connection of
    /// this name was asked to write is applied after this returned, whether its answer was waited
    /// for or not. What is still under way there is ended by force, or waited for.
    ///
    /// One connection of a name at a time: the earlier one must have been given up.
    ///
    /// A call of it that met a lock sends nothing more when the answer might come later than
    /// `answer_within`: what is left is then given up as not applied.
    ///
    /// # Errors
    /// As [`Self::connect`]; [`StorageError::Unreachable`] too if the earlier connection did not
    /// come to its end in time.
    pub async fn connect_writer(
        &self,
        name: &WriterName,
        answer_within: Duration,
    ) -> Result<Box<dyn DataConnection>, StorageError> {
        Ok(match self {
            Self::Mysql(server) => Box::new(server.connect_writer(name, answer_within).await?),
            // Calls of all connections to one file take turns to write, and a call keeps its turn
            // until its transaction has ended, whether anybody waits for it or not.
            Self::Sqlite(server) => Box::new(server.connect().await?),
            Self::Other(server) => server.connect().await?,
        })
    }

    /// Opens a connection for looking at the server.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_promotion(&self) -> Result<Box<dyn PromotionConnection>, StorageError> {
        Ok(match self {
            Self::Mysql(server) => Box::new(server.connect_promotion().await?),
            Self::Sqlite(server) => Box::new(server.connect().await?),
            Self::Other(server) => Box::new(LeadsAlone(server.connect().await?)),
        })
    }

    /// Whether it may ever lead its shard: false for one whose DSN says `promote=never`.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        match self {
            Self::Mysql(server) => server.may_lead(),
            Self::Sqlite(_) | Self::Other(_) => true,
        }
    }

    /// Opens a connection for sweeping.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_sweep(&self) -> Result<Box<dyn SweepConnection>, StorageError> {
        Ok(match self {
            Self::Mysql(server) => Box::new(server.connect_sweep().await?),
            Self::Sqlite(server) => Box::new(server.connect().await?),
            Self::Other(server) => return Err(serves_requests_alone(server.address())),
        })
    }

    /// Opens a connection for audits.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_audit(&self) -> Result<Box<dyn AuditConnection>, StorageError> {
        Ok(match self {
            Self::Mysql(server) => Box::new(server.connect_audit().await?),
            Self::Sqlite(server) => Box::new(server.connect().await?),
            Self::Other(server) => return Err(serves_requests_alone(server.address())),
        })
    }

    /// Opens a connection for moving slots.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_moves(&self) -> Result<Box<dyn MoveConnection>, StorageError> {
        Ok(match self {
            Self::Mysql(server) => Box::new(server.connect_moves().await?),
            Self::Sqlite(server) => Box::new(server.connect().await?),
            Self::Other(server) => return Err(serves_requests_alone(server.address())),
        })
    }

    /// Opens a connection for watching.
    ///
    /// # Errors
    /// As [`Self::connect`]; [`StorageError::Refused`] for a file, which nothing replicates.
    pub async fn connect_watch(&self) -> Result<Box<dyn WatchConnection>, StorageError> {
        match self {
            Self::Mysql(server) => Ok(Box::new(server.connect_watch().await?)),
            Self::Sqlite(_) | Self::Other(_) => Err(StorageError::Refused {
                refusal: Refusal::Other,
                code: 0,
                message: "an embedded shard has no replicas".into(),
            }),
        }
    }

    /// Opens a connection for `init`, `migrate` and `doctor`.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_schema(&self) -> Result<Box<dyn SchemaConnection>, StorageError> {
        Ok(match self {
            Self::Mysql(server) => Box::new(server.connect_schema().await?),
            Self::Sqlite(server) => Box::new(server.connect().await?),
            Self::Other(server) => return Err(serves_requests_alone(server.address())),
        })
    }
}
