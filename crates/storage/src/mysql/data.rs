//! Requests.

use async_trait::async_trait;
use freehold_core::{Fence, Key, ShardClaims};
use mysql_async::prelude::Queryable as _;

use super::{
    MysqlConnection, claims,
    error::{Doing, storage_error, unreachable},
    read, scan,
    write::{Write, write},
};
use crate::{
    data::DataConnection,
    error::{Outcome, StorageError},
    row::{Columns, ExpireRow, Inspected, PutRow, Read, ScanPage, ScanRange},
};

#[async_trait]
impl DataConnection for MysqlConnection {
    async fn put(&mut self, fence: &Fence, rows: &[PutRow]) -> Vec<Outcome<()>> {
        let outcomes = self.write(fence, Write::Put(rows)).await;
        outcomes.into_iter().map(without_existence).collect()
    }

    async fn delete(&mut self, fence: &Fence, keys: &[Key]) -> Vec<Outcome<bool>> {
        self.write(fence, Write::Delete(keys)).await
    }

    async fn expire(&mut self, fence: &Fence, rows: &[ExpireRow]) -> Vec<Outcome<bool>> {
        self.write(fence, Write::Expire(rows)).await
    }

    async fn read(&mut self, keys: &[Key], columns: Columns) -> Result<Read, StorageError> {
        let mut session = self.take()?;
        let read = read::read(&mut session, keys, columns).await;
        self.put_back(session, read.as_ref().err());
        read
    }

    async fn scan(&mut self, range: &ScanRange) -> Result<ScanPage, StorageError> {
        let mut session = self.take()?;
        let page = scan::scan(&mut session, range).await;
        self.put_back(session, page.as_ref().err());
        page
    }

    async fn inspect(&mut self, key: &Key) -> Result<Inspected, StorageError> {
        let mut session = self.take()?;
        let row = read::inspect(&mut session, key).await;
        self.put_back(session, row.as_ref().err());
        row
    }

    async fn claims(&mut self, above_epoch: u64) -> Result<ShardClaims, StorageError> {
        let mut session = self.take()?;
        let claims = claims::claims(&mut session, above_epoch).await;
        self.put_back(session, claims.as_ref().err());
        claims
    }

    async fn ping(&mut self) -> Result<(), StorageError> {
        let mut session = self.take()?;
        let pong = session
            .conn
            .ping()
            .await
            .map_err(|error| unreachable(storage_error(&error, Doing::Preparing).to_string()));
        self.put_back(session, pong.as_ref().err());
        pong
    }
}

impl MysqlConnection {
    async fn write(&mut self, fence: &Fence, rows: Write<'_>) -> Vec<Outcome<bool>> {
        let mut session = match self.take() {
            Ok(session) => session,
            Err(error) => return vec![Outcome::Failed(error); rows.len()],
        };
        let outcomes = write(&mut session, fence, rows).await;
        let broken = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Failed(error) if error.breaks_connection() => Some(error),
            _ => None,
        });
        self.put_back(session, broken);
        outcomes
    }
}

fn without_existence(outcome: Outcome<bool>) -> Outcome<()> {
    match outcome {
        Outcome::Applied(_) => Outcome::Applied(()),
        Outcome::FenceDisagrees => Outcome::FenceDisagrees,
        Outcome::Failed(error) => Outcome::Failed(error),
    }
}
