//! One durable database server and one router, loaded with the same rows twice: in a table as a
//! team would make it for itself, and through Freehold.

use freehold_client::{Client, ClientOptions, Write};
use freehold_tests::{Login, Router, Server, ServerOptions, Shard};
use mysql_async::{Opts, OptsBuilder, prelude::Queryable};

use crate::{data, error::Error, plan::Plan};

/// Rows in one loading statement.
const LOAD_ROWS: u64 = 500;

/// The table for direct calls: one key, one value, an expiry.
const DIRECT_TABLE: &str = "CREATE TABLE direct (k VARBINARY(1024) NOT NULL PRIMARY KEY, \
     v MEDIUMBLOB NOT NULL, expires_at BIGINT NOT NULL) ENGINE=InnoDB";

/// What targets are measured on.
pub(crate) struct Cluster {
    database: Server,
    router: Router,
    pub(crate) rows: u64,
    pub(crate) value_bytes: usize,
}

impl Cluster {
    /// Starts the server (every commit flushed and synced) and the router, and loads both.
    pub(crate) async fn start(plan: &Plan) -> Result<Self, Error> {
        let options = ServerOptions::new(plan.engine).synced();
        let options = options.argument("--max-connections=3000");
        let database = Server::start(options).await?;
        let shards = [Shard::new("a", &database, &[])];
        let router = Router::init_and_serve(&shards, &plan.router_config).await?;
        let cluster = Self {
            database,
            router,
            rows: plan.rows,
            value_bytes: plan.value_bytes,
        };
        cluster.load_direct().await?;
        cluster.load_freehold().await?;
        Ok(cluster)
    }

    /// Where the database is, for drivers.
    pub(crate) fn database_options(&self) -> Result<Opts, Error> {
        let url = self.database.dsn(&Login::admin());
        let options = Opts::from_url(&url).map_err(mysql_async::Error::from)?;
        // Over TCP, as from another machine and as Freehold itself: the driver would look for a
        // local socket.
        Ok(OptsBuilder::from_opts(options).prefer_socket(false).into())
    }

    /// Where the router is.
    pub(crate) fn router_address(&self) -> String {
        self.router.address().to_string()
    }

    /// The processes whose work is counted: database and router.
    pub(crate) fn processes(&mut self) -> Result<(u32, u32), Error> {
        Ok((self.database.pid()?, self.router.pid()?))
    }

    async fn load_direct(&self) -> Result<(), Error> {
        let mut connection = mysql_async::Conn::new(self.database_options()?).await?;
        connection.query_drop(DIRECT_TABLE).await?;
        for first in (0..self.rows).step_by(LOAD_ROWS.try_into().unwrap_or(usize::MAX)) {
            let numbers = first..(first + LOAD_ROWS).min(self.rows);
            let marks = vec!["(?, ?, 9223372036854775807)"; numbers.clone().count()].join(",");
            let parameters: Vec<mysql_async::Value> = numbers
                .flat_map(|number| {
                    let value = data::value(number, self.value_bytes);
                    [data::key(number).to_vec().into(), value.to_vec().into()]
                })
                .collect();
            let statement = format!("INSERT INTO direct (k, v, expires_at) VALUES {marks}");
            connection.exec_drop(statement, parameters).await?;
        }
        connection.disconnect().await?;
        Ok(())
    }

    async fn load_freehold(&self) -> Result<(), Error> {
        let client = Client::connect(&self.router_address(), &ClientOptions::default()).await?;
        for first in (0..self.rows).step_by(LOAD_ROWS.try_into().unwrap_or(usize::MAX)) {
            let put = |number| Write::Put {
                key: data::key(number),
                value: data::value(number, self.value_bytes),
                ttl: None,
            };
            let writes = (first..(first + LOAD_ROWS).min(self.rows)).map(put);
            for result in client.batch_write(writes).await? {
                result?;
            }
        }
        Ok(())
    }
}
