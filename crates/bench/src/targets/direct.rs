//! Per-key prepared statements, a connection per caller.

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use mysql_async::{Conn, Statement, prelude::Queryable};

use super::Caller;
use crate::{cluster::Cluster, error::Error};

/// Connections that are opened at a time.
const OPENING_MAX: usize = 16;

struct Direct {
    connection: Conn,
    get: Statement,
    put: Statement,
}

pub(super) async fn callers(
    cluster: &Cluster,
    count: usize,
) -> Result<Vec<Box<dyn Caller>>, Error> {
    let options = cluster.database_options()?;
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
    async fn open(options: mysql_async::Opts) -> Result<Self, Error> {
        let mut connection = Conn::new(options).await?;
        let get = connection
            .prep(
                "SELECT v FROM direct WHERE k = ? AND expires_at > \
                 ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000)",
            )
            .await?;
        let put = connection
            .prep("REPLACE INTO direct (k, v, expires_at) VALUES (?, ?, 9223372036854775807)")
            .await?;
        Ok(Self {
            connection,
            get,
            put,
        })
    }
}

#[async_trait]
impl Caller for Direct {
    async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, Error> {
        let value: Option<Vec<u8>> = self.connection.exec_first(&self.get, (&key[..],)).await?;
        Ok(value.map(Bytes::from))
    }

    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), Error> {
        Ok(self
            .connection
            .exec_drop(&self.put, (&key[..], &value[..]))
            .await?)
    }
}
