//! A MariaDB with the Spider engine, whose table lies on the database.

use freehold_tests::{Engine, Login, Server, ServerOptions};

use super::load::DIRECT_COLUMNS;
use crate::error::Error;

/// Starts it and makes the table, as Spider's documentation has it.
pub(super) async fn start(database: &Server) -> Result<Server, Error> {
    let options = ServerOptions::new(Engine::MariaDb)
        .argument("--plugin-load-add=ha_spider")
        .argument("--max-connections=4000")
        .argument("--max-prepared-stmt-count=200000");
    let spider = Server::start(options).await.map_err(|error| Error::Peer {
        reason: format!(
            "MariaDB with Spider does not start (crates/bench/install installs it): {error}"
        ),
    })?;
    let Login { user, password, .. } = Login::admin();
    let port = database.port();
    let mut sql = spider.connect().await?;
    sql.run(&format!(
        "CREATE SERVER master FOREIGN DATA WRAPPER mysql OPTIONS (HOST '127.0.0.1', \
         DATABASE 'freehold', USER '{user}', PASSWORD '{password}', PORT {port}); \
         CREATE TABLE direct ({DIRECT_COLUMNS}) ENGINE=Spider \
         COMMENT='wrapper \"mysql\", srv \"master\", table \"direct\"'"
    ))
    .await?;
    sql.close().await?;
    Ok(spider)
}
