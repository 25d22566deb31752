//! What a lane asks of its connection.

use async_trait::async_trait;
use freehold_core::{Fence, Key, ShardClaims};

use crate::{
    error::{Outcome, StorageError},
    row::{Columns, ExpireRow, Inspected, PutRow, Read, ScanPage, ScanRange},
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

    /// Reads live rows.
    ///
    /// # Errors
    /// [`StorageError`]; a read changes nothing.
    async fn read(&mut self, keys: &[Key], columns: Columns) -> Result<Read, StorageError>;

    /// Reads the beginning of a stretch of live rows.
    ///
    /// # Errors
    /// [`StorageError`]; a read changes nothing.
    async fn scan(&mut self, range: &ScanRange) -> Result<ScanPage, StorageError>;

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
