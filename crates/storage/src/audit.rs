//! What an audit asks of a server: what it stores, in numbers that two servers can be compared by.
//!
//! Rows are counted as they lie there, dead ones included: that is what replication copies. Nothing
//! is locked.

use async_trait::async_trait;
use freehold_core::{Position, Slot};

use crate::error::StorageError;

/// Rows of a slot are counted up to here.
pub const OCCUPIED_ROWS_MAX: u64 = 1_000;

/// Where a row stands: rows are in the order of places.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// What the row's slot column says.
    pub slot: Slot,
    /// Its key.
    pub key: Vec<u8>,
}

/// Rows in the order of their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stretch {
    /// It begins behind this place; absent: at the first row.
    pub after: Option<Place>,
    /// It ends with this place; absent: with the last row.
    pub up_to: Option<Place>,
}

/// What rows come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// How many there are.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Of slots, keys, versions, expiries and values. Servers of one kind come to the same for the
    /// same rows.
    pub digest: u64,
    /// The last of them.
    pub last: Option<Place>,
}

/// Rows in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupied {
    /// Which slot.
    pub slot: Slot,
    /// How many, up to [`OCCUPIED_ROWS_MAX`].
    pub rows: u64,
    /// The first one's key.
    pub first: Vec<u8>,
}

/// One connection for audits.
#[async_trait]
pub trait AuditConnection: Send {
    /// What the first rows of a stretch come to, `rows_max` at most.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn page(&mut self, stretch: &Stretch, rows_max: usize) -> Result<Page, StorageError>;

    /// The digest of each of the first rows of a stretch, in order, `rows_max` at most.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn rows(
        &mut self,
        stretch: &Stretch,
        rows_max: usize,
    ) -> Result<Vec<(Place, u64)>, StorageError>;

    /// The digests of the rows at these places that are there, in any order.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn rows_at(&mut self, places: &[Place]) -> Result<Vec<(Place, u64)>, StorageError>;

    /// What it has written to its log: all that it has shown so far, if it takes writes. `None` where
    /// it does not tell.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn logged(&mut self) -> Result<Option<Position>, StorageError>;

    /// Bytes of keys and values in each slot between these two, both included, that has any. It reads
    /// them all.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn sizes(&mut self, first: Slot, last: Slot) -> Result<Vec<(Slot, u64)>, StorageError>;

    /// The first slot between these two, both included, in which there is a row.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn occupied(&mut self, first: Slot, last: Slot)
    -> Result<Option<Occupied>, StorageError>;
}
