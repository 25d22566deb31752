//! Per-key prepared statements, a connection per caller.

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use mysql_async::{Conn, Opts, Statement, prelude::Queryable};

use super::{Caller, TTL};
use crate::error::Error;

/// Connections that are opened at a time.
const OPENING_MAX: usize = 16;

/// The server's number for a deadlock.
const DEADLOCK: u16 = 1213;

/// How often a write is tried that ends in one.
const TRIES_MAX: u32 = 20;

const GET: &str = "SELECT v FROM direct WHERE k = ? AND expires_at > \
     ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000)";

const PUT: &str = "REPLACE INTO direct (k, v, expires_at) VALUES (?, ?, 9223372036854775807)";

const PUT_TTL: &str = "REPLACE INTO direct (k, v, expires_at) VALUES \
     (?, ?, ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) + ?)";

const SCAN: &str = "SELECT k, v FROM direct WHERE k >= ? AND k < ? AND expires_at > \
     ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000) ORDER BY k LIMIT ?";

struct Direct {
    connection: Conn,
    get: Statement,
    put: Statement,
    put_ttl: Statement,
    scan: Statement,
}

pub(super) async fn callers(options: Opts, count: usize) -> Result<Vec<Box<dyn Caller>>, Error> {
    let open = |_| {
        let options = options.clone();
        async move { Ok(Box::new(Direct::open(options).await?) as Box<dyn Caller>) }
    };
    stream::iter(0..count)
        .map(open)
        .buffer_unordered(OPENING_MAX)
        .try_collect()
        .await
}

impl Direct {
    async fn open(options: Opts) -> Result<Self, Error> {
        let mut connection = Conn::new(options).await?;
        Ok(Self {
            get: connection.prep(GET).await?,
            put: connection.prep(PUT).await?,
            put_ttl: connection.prep(PUT_TTL).await?,
            scan: connection.prep(SCAN).await?,
            connection,
        })
    }

    async fn put_once(
        &mut self,
        key: &[u8],
        value: &[u8],
        expires: bool,
    ) -> Result<(), mysql_async::Error> {
        if expires {
            let ttl_ms = u64::try_from(TTL.as_millis()).unwrap_or(u64::MAX);
            let parameters = (key, value, ttl_ms);
            self.connection.exec_drop(&self.put_ttl, parameters).await
        } else {
            self.connection.exec_drop(&self.put, (key, value)).await
        }
    }
}

#[async_trait]
impl Caller for Direct {
    async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, Error> {
        let value: Option<Vec<u8>> = self.connection.exec_first(&self.get, (&key[..],)).await?;
        Ok(value.map(Bytes::from))
    }

    async fn put(&mut self, key: Bytes, value: Bytes, expires: bool) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.put_once(&key, &value, expires).await {
                // It was not applied. Whoever writes this by hand tries again too.
                Err(mysql_async::Error::Server(error))
                    if error.code == DEADLOCK && tries < TRIES_MAX => {}
                put => return Ok(put?),
            }
        }
    }

    async fn scan(
        &mut self,
        start: Bytes,
        end: Bytes,
        rows: u64,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let parameters = (&start[..], &end[..], rows);
        let rows: Vec<(Vec<u8>, Vec<u8>)> = self.connection.exec(&self.scan, parameters).await?;
        let bytes = |(key, value): (Vec<u8>, Vec<u8>)| (Bytes::from(key), Bytes::from(value));
        Ok(rows.into_iter().map(bytes).collect())
    }
}
