//! Requests.

use async_trait::async_trait;
use freehold_core::{Fence, Key, Position, ShardClaims};
use mysql_async::prelude::Queryable as _;

use super::{
    MysqlConnection, claims,
    closed::refuse_if_closed,
    error::{Doing, storage_error, unreachable},
    read, scan, watch,
    write::{Form, write},
};
use crate::{
    data::DataConnection,
    error::{Outcome, StorageError},
    row::{Columns, ExpireRow, Inspected, PutRow, Read, Row, ScanPage, ScanRange, Write},
};

#[async_trait]
impl DataConnection for MysqlConnection {
    async fn put(&mut self, fence: &Fence, rows: &[PutRow]) -> Vec<Outcome<()>> {
        let outcomes = self.write(fence, Write::Put(rows), Form::Prepared).await;
        outcomes.into_iter().map(without_existence).collect()
    }

    async fn delete(&mut self, fence: &Fence, keys: &[Key]) -> Vec<Outcome<bool>> {
        self.write(fence, Write::Delete(keys), Form::Prepared).await
    }

    async fn expire(&mut self, fence: &Fence, rows: &[ExpireRow]) -> Vec<Outcome<bool>> {
        self.write(fence, Write::Expire(rows), Form::Prepared).await
    }

    async fn write_logged(&mut self, fence: &Fence, rows: Write<'_>) -> Vec<Outcome<bool>> {
        self.write(fence, rows, Form::Logged).await
    }

    async fn read(&mut self, keys: &[Key], columns: Columns) -> Result<Read, StorageError> {
        let mut session = self.take()?;
        let read = read::read(&mut session, keys, columns).await;
        self.put_back(session, read.as_ref().err());
        read
    }

    async fn read_under(
        &mut self,
        fence: &Fence,
        keys: &[Key],
        columns: Columns,
    ) -> Result<Option<Vec<Option<Row>>>, StorageError> {
        let mut session = self.take()?;
        let mut rows = read::read_under(&mut session, fence, keys, columns).await;
        if let Ok(None) = rows {
            rows = refuse_if_closed(&mut session, fence).await.map(|()| None);
        }
        self.put_back(session, rows.as_ref().err());
        rows
    }

    async fn written_position(&mut self) -> Result<Option<Position>, StorageError> {
        let mut session = self.take()?;
        let position = watch::written(&mut session).await;
        self.put_back(session, position.as_ref().err());
        position
    }

    async fn scan(&mut self, range: &ScanRange) -> Result<ScanPage, StorageError> {
        let mut session = self.take()?;
        let page = scan::scan(&mut session, range).await;
        self.put_back(session, page.as_ref().err());
        page
    }

    async fn scan_under(
        &mut self,
        fence: &Fence,
        range: &ScanRange,
    ) -> Result<Option<ScanPage>, StorageError> {
        let mut session = self.take()?;
        let page = scan::scan_under(&mut session, fence, range).await;
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
    async fn write(&mut self, fence: &Fence, rows: Write<'_>, form: Form) -> Vec<Outcome<bool>> {
        let mut session = match self.take() {
            Ok(session) => session,
            Err(error) => return vec![Outcome::Failed(error); rows.len()],
        };
        let mut outcomes = write(&mut session, fence, rows, form).await;
        let turned_away = |outcome: &Outcome<bool>| matches!(outcome, Outcome::FenceDisagrees);
        if outcomes.iter().any(turned_away)
            && let Err(error) = refuse_if_closed(&mut session, fence).await
        {
            let turned_away = outcomes.iter_mut().filter(|outcome| turned_away(outcome));
            turned_away.for_each(|outcome| *outcome = Outcome::Failed(error.clone()));
        }
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
