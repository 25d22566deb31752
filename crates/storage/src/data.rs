//! What a lane asks of its connection.

use async_trait::async_trait;
use freehold_core::{Fence, Key, Position, ShardClaims};

use crate::{
    error::{Outcome, StorageError},
    row::{Columns, ExpireRow, Inspected, PutRow, Read, Row, ScanPage, ScanRange, Write},
};

/// One connection for requests. Every call is one round trip in the usual case, and holds no lock
/// when it returns.
///
/// Keys of one call are strictly ascending (by slot, then bytes) and at most
/// [`STATEMENT_KEYS_MAX`](freehold_core::limits::STATEMENT_KEYS_MAX). Writes are applied only if
/// the server's fence shows `fence` inside the very statement that writes; they answer one
/// [`Outcome`] per row, in order. Deadlocks are repeated inside; a batch that waited too long for a
/// lock goes row by row.
///
/// A future that is dropped before it is done leaves the connection unusable: drop it too. Whether
/// a write in it was applied is then unknown; it may even be applied later, but not after
/// [`connect_writer`](crate::Server::connect_writer) opened the next connection of the same name.
#[async_trait]
pub trait DataConnection: Send {
    /// Stores rows, replacing what is there.
    async fn put(&mut self, fence: &Fence, rows: &[PutRow]) -> Vec<Outcome<()>>;

    /// Marks live rows as deleted. Answers whether a live row was there, by a clock that was read
    /// after its lock was taken.
    async fn delete(&mut self, fence: &Fence, keys: &[Key]) -> Vec<Outcome<bool>>;

    /// Changes the expiry of live rows without touching their values. Answers whether a live row
    /// was there, by a clock that was read after its lock was taken.
    async fn expire(&mut self, fence: &Fence, rows: &[ExpireRow]) -> Vec<Outcome<bool>>;

    /// The same to slots that are `outgoing`: counts each key in `moved_keys`, too, in the same
    /// transaction, so that whoever copies the slot away copies the key again. Whether a slot is
    /// `outgoing`, the fence proves: each change of a slot's state draws a new stamp. (Always true
    /// for a PUT.)
    async fn write_logged(&mut self, fence: &Fence, rows: Write<'_>) -> Vec<Outcome<bool>>;

    /// Reads live rows.
    ///
    /// # Errors
    /// [`StorageError`]; a read changes nothing.
    async fn read(&mut self, keys: &[Key], columns: Columns) -> Result<Read, StorageError>;

    /// Reads live rows for a caller that would take them under this fence alone, from the server
    /// that it names: one per key, in order, with `None` where no live row is. Nothing at all if the
    /// fence disagrees. (Whoever must see the fence itself, such as a replica's, calls
    /// [`Self::read`], which costs more for each row.)
    ///
    /// # Errors
    /// [`StorageError`]; a read changes nothing.
    async fn read_under(
        &mut self,
        fence: &Fence,
        keys: &[Key],
        columns: Columns,
    ) -> Result<Option<Vec<Option<Row>>>, StorageError> {
        let read = self.read(keys, columns).await?;
        let agrees = read.fence.agrees_with(fence) && read.answered_by == fence.server_id;
        Ok(agrees.then_some(read.rows))
    }

    /// Where the shard's history is once the last write of this connection is in it, and everything
    /// that this write saw. `None` where the server numbers no transactions.
    ///
    /// # Errors
    /// [`StorageError`]; what was written stays written.
    async fn written_position(&mut self) -> Result<Option<Position>, StorageError>;

    /// Reads the beginning of a stretch of live rows.
    ///
    /// # Errors
    /// [`StorageError`]; a read changes nothing.
    async fn scan(&mut self, range: &ScanRange) -> Result<ScanPage, StorageError>;

    /// [`Self::scan`] under this fence alone, as [`Self::read_under`].
    ///
    /// # Errors
    /// [`StorageError`]; a read changes nothing.
    async fn scan_under(
        &mut self,
        fence: &Fence,
        range: &ScanRange,
    ) -> Result<Option<ScanPage>, StorageError> {
        let page = self.scan(range).await?;
        let agrees = page.fence.agrees_with(fence) && page.answered_by == fence.server_id;
        Ok(agrees.then_some(page))
    }

    /// A row as it lies in the table, with the fence in the same snapshot.
    ///
    /// # Errors
    /// [`StorageError`]; a read changes nothing.
    async fn inspect(&mut self, key: &Key) -> Result<Inspected, StorageError>;

    /// The shard row and the slot rows whose `since_epoch` is above `above_epoch` (0: all), in one
    /// snapshot.
    ///
    /// # Errors
    /// [`StorageError`], with [`Refusal::Schema`](crate::Refusal::Schema) where `init` never ran.
    async fn claims(&mut self, above_epoch: u64) -> Result<ShardClaims, StorageError>;

    /// Asks whether the server still answers.
    ///
    /// # Errors
    /// [`StorageError::Unreachable`] if not.
    async fn ping(&mut self) -> Result<(), StorageError>;
}
