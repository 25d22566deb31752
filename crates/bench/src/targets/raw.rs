//! The limit: what two connections get that always have a full batch, with nothing in between.
//!
//! The statements are shaped as Freehold's own (`crates/storage`), fence and all, for exactly the size
//! of the batch: a GET of one key names it, one of few keys has them in a list, one of many as bytes
//! that the server takes apart (the `mysql/numbered.rs` there says how and why).

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

/// From how many keys on a GET has them as bytes.
const NUMBERED_MIN: usize = 17;

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
        // What is taken apart as bytes is none in a session of any other character set.
        connection.query_drop("SET NAMES binary").await?;
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

/// Its first column says whose row it is: a key, or its place among all.
fn get_text(width: usize) -> String {
    let (name, numbers, keys) = if width == 1 {
        let keys = "s.slot = ? AND s.`key` = ?".to_owned();
        ("s.`key`", String::new(), keys)
    } else if width < NUMBERED_MIN {
        let places = vec!["(?,?)"; width].join(",");
        (
            "s.`key`",
            String::new(),
            format!("(s.slot, s.`key`) IN ({places})"),
        )
    } else {
        let number = |first: usize| {
            format!(
                "ASCII(SUBSTR(?, q.n * 4 + {first})) * 256 + ASCII(SUBSTR(?, q.n * 4 + {}))",
                first + 1
            )
        };
        let (slot, length) = (number(1), number(3));
        (
            "q.n",
            format!("LEFT JOIN numbers q ON q.n < {width} "),
            format!("s.slot = {slot} AND s.`key` = SUBSTR(?, q.n * ? + 1, {length})"),
        )
    };
    format!(
        "SELECT {name}, IF(LENGTH(s.value) <= 16777216, s.value, NULL), LENGTH(s.value), s.version, \
         IF(s.expires_at = {NEVER}, NULL, s.expires_at - {NOW}) \
         FROM shard f {numbers}LEFT JOIN store s FORCE INDEX (PRIMARY) \
         ON {keys} AND s.expires_at > {NOW} WHERE f.id = 1 AND f.stamp = ? AND f.server_id = ? \
         AND f.server_id = @@server_id AND @@read_only = 0"
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
        let sorted = in_order(keys.iter().map(|key| (key, ())));
        let sorted: Vec<(u16, Key)> = sorted.map(|(slot, key, ())| (slot, key)).collect();
        let is_numbered = self.width >= NUMBERED_MIN;
        let mut parameters = if is_numbered {
            numbered(&sorted)
        } else {
            let pairs = sorted.iter().map(|(slot, key)| parameters_of(*slot, key));
            pairs.flatten().collect()
        };
        parameters.extend(self.fence.map(Value::UInt));
        let parameters = Params::Positional(parameters);
        let rows: Vec<Row> = self.connection.exec(&self.get, parameters).await?;
        let pair = |mut row: Row| {
            let value: Vec<u8> = row.take(1)?;
            let key = if is_numbered {
                sorted.get(row.take::<usize, _>(0)?)?.1.bytes().to_vec()
            } else {
                row.take(0)?
            };
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
        for (slot, key, value) in in_order(rows) {
            self.version += 1;
            parameters.extend(parameters_of(slot, &key));
            let value = Value::Bytes(value.to_vec());
            parameters.extend([value, Value::UInt(self.version)]);
        }
        let statement = if expires { &self.put_ttl } else { &self.put };
        let parameters = Params::Positional(parameters);
        Ok(self.connection.exec_drop(statement, parameters).await?)
    }
}

/// Slots and keys, in the order of the primary key.
fn in_order<'a, T>(
    rows: impl Iterator<Item = (&'a Bytes, T)>,
) -> impl Iterator<Item = (u16, Key, T)> {
    let slotted = |(key, rest): (&'a Bytes, T)| {
        let key = Key::new(key.to_vec()).expect("made to be a key");
        (key.slot().0, key, rest)
    };
    let mut rows: Vec<_> = rows.map(slotted).collect();
    rows.sort_unstable_by(|a, b| (a.0, a.1.bytes()).cmp(&(b.0, b.1.bytes())));
    rows.into_iter()
}

fn parameters_of(slot: u16, key: &Key) -> [Value; 2] {
    [Value::UInt(slot.into()), Value::Bytes(key.bytes().to_vec())]
}

/// Keys as two strings: slots and lengths in two bytes each, and the keys as long as the longest.
fn numbered(keys: &[(u16, Key)]) -> Vec<Value> {
    let longest = keys.iter().map(|(_, key)| key.bytes().len()).max();
    let longest = longest.unwrap_or(0);
    let (mut heads, mut padded) = (Vec::new(), Vec::new());
    for (place, (slot, key)) in keys.iter().enumerate() {
        let length = u16::try_from(key.bytes().len()).expect("a key has at most 1,024 bytes");
        heads.extend(slot.to_be_bytes());
        heads.extend(length.to_be_bytes());
        padded.extend_from_slice(key.bytes());
        padded.resize((place + 1) * longest, 0);
    }
    let heads = Value::Bytes(heads);
    vec![
        heads.clone(),
        heads.clone(),
        Value::Bytes(padded),
        Value::UInt(longest as u64),
        heads.clone(),
        heads,
    ]
}
