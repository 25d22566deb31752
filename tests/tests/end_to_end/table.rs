//! What is really in the tables, by SQL.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use freehold_client::{Client, Entry, Error};
use freehold_tests::{Server, Sql};
use tokio::time::{Instant, sleep};

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

/// How they are read here.
pub(crate) const ROWS: &str =
    "SELECT slot, `key`, value, version, expires_at FROM store ORDER BY slot, `key`";

/// All rows of a master, dead ones included.
pub(crate) async fn rows(server: &Server) -> Result<Vec<Row>> {
    let mut sql = server.connect().await?;
    let rows: Vec<Columns> = sql.rows(ROWS).await?;
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

/// An entry, and when it was asked for.
type Seen = (Entry, Range<Instant>);

/// What the router shows of every key of a history. What it cannot answer at once it is asked
/// again.
pub(crate) async fn shown(client: &Client, history: &History) -> Result<BTreeMap<String, String>> {
    Ok(texts(&entries(client, history).await?))
}

fn texts(entries: &BTreeMap<String, Seen>) -> BTreeMap<String, String> {
    let text = |entry: &Entry| String::from_utf8_lossy(&entry.value).into_owned();
    let texts = entries
        .iter()
        .map(|(key, (entry, _))| (key.clone(), text(entry)));
    texts.collect()
}

async fn entries(client: &Client, history: &History) -> Result<BTreeMap<String, Seen>> {
    let keys: Vec<String> = history.keys().cloned().collect();
    let mut found = BTreeMap::new();
    let deadline = Instant::now() + WITHIN;
    for keys in keys.chunks(250) {
        let mut waiting = keys.to_vec();
        while !waiting.is_empty() {
            let began = Instant::now();
            let answers = ask(client, &waiting).await;
            let asked = began..Instant::now();
            let (mut again, mut last_error) = (Vec::new(), None);
            for (key, answer) in waiting.into_iter().zip(answers) {
                match answer {
                    Ok(entry) => found.extend(entry.map(|entry| (key, (entry, asked.clone())))),
                    Err(error) => {
                        again.push(key);
                        last_error = Some(error);
                    }
                }
            }
            waiting = again;
            match last_error {
                Some(error) if Instant::now() >= deadline => return Err(error.into()),
                Some(_) => sleep(Duration::from_millis(20)).await,
                None => {}
            }
        }
    }
    Ok(found)
}

async fn ask(client: &Client, keys: &[String]) -> Vec<Result<Option<Entry>, Error>> {
    match client.batch_get(keys.iter().cloned()).await {
        Ok(answers) => answers
            .into_iter()
            .map(|answer| answer.map(|reply| reply.entry))
            .collect(),
        Err(error) => vec![Err(error); keys.len()],
    }
}

/// Compares a history with what the router shows.
pub(crate) async fn audit(client: &Client, history: &History) -> Result<()> {
    let entries = entries(client, history).await?;
    let mut violations = history.violations(&texts(&entries));
    let wrong =
        |(key, (entry, asked)): (&String, &Seen)| history.wrong_ttl(key, entry.ttl, asked.clone());
    violations.extend(entries.iter().filter_map(wrong));
    if violations.is_empty() {
        return Ok(());
    }
    let some = violations.iter().take(10).cloned().collect::<Vec<_>>();
    Err(format!("{} violations:\n{}", violations.len(), some.join("\n")).into())
}
