//! Plain SQL on the place under test: what is really there, and scenes that no request can set.

use std::path::Path;

use freehold_tests::{Sql, mysql_async::Row, mysql_async::Value};
use rusqlite::{Connection, types::ValueRef};

use crate::store::{Result, WITHIN};

/// A connection with all rights, in UTC.
pub(crate) enum Audit {
    /// To an embedded file.
    File(Connection),
    /// To a server.
    Server(Box<Sql>),
}

/// Everything that a write may change.
const ALL_ROWS: &str = "SELECT slot, HEX(`key`), HEX(value), version, expires_at \
                        FROM store ORDER BY slot, `key`";

impl Audit {
    pub(crate) fn of_file(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(WITHIN)?;
        Ok(Self::File(connection))
    }

    pub(crate) async fn of_server(mut sql: Sql) -> Result<Self> {
        // Like the storage crate it takes nothing from the server's defaults, or tests of those
        // would test the audit.
        sql.run(
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
             SET time_zone = '+00:00', sql_mode = '', autocommit = 1, completion_type = 0, \
                 sql_safe_updates = 0, sql_select_limit = 18446744073709551615, innodb_lock_wait_timeout = 60; \
             SET NAMES utf8mb4",
        )
        .await?;
        Ok(Self::Server(Box::new(sql)))
    }

    /// Runs statements.
    pub(crate) async fn run(&mut self, statements: &str) -> Result<()> {
        match self {
            Self::File(connection) => connection.execute_batch(statements)?,
            Self::Server(sql) => sql.run(statements).await?,
        }
        Ok(())
    }

    /// All rows of a query, as text.
    pub(crate) async fn rows(&mut self, query: &str) -> Result<Vec<Vec<String>>> {
        match self {
            Self::File(connection) => {
                let mut statement = connection.prepare(query)?;
                let columns = statement.column_count();
                let row = |row: &rusqlite::Row<'_>| {
                    (0..columns)
                        .map(|index| row.get_ref(index).map(file_text))
                        .collect()
                };
                let rows = statement.query_map((), row)?.collect::<Result<_, _>>();
                Ok(rows?)
            }
            Self::Server(sql) => {
                let rows: Vec<Row> = sql.rows(query).await?;
                Ok(rows
                    .into_iter()
                    .map(|row| row.unwrap().iter().map(server_text).collect())
                    .collect())
            }
        }
    }

    /// The one number that a query brings.
    pub(crate) async fn number(&mut self, query: &str) -> Result<i64> {
        let rows = self.rows(query).await?;
        let cell = rows.first().and_then(|row| row.first());
        Ok(cell.ok_or_else(|| format!("no row of {query}"))?.parse()?)
    }

    /// All rows of the store, dead ones included.
    pub(crate) async fn all_rows(&mut self) -> Result<Vec<Vec<String>>> {
        self.rows(ALL_ROWS).await
    }

    /// Locks every row there is, until `ROLLBACK`.
    pub(crate) async fn lock_all_rows(&mut self) -> Result<()> {
        match self {
            // A file has one lock for all of them.
            Self::File(_) => self.run("BEGIN IMMEDIATE").await,
            Self::Server(_) => {
                self.run("BEGIN").await?;
                self.rows("SELECT slot FROM store FOR UPDATE")
                    .await
                    .map(drop)
            }
        }
    }

    /// The clock that decides, in milliseconds.
    pub(crate) async fn now_ms(&mut self) -> Result<i64> {
        let query = match self {
            Self::File(_) => "SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER)",
            Self::Server(_) => "SELECT CAST(ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED)",
        };
        self.number(query).await
    }
}

fn file_text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
    }
}

fn server_text(value: &Value) -> String {
    match value {
        Value::NULL => "NULL".to_owned(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.as_sql(true),
    }
}
