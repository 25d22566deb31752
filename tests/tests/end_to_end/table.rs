//! What is really in the tables, by SQL.

use std::collections::BTreeMap;

use freehold_client::{Client, Consistency};
use freehold_tests::{Server, Sql};

use crate::{
    history::History,
    scene::{Result, WITHIN},
};

/// A row of `store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) slot: u16,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) version: u64,
    pub(crate) expires_at: i64,
}

type Columns = (u16, Vec<u8>, Vec<u8>, u64, i64);

/// All rows of a master, dead ones included.
pub(crate) async fn rows(server: &Server) -> Result<Vec<Row>> {
    let mut sql = server.connect().await?;
    let query = "SELECT slot, `key`, value, version, expires_at FROM store ORDER BY slot, `key`";
    let rows: Vec<Columns> = sql.rows(query).await?;
    rows.into_iter()
        .map(|(slot, key, value, version, expires_at)| {
            let (key, value) = (String::from_utf8(key)?, String::from_utf8(value)?);
            Ok(Row {
                slot,
                key,
                value,
                version,
                expires_at,
            })
        })
        .collect()
}

/// How many rows a master has.
pub(crate) async fn count(sql: &mut Sql) -> Result<u64> {
    Ok(sql.one("SELECT COUNT(*) FROM store").await?)
}

/// What the router shows of every key of a history.
pub(crate) async fn shown(client: &Client, history: &History) -> Result<BTreeMap<String, String>> {
    let keys: Vec<String> = history.keys().cloned().collect();
    let mut found = BTreeMap::new();
    for keys in keys.chunks(500) {
        let mut waiting = keys.to_vec();
        let deadline = tokio::time::Instant::now() + WITHIN;
        while !waiting.is_empty() {
            let asked = waiting.iter().map(|key| key.clone().into()).collect();
            let results = client.batch_get(asked, &Consistency::Strong).await?;
            let mut again = Vec::new();
            for (key, result) in waiting.into_iter().zip(results) {
                match result {
                    Ok(reply) => found.extend(
                        reply
                            .entry
                            .map(|entry| (key, String::from_utf8_lossy(&entry.value).into_owned())),
                    ),
                    Err(_) if tokio::time::Instant::now() < deadline => again.push(key),
                    Err(error) => return Err(error.into()),
                }
            }
            waiting = again;
        }
    }
    Ok(found)
}

/// Compares a history with what the router shows.
pub(crate) async fn audit(client: &Client, history: &History) -> Result<()> {
    let violations = history.violations(&shown(client, history).await?);
    if violations.is_empty() {
        return Ok(());
    }
    let some = violations.iter().take(10).cloned().collect::<Vec<_>>();
    Err(format!("{} violations:\n{}", violations.len(), some.join("\n")).into())
}
