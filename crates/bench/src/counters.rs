//! What a store itself says it has done.

use freehold_tests::Sql;
use redis::aio::MultiplexedConnection;
use serde::Serialize;

use crate::{
    error::Error,
    servers::{self, Servers},
    targets::{Store, Target},
};

/// Since it started, or between two of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counted {
    /// SELECT and REPLACE statements that were executed, or Redis' commands.
    pub(crate) statements: u64,
    /// Rows looked up by a key; not counted by Redis.
    pub(crate) rows_read: u64,
    /// Rows handed to the storage engine to be written; not counted by Redis.
    pub(crate) rows_written: u64,
}

impl Counted {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            statements: self.statements.saturating_sub(before.statements),
            rows_read: self.rows_read.saturating_sub(before.rows_read),
            rows_written: self.rows_written.saturating_sub(before.rows_written),
        }
    }
}

/// Asks a target's store.
pub(crate) enum Counters {
    Database(Sql),
    Redis(MultiplexedConnection),
}

impl Counters {
    pub(crate) async fn of(target: Target, servers: &Servers) -> Result<Self, Error> {
        match (target.store(), servers.redis_port(target)) {
            (Store::Redis | Store::RedisAlways, Some(port)) => {
                Ok(Self::Redis(servers::connect_redis(port).await?))
            }
            _ => Ok(Self::Database(servers.database_session().await?)),
        }
    }

    pub(crate) async fn read(&mut self) -> Result<Counted, Error> {
        match self {
            Self::Database(sql) => {
                let status: Vec<(String, String)> = sql
                    .rows(
                        "SHOW GLOBAL STATUS WHERE Variable_name IN \
                         ('Com_select', 'Com_replace', 'Handler_read_key', 'Handler_write')",
                    )
                    .await?;
                let value = |name: &str| {
                    let found = status.iter().find(|(known, _)| known == name);
                    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
                };
                Ok(Counted {
                    // Prepared or not.
                    statements: value("Com_select") + value("Com_replace"),
                    rows_read: value("Handler_read_key"),
                    rows_written: value("Handler_write"),
                })
            }
            Self::Redis(connection) => {
                let text: String = redis::cmd("INFO")
                    .arg("stats")
                    .query_async(connection)
                    .await?;
                let commands = text
                    .lines()
                    .find_map(|line| line.strip_prefix("total_commands_processed:"))
                    .and_then(|number| number.trim().parse().ok());
                Ok(Counted {
                    statements: commands.unwrap_or(0),
                    ..Counted::default()
                })
            }
        }
    }
}
