//! What goes into a statement and what comes out of it.
//!
//! Times are milliseconds from the database's now; whoever asks never compares them with a clock
//! of its own.

use bytes::Bytes;
use freehold_core::{Beat, Fence, Key, Slot};

/// A row to store.
#[derive(Debug, Clone)]
pub struct PutRow {
    /// Where.
    pub key: Key,
    /// What.
    pub value: Bytes,
    /// Unique for this write.
    pub version: u64,
    /// Milliseconds to live; `None` never expires.
    pub ttl_ms: Option<u64>,
}

/// A change of a live row's expiry.
#[derive(Debug, Clone)]
pub struct ExpireRow {
    /// Which row.
    pub key: Key,
    /// Milliseconds to live from now; `None` never expires again.
    pub ttl_ms: Option<u64>,
}

/// Rows of one kind of write.
#[derive(Debug, Clone, Copy)]
pub enum Write<'a> {
    /// Rows to store.
    Put(&'a [PutRow]),
    /// Keys whose rows are to be marked as deleted.
    Delete(&'a [Key]),
    /// Rows to give another expiry.
    Expire(&'a [ExpireRow]),
}

impl Write<'_> {
    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Put(rows) => rows.len(),
            Self::Delete(keys) => keys.len(),
            Self::Expire(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a read brings back of each live row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// Version and expiry.
    Expiry,
    /// These and the value, if it has at most so many bytes; else its length. The reader divides
    /// its byte budget by the number of rows it asks for.
    Value {
        /// Bytes of a value that are fetched.
        bytes_max: usize,
    },
}

/// The value column of a row that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// It was not asked for.
    NotRead,
    /// The value.
    Bytes(Bytes),
    /// It is larger than was asked for.
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
    },
}

/// A live row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The version that its write stored.
    pub version: u64,
    /// Milliseconds to live, at least 1; `None` never expires.
    pub ttl_ms: Option<u64>,
    /// As much of the value as was asked for.
    pub value: Value,
}

/// The answer to a read of keys.
#[derive(Debug, Clone)]
pub struct Read {
    /// The server's fence, from the same snapshot as the rows.
    pub fence: Fence,
    /// The id of the server that answered. Where the fence names another one, that is a copy of
    /// its fence: a write would be turned away here.
    pub answered_by: u64,
    /// The heartbeat, from the same snapshot as the rows; `None` where nothing replicates.
    pub beat: Option<Beat>,
    /// One per key, in order; `None` where no live row is.
    pub rows: Vec<Option<Row>>,
}

/// A stretch of the table, in (slot, key) order.
#[derive(Debug, Clone)]
pub struct ScanRange {
    /// Ascending, 1 to [`freehold_core::limits::SCAN_SLOTS_MAX`], all of one shard.
    pub slots: Vec<Slot>,
    /// Only keys that begin with it; empty for all.
    pub prefix: Bytes,
    /// In the first slot, only keys greater than this.
    pub after: Option<Bytes>,
    /// Rows to bring back at most, at least 1.
    pub rows_max: usize,
    /// What to bring back of each.
    pub columns: Columns,
}

/// The live rows of the beginning of a [`ScanRange`].
#[derive(Debug, Clone)]
pub struct ScanPage {
    /// The server's fence, from the same snapshot as the rows (of each statement, if it took more
    /// than one: then they agree).
    pub fence: Fence,
    /// The id of the server that answered. Where the fence names another one, that is a copy of
    /// its fence: a write would be turned away here.
    pub answered_by: u64,
    /// The heartbeat, from the same snapshot as the rows; `None` where nothing replicates.
    pub beat: Option<Beat>,
    /// In (slot, key) order.
    pub rows: Vec<(Key, Row)>,
    /// Whether nothing is left in the range behind the last row.
    pub complete: bool,
}

/// What an inspection of one key shows.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// The server's fence, from the same snapshot as the row.
    pub fence: Fence,
    /// The id of the server that answered.
    pub answered_by: u64,
    /// The key's row, if it has one.
    pub row: Option<RawRow>,
}

/// A row as it lies in the table, live or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRow {
    /// False if deleted or expired.
    pub live: bool,
    /// The version that its write stored.
    pub version: u64,
    /// Milliseconds to live; `None` never expires, or is not live.
    pub ttl_ms: Option<u64>,
    /// The value's length.
    pub value_bytes: usize,
}
