//! The same rows for every store.

use std::sync::Arc;

use freehold_client::{Client, ClientOptions, Write};
use mysql_async::prelude::Queryable;

use super::Servers;
use crate::{
    data::DataSet,
    error::Error,
    plan::Plan,
    targets::{Store, Target},
    workload::Inserted,
};

/// Rows in one loading statement, at most.
const LOAD_ROWS: u64 = 500;

/// Bytes of values in one loading statement, at most: a batch of Freehold's has 8 MiB.
const LOAD_BYTES: u64 = 4 << 20;

/// The table for direct calls: one key, one value, an expiry with the index that deleting expired
/// rows needs.
pub(super) const DIRECT_COLUMNS: &str = "k VARBINARY(1024) NOT NULL PRIMARY KEY, \
     v MEDIUMBLOB NOT NULL, expires_at BIGINT NOT NULL, KEY (expires_at)";

impl Servers {
    pub(super) async fn create_direct(&self) -> Result<(), Error> {
        let mut connection = mysql_async::Conn::new(self.sql_options(Target::Direct)?).await?;
        let table = format!("CREATE TABLE direct ({DIRECT_COLUMNS}) ENGINE=InnoDB");
        connection.query_drop(table).await?;
        connection.disconnect().await?;
        Ok(())
    }

    pub(super) async fn load(&mut self, plan: &Plan) -> Result<(), Error> {
        for data in plan.data_sets() {
            let rows = plan.rows_of(data);
            let bytes = data.value_bytes;
            eprintln!("loading {rows} rows of {bytes} bytes");
            self.load_direct(data, rows).await?;
            self.load_freehold(data, rows).await?;
            for redis in [&self.redis, &self.redis_always].into_iter().flatten() {
                redis.load(data, chunks(data, rows)).await?;
            }
            for store in Store::ALL {
                let inserted = Arc::new(Inserted::after(rows));
                self.inserted.insert((store, data), inserted);
            }
        }
        Ok(())
    }

    async fn load_direct(&self, data: DataSet, rows: u64) -> Result<(), Error> {
        let mut connection = mysql_async::Conn::new(self.sql_options(Target::Direct)?).await?;
        for numbers in chunks(data, rows) {
            let marks = vec!["(?, ?, 9223372036854775807)"; numbers.clone().count()].join(",");
            let parameters: Vec<mysql_async::Value> = numbers
                .flat_map(|number| {
                    [data.key(number), data.value(number, 0)].map(|bytes| bytes.to_vec().into())
                })
                .collect();
            let statement = format!("INSERT INTO direct (k, v, expires_at) VALUES {marks}");
            connection.exec_drop(statement, parameters).await?;
        }
        connection.disconnect().await?;
        Ok(())
    }

    async fn load_freehold(&self, data: DataSet, rows: u64) -> Result<(), Error> {
        let client = Client::connect(&self.router_address(), &ClientOptions::default()).await?;
        for numbers in chunks(data, rows) {
            let put = |number| Write::Put {
                key: data.key(number),
                value: data.value(number, 0),
                ttl: None,
            };
            for result in client.batch_write(numbers.map(put)).await? {
                result?;
            }
        }
        Ok(())
    }
}

fn chunks(data: DataSet, rows: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    let at_once = (LOAD_BYTES / data.value_bytes.max(1) as u64).clamp(1, LOAD_ROWS);
    (0..rows.div_ceil(at_once)).map(move |chunk| {
        let first = chunk * at_once;
        first..(first + at_once).min(rows)
    })
}
