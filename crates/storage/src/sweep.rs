//! What a sweeper asks of its connection.

use std::time::Duration;

use async_trait::async_trait;
use freehold_core::{Fence, Key};

use crate::error::{Outcome, StorageError};

/// Who wants a lease.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Random, one per process.
    pub id: u64,
    /// For people: host and process.
    pub name: String,
}

/// The sweeper's lease as the database shows it after an attempt to take or keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whether whoever asked has it.
    pub held: bool,
    /// Who has it, if anybody has.
    pub holder: Option<String>,
    /// Whether an operator paused sweeping.
    pub paused: bool,
}

/// Rows that are deleted or expired, read without locks.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// Their keys, strictly ascending; only of slots that are `owned`.
    pub keys: Vec<Key>,
    /// Whether there are more than were asked for.
    pub more: bool,
    /// How long the oldest expired row has been due, in milliseconds; `None` if no expired row was
    /// seen (deleted rows have no age).
    pub oldest_ms: Option<u64>,
    /// The fence in the same snapshot.
    pub fence: Option<Fence>,
}

/// One connection for sweeping. As for [`DataConnection`](crate::DataConnection), a future that is
/// dropped before it is done leaves the connection unusable.
#[async_trait]
pub trait SweepConnection: Send {
    /// Takes the lease if it is free or over, or keeps it, for `length` by the database's clock.
    ///
    /// # Errors
    /// [`StorageError`]: the lease is then not held.
    async fn lease(&mut self, holder: &Holder, length: Duration) -> Result<Lease, StorageError>;

    /// The lease, without trying to take it.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn look_at_lease(&mut self) -> Result<Lease, StorageError>;

    /// Gives the lease back, if `holder` has it.
    ///
    /// # Errors
    /// [`StorageError`]: it ends by itself.
    async fn release_lease(&mut self, holder: &Holder) -> Result<(), StorageError>;

    /// Pauses or resumes sweeping of this shard, for every router and across restarts.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn set_paused(&mut self, paused: bool) -> Result<(), StorageError>;

    /// Up to `rows_max` rows that are due, oldest first when more are.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn due(&mut self, rows_max: usize) -> Result<Due, StorageError>;

    /// Deletes those of the rows that are still due when their lock is had, if the fence agrees.
    /// Answers how many.
    async fn delete_due(&mut self, fence: &Fence, keys: &[Key]) -> Outcome<u64>;

    /// How many undo records wait to be purged; `None` where the server has none.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn purge_backlog(&mut self) -> Result<Option<u64>, StorageError>;

    /// How far this server, a replica, is behind its source; `None` if it cannot say, which never
    /// means zero.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn replica_lag(&mut self) -> Result<Option<Duration>, StorageError>;
}
