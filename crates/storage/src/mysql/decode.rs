//! Rows of answers as values. Nothing here panics on what a server sends.
//!
//! MariaDB gives the numbers of a UNION as DECIMAL text, MySQL as integers; both are read.

use bytes::Bytes;
use freehold_core::Fence;
use mysql_async::{Row as SqlRow, prelude::FromValue};

use super::error::unexpected;
use crate::{
    error::StorageError,
    row::{Columns, Row, Value},
};

/// The value of column `index`.
pub(super) fn column<T: FromValue>(
    row: &mut SqlRow,
    index: usize,
    what: &str,
) -> Result<T, StorageError> {
    match row.take_opt(index) {
        Some(Ok(value)) => Ok(value),
        Some(Err(_)) | None => Err(unexpected(what)),
    }
}

/// Text that a session with a binary character set shows as bytes.
pub(super) fn text(row: &mut SqlRow, index: usize, what: &str) -> Result<String, StorageError> {
    let bytes: Vec<u8> = column(row, index, what)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A fence, and the server that showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShownFence {
    pub(super) fence: Fence,
    /// `@@server_id`.
    pub(super) answered_by: u64,
}

impl ShownFence {
    /// Reads [`FENCE`](super::statements::FENCE)'s columns, from column `first` on.
    pub(super) fn decode(row: &mut SqlRow, first: usize) -> Result<Self, StorageError> {
        let mut number = |index| column(row, first + index, "the fence");
        Ok(Self {
            fence: Fence {
                term: number(0)?,
                epoch: number(1)?,
                server_id: number(2)?,
                stamp: number(3)?,
            },
            answered_by: number(4)?,
        })
    }

    /// Whether a write with this fence would be let through.
    pub(super) fn lets_through(&self, fence: &Fence) -> bool {
        self.fence.agrees_with(fence) && self.fence.server_id == self.answered_by
    }
}

/// A live row: value, length, version, milliseconds to live, from column `first` on.
pub(super) fn live_row(
    row: &mut SqlRow,
    first: usize,
    columns: Columns,
) -> Result<Row, StorageError> {
    let fetched: Option<Vec<u8>> = column(row, first, "a value")?;
    let value = match (columns, fetched) {
        (Columns::Expiry, _) => Value::NotRead,
        (Columns::Value { .. }, Some(bytes)) => Value::Bytes(Bytes::from(bytes)),
        (Columns::Value { .. }, None) => Value::TooLarge {
            bytes: column(row, first + 1, "a value's length")?,
        },
    };
    Ok(Row {
        version: column(row, first + 2, "a version")?,
        ttl_ms: column(row, first + 3, "a time to live")?,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_of_another_server_lets_nothing_through() {
        let fence = Fence {
            server_id: 1,
            stamp: 7,
            term: 1,
            epoch: 1,
        };
        let shown = |server_id, stamp, answered_by| ShownFence {
            fence: Fence {
                server_id,
                stamp,
                ..fence
            },
            answered_by,
        };
        assert!(shown(1, 7, 1).lets_through(&fence));
        assert!(!shown(1, 7, 2).lets_through(&fence), "a copy of the master");
        assert!(!shown(1, 8, 1).lets_through(&fence), "another moment");
    }
}
