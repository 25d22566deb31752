//! What is asked: one operation, and the kind of statement that it needs.

use freehold_core::{Key, Slot, limits::STATEMENT_KEYS_MAX};
use freehold_storage::{ExpireRow, PutRow, ScanRange};

/// One operation on one key, or on one stretch of a shard.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Reads a live row with its value.
    Get(Key),
    /// Reads a live row's expiry.
    Ttl(Key),
    /// Stores a row.
    Put(PutRow),
    /// Removes a row.
    Delete(Key),
    /// Changes a row's expiry.
    Expire(ExpireRow),
    /// Reads a stretch of rows.
    Scan(ScanRange),
    /// Reads a row as it lies in the table.
    Inspect(Key),
}

/// Which statement an operation needs; a batch holds one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Get,
    Ttl,
    Put,
    Delete,
    Expire,
    Scan,
    Inspect,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Get,
        Self::Ttl,
        Self::Put,
        Self::Delete,
        Self::Expire,
        Self::Scan,
        Self::Inspect,
    ];

    /// Whether it changes rows.
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Put | Self::Delete | Self::Expire)
    }

    /// Whether several operations on one key may share one row of a statement: reads see the same
    /// row, and of several PUTs the last is stored. A second DELETE or EXPIRE has another answer.
    #[must_use]
    pub const fn joins_equal_keys(self) -> bool {
        matches!(self, Self::Get | Self::Ttl | Self::Put)
    }

    /// How many rows of this kind one statement takes at most.
    #[must_use]
    pub const fn rows_max(self) -> usize {
        match self {
            Self::Scan | Self::Inspect => 1,
            _ => STATEMENT_KEYS_MAX,
        }
    }

    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Ttl => "ttl",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Expire => "expire",
            Self::Scan => "scan",
            Self::Inspect => "inspect",
        }
    }
}

impl Operation {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Get(_) => Kind::Get,
            Self::Ttl(_) => Kind::Ttl,
            Self::Put(_) => Kind::Put,
            Self::Delete(_) => Kind::Delete,
            Self::Expire(_) => Kind::Expire,
            Self::Scan(_) => Kind::Scan,
            Self::Inspect(_) => Kind::Inspect,
        }
    }

    /// The key; a scan has none.
    #[must_use]
    pub const fn key(&self) -> Option<&Key> {
        match self {
            Self::Get(key) | Self::Ttl(key) | Self::Delete(key) | Self::Inspect(key) => Some(key),
            Self::Put(row) => Some(&row.key),
            Self::Expire(row) => Some(&row.key),
            Self::Scan(_) => None,
        }
    }

    /// The slots it touches: all of them must be served where it is sent.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let (one, many) = match self {
            Self::Scan(range) => (None, range.slots.as_slice()),
            other => (other.key().map(Key::slot), &[][..]),
        };
        one.into_iter().chain(many.iter().copied())
    }

    /// Bytes of keys and values that it holds while it waits.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put(row) => row.key.bytes().len() + row.value.len(),
            Self::Scan(range) => range.prefix.len() + range.slots.len() * size_of::<Slot>(),
            other => other.key().map_or(0, |key| key.bytes().len()),
        }
    }
}
