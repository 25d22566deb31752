//! Plain SQL on one server: to audit what is really there, and to set a scene.

use std::path::PathBuf;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, OptsBuilder, Row, SslOpts};

use crate::error::{Error, Result};
use crate::port::Port;
use crate::template;

/// Who connects, and how.
#[derive(Debug, Clone)]
pub struct Login {
    /// The account's name.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The database to use; none, if absent.
    pub database: Option<String>,
    /// Encrypt, and check the server's certificate against this authority; plain, if absent.
    pub ca: Option<PathBuf>,
}

impl Login {
    /// An account in the servers' common database, without encryption.
    pub fn new(user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            database: Some(template::DATABASE.to_owned()),
            ca: None,
        }
    }

    /// The account with all rights.
    pub fn admin() -> Self {
        Self::new(template::ADMIN, template::ADMIN_PASSWORD)
    }

    /// In another database.
    #[must_use]
    pub fn database(mut self, name: &str) -> Self {
        self.database = Some(name.to_owned());
        self
    }
}

/// A session of a server.
#[derive(Debug, Clone)]
pub struct Session {
    /// What KILL takes.
    pub id: u64,
    /// The account.
    pub user: String,
    /// What it does with the statement: `Prepare`, `Execute`, `Query`.
    pub command: String,
    /// What it runs now; empty if nothing.
    pub statement: String,
}

/// One connection.
#[derive(Debug)]
pub struct Sql {
    connection: Conn,
}

impl Sql {
    pub(crate) async fn connect(port: &Port, login: &Login) -> Result<Self> {
        let tls = login.ca.clone().map(|ca| {
            SslOpts::default()
                .with_root_certs(vec![ca.into()])
                .with_disable_built_in_roots(true)
        });
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(port.number())
            // The driver would move to the Unix socket, where no test of the network is one.
            .prefer_socket(false)
            .user(Some(&login.user))
            .pass(Some(&login.password))
            .db_name(login.database.as_deref())
            .ssl_opts(tls);
        let doing = format!("connect to port {} as {}", port.number(), login.user);
        let connection = Conn::new(options).await.map_err(Error::sql(doing))?;
        Ok(Self { connection })
    }

    /// Runs one statement, or several with `;` between them.
    pub async fn run(&mut self, statements: &str) -> Result<()> {
        self.connection
            .query_drop(statements)
            .await
            .map_err(Error::sql(statements))
    }

    /// All rows of a query.
    pub async fn rows<R: FromRow + Send + 'static>(&mut self, query: &str) -> Result<Vec<R>> {
        self.connection
            .query(query)
            .await
            .map_err(Error::sql(query))
    }

    /// The first row of a query, if it has any.
    pub async fn first<R: FromRow + Send + 'static>(&mut self, query: &str) -> Result<Option<R>> {
        self.connection
            .query_first(query)
            .await
            .map_err(Error::sql(query))
    }

    /// The first row of a query that always has one, such as `SELECT COUNT(*)`.
    pub async fn one<R: FromRow + Send + 'static>(&mut self, query: &str) -> Result<R> {
        self.first(query).await?.ok_or_else(|| Error::Late {
            what: format!("a row of {query}"),
            waited_s: 0,
        })
    }

    /// The sessions that are open besides this one. Polling `information_schema.processlist`
    /// instead, while sessions ended, crashed MariaDB 10.11.19 once in about fifty tests (signal 11
    /// in `ha_maria::drop_table`).
    pub async fn other_sessions(&mut self) -> Result<Vec<Session>> {
        let rows: Vec<Row> = self.rows("SHOW FULL PROCESSLIST").await?;
        let session = |row: Row| {
            Some(Session {
                id: row.get("Id")?,
                user: row.get("User")?,
                command: row.get("Command")?,
                statement: row.get::<Option<String>, _>("Info")?.unwrap_or_default(),
            })
        };
        let own = u64::from(self.connection.id());
        let sessions = rows.into_iter().filter_map(session);
        Ok(sessions.filter(|session| session.id != own).collect())
    }

    /// The first row of a query whose columns are known by name, such as `SHOW REPLICA STATUS`.
    pub async fn named(&mut self, query: &str) -> Result<Option<Row>> {
        self.first(query).await
    }

    /// The driver's connection, for parameters, transactions and prepared statements.
    pub fn connection(&mut self) -> &mut Conn {
        &mut self.connection
    }

    /// Says goodbye to the server.
    pub async fn close(self) -> Result<()> {
        self.connection
            .disconnect()
            .await
            .map_err(Error::sql("disconnect"))
    }
}
