//! The limit: what two connections get that always have a full batch, with nothing in between.
//!
//! The statements are Freehold's own (`crates/storage`), fence and all, for exactly the size of the
//! batch.

use std::fmt::Write as _;

use bytes::Bytes;
use freehold_core::Key;
use mysql_async::{Conn, Params, Row, Statement, Value, prelude::Queryable};

use super::{TTL, Target};
use crate::{error::Error, servers::Servers};

/// As many connections as a router's lane for reads has by default.
const CONNECTIONS: usize = 2;

/// Keys in one statement, at most.
const KEYS_MAX: usize = 128;

const NEVER: i64 = i64::MAX;

const NOW: &str = "(UNIX_TIMESTAMP() * 1000 + MICROSECOND(NOW(3)) DIV 1000)";

/// A connection with its batches.
pub(crate) struct Batcher {
    connection: Conn,
    get: Statement,
    put: Statement,
    put_ttl: Statement,
    width: usize,
    version: u64,
    fence: [u64; 2],
}

/// As many places in batches as there would be callers, as far as two statements have them.
pub(super) async fn callers(servers: &Servers, count: usize) -> Result<Vec<Batcher>, Error> {
    let connections = CONNECTIONS.min(count);
    let width = (count / connections).min(KEYS_MAX);
    let mut batchers = Vec::new();
    for number in 0..connections {
        let mut connection = Conn::new(servers.sql_options(Target::Raw)?).await?;
        connection
            .query_drop("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            .await?;
        let fence: Option<(u64, u64)> = connection
            .query_first("SELECT stamp, server_id FROM shard WHERE id = 1")
            .await?;
        let (stamp, server_id) = fence.ok_or_else(|| Error::Peer {
            reason: "the shard has no fence".to_owned(),
        })?;
        batchers.push(Batcher {
            get: connection.prep(get_text(width)).await?,
            put: connection.prep(put_text(width, &NEVER.to_string())).await?,
            put_ttl: connection.prep(put_text(width, &expiry())).await?,
            connection,
            width,
            // Far from what a router makes; unique among these.
            version: (number as u64 + 1) << 48,
            fence: [stamp, server_id],
        });
    }
    Ok(batchers)
}

fn get_text(width: usize) -> String {
    let places = vec!["(?,?)"; width].join(",");
    format!(
        "SELECT f.term, f.epoch, f.server_id, f.stamp, @@server_id, s.`key`, \
         IF(LENGTH(s.value) <= 16777216, s.value, NULL), LENGTH(s.value), s.version, \
         IF(s.expires_at = {NEVER}, NULL, s.expires_at - {NOW}) \
         FROM shard f LEFT JOIN store s FORCE INDEX (PRIMARY) \
         ON (s.slot, s.`key`) IN ({places}) AND s.expires_at > {NOW} WHERE f.id = 1"
    )
}

fn expiry() -> String {
    format!("{} + {NOW} * 1", TTL.as_millis())
}

fn put_text(width: usize, expires_at: &str) -> String {
    let mut text =
        "REPLACE INTO store (slot, `key`, value, version, expires_at) VALUES ".to_owned();
    for row in 0..width {
        let slot = match row {
            0 => format!(
                "COALESCE((SELECT 0 FROM shard f WHERE f.id = 1 AND f.stamp = ? AND \
                 f.server_id = ? AND f.server_id = @@server_id LOCK IN SHARE MODE), {NEVER}) * 2 \
                 + ?"
            ),
            _ => "?".to_owned(),
        };
        let comma = if row == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}({slot}, ?, ?, ?, {expires_at})");
    }
    text
}

impl Batcher {
    /// Rows in one batch, which must all be different.
    pub(crate) const fn width(&self) -> usize {
        self.width
    }

    /// The rows that are there, with their keys.
    pub(crate) async fn get(&mut self, keys: &[Bytes]) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let mut parameters = Vec::with_capacity(keys.len() * 2);
        for (slot, key) in in_order(keys.iter().map(|key| (key, ()))).map(|(key, ())| key) {
            parameters.extend([slot, key]);
        }
        let parameters = Params::Positional(parameters);
        let rows: Vec<Row> = self.connection.exec(&self.get, parameters).await?;
        let pair = |mut row: Row| {
            let key: Vec<u8> = row.take(5)?;
            let value: Vec<u8> = row.take(6)?;
            Some((Bytes::from(key), Bytes::from(value)))
        };
        Ok(rows.into_iter().filter_map(pair).collect())
    }

    /// Stores all of them, durably.
    pub(crate) async fn put(
        &mut self,
        rows: &[(Bytes, Bytes)],
        expires: bool,
    ) -> Result<(), Error> {
        let mut parameters: Vec<Value> = self.fence.map(Value::UInt).into();
        let rows = rows.iter().map(|(key, value)| (key, value));
        for ((slot, key), value) in in_order(rows) {
            self.version += 1;
            let value = Value::Bytes(value.to_vec());
            parameters.extend([slot, key, value, Value::UInt(self.version)]);
        }
        let statement = if expires { &self.put_ttl } else { &self.put };
        let parameters = Params::Positional(parameters);
        Ok(self.connection.exec_drop(statement, parameters).await?)
    }
}

/// Slot and key as parameters, in the order of the primary key.
fn in_order<'a, T>(
    rows: impl Iterator<Item = (&'a Bytes, T)>,
) -> impl Iterator<Item = ((Value, Value), T)> {
    let slotted = |(key, rest): (&'a Bytes, T)| {
        let key = Key::new(key.to_vec()).expect("made to be a key");
        (key.slot().0, key, rest)
    };
    let mut rows: Vec<_> = rows.map(slotted).collect();
    rows.sort_unstable_by(|a, b| (a.0, a.1.bytes()).cmp(&(b.0, b.1.bytes())));
    rows.into_iter().map(|(slot, key, rest)| {
        let place = (Value::UInt(slot.into()), Value::Bytes(key.bytes().to_vec()));
        (place, rest)
    })
}
