//! MySQL and MariaDB: one text for both.
//!
//! A [`MysqlServer`] names a server; `connect` opens a `session` to it (with `tls` if asked for),
//! which a [`MysqlConnection`] holds; one that writes in order first ends its predecessor
//! (`writer`). In the order of a request: `data` takes the session and hands it to `write` (`put` and
//! `change` are its kinds, `logged` is how both go to a slot on its way), `read` (`numbered` is how
//! many keys go), `scan` or `claims`, whose texts are made of the pieces in `statements`; `decode`
//! reads the answers, and `error` says what failures mean. Beside the requests stand `watch`, `sweep`,
//! `schema`, `facts`, `promotion` and `moves`.
//!
//! A connection keeps its statements prepared: GET, or PUT with and without expiry, for each of
//! twelve sizes, and GET for any number of keys. The rest goes as text.

mod adoption;
mod audit;
mod change;
mod claims;
mod closed;
mod connect;
mod data;
mod decode;
mod error;
mod facts;
mod logged;
mod moves;
mod numbered;
mod promotion;
mod put;
mod read;
mod scan;
mod schema;
mod session;
mod statements;
mod sweep;
mod tls;
mod watch;
mod write;
mod writer;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use self::session::Session;
use crate::{
    dsn::MysqlTarget,
    error::StorageError,
    server::{ConnectOptions, WriterName},
};

/// A MySQL or MariaDB server, and the account to use there.
#[derive(Debug, Clone)]
pub struct MysqlServer {
    target: MysqlTarget,
    options: ConnectOptions,
    address: Arc<str>,
    /// One source for all connections: two of one seed would draw the same stamps.
    seeds: Arc<Mutex<StdRng>>,
}

impl MysqlServer {
    /// Prepares a server without connecting to it.
    #[must_use]
    pub fn new(target: &MysqlTarget, options: ConnectOptions) -> Self {
        Self {
            target: target.clone(),
            address: address(target).into(),
            seeds: Arc::new(Mutex::new(StdRng::seed_from_u64(options.seed))),
            options,
        }
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Host, port and database; names of hosts have no case.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}/{}", self.address.to_lowercase(), self.target.database)
    }

    /// Whether both have the same DSN.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.target == other.target
    }

    /// Opens a connection for requests.
    ///
    /// # Errors
    /// [`StorageError::Unreachable`], or [`StorageError::Refused`] if the server turns it down.
    pub async fn connect_data(&self) -> Result<MysqlConnection, StorageError> {
        self.connect().await
    }

    /// Opens a connection for requests that write, after all earlier ones of this name have ended.
    /// A call of it sends nothing more when the answer might come later than `answer_within`.
    ///
    /// # Errors
    /// As [`Self::connect_data`]; [`StorageError::Unreachable`] too if an earlier one did not end.
    pub async fn connect_writer(
        &self,
        name: &WriterName,
        answer_within: Duration,
    ) -> Result<MysqlConnection, StorageError> {
        let mut connection = self.connect().await?;
        let mut session = connection.take()?;
        session.sending_max = write::sending_max(answer_within);
        writer::take_over(&mut session, name).await?;
        connection.put_back(session, None);
        Ok(connection)
    }

    /// Opens a connection for sweeping.
    ///
    /// # Errors
    /// As [`Self::connect_data`].
    pub async fn connect_sweep(&self) -> Result<MysqlConnection, StorageError> {
        self.connect().await
    }

    /// Opens a connection for audits.
    ///
    /// # Errors
    /// As [`Self::connect_data`].
    pub async fn connect_audit(&self) -> Result<MysqlConnection, StorageError> {
        self.connect().await
    }

    /// Opens a connection for looking at the server.
    ///
    /// # Errors
    /// As [`Self::connect_data`].
    pub async fn connect_promotion(&self) -> Result<MysqlConnection, StorageError> {
        self.connect().await
    }

    /// Opens a connection for moving slots.
    ///
    /// # Errors
    /// As [`Self::connect_data`].
    pub async fn connect_moves(&self) -> Result<MysqlConnection, StorageError> {
        self.connect().await
    }

    /// Whether it may ever lead its shard.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        self.target.may_lead
    }

    /// Opens a connection for watching.
    ///
    /// # Errors
    /// As [`Self::connect_data`].
    pub async fn connect_watch(&self) -> Result<MysqlConnection, StorageError> {
        self.connect().await
    }

    /// Opens a connection for `init`, `migrate` and `doctor`.
    ///
    /// # Errors
    /// As [`Self::connect_data`].
    pub async fn connect_schema(&self) -> Result<MysqlConnection, StorageError> {
        self.connect().await
    }

    async fn connect(&self) -> Result<MysqlConnection, StorageError> {
        let seed = self
            .seeds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64();
        let session = connect::open(&self.target, &self.options, seed).await?;
        Ok(MysqlConnection {
            session: Some(session),
        })
    }
}

/// Host and port; an IPv6 address stands in brackets.
fn address(target: &MysqlTarget) -> String {
    match target.host.contains(':') {
        true => format!("[{}]:{}", target.host, target.port),
        false => format!("{}:{}", target.host, target.port),
    }
}

/// One connection.
pub struct MysqlConnection {
    /// Absent while a call runs, and for good once one broke it or was dropped before its end.
    session: Option<Session>,
}

impl MysqlConnection {
    /// Takes the session for a call. A call that is dropped drops the session with it.
    fn take(&mut self) -> Result<Session, StorageError> {
        let broken = "the connection was given up after an earlier call";
        self.session
            .take()
            .ok_or_else(|| error::unreachable(broken))
    }

    /// Ends a call, which may have failed.
    fn put_back(&mut self, session: Session, failed: Option<&StorageError>) {
        let broken = failed.is_some_and(StorageError::breaks_connection);
        if !broken && !session.conn.is_disconnected() {
            self.session = Some(session);
        }
    }
}

impl fmt::Debug for MysqlConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlConnection").finish_non_exhaustive()
    }
}
