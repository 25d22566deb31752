//! What goes into a call and what comes out of it, in Rust's types.

use std::time::Duration;

use bytes::Bytes;
use freehold_proto::v1;

/// How fresh a read must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Consistency {
    /// The latest acknowledged write, from the master.
    #[default]
    Strong,
    /// Some past state, from any healthy replica, else from the master.
    Eventual,
    /// Never older than this before the request arrived.
    BoundedStaleness(Duration),
    /// At least the write that the token came from.
    Session(Bytes),
}

/// A live key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 0 bytes to the value limit. It is a part of the buffer that it arrived in, with its
    /// neighbours: copy a small value that you keep for long.
    pub value: Bytes,
    /// Unique for each stored write, without order.
    pub version: u64,
    /// How long the key has to live; `None` means for ever.
    pub ttl: Option<Duration>,
}

/// Where a read was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The router did not say.
    Unknown,
    /// The master of the key's shard.
    Master,
    /// A replica of the key's shard.
    Replica,
}

/// Who served a read, and how old the answer can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The shard's name.
    pub shard: String,
    /// Master or replica.
    pub source: Source,
    /// An upper bound of the answer's age; `None` means that it is not known.
    pub staleness: Option<Duration>,
}

/// What a get read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetReply {
    /// `None` if the key is not there, was deleted, or has expired.
    pub entry: Option<Entry>,
    /// Who served it.
    pub served: Served,
}

impl GetReply {
    /// The value, if the key is there.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        self.entry.as_ref().map(|entry| &entry.value)
    }
}

/// A put was applied and is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutReply {
    /// The version that was stored.
    pub version: u64,
    /// For reads with [`Consistency::Session`].
    pub session_token: Bytes,
}

/// A delete was applied and is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteReply {
    /// Whether a live key was there.
    pub existed: bool,
    /// For reads with [`Consistency::Session`].
    pub session_token: Bytes,
}

/// How long a key has to live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TtlReply {
    /// Whether the key is live.
    pub found: bool,
    /// `None` means for ever, if it is.
    pub ttl: Option<Duration>,
    /// Who served it.
    pub served: Served,
}

/// The expiry was changed, if the key existed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpireReply {
    /// Whether a live key was there.
    pub existed: bool,
    /// For reads with [`Consistency::Session`].
    pub session_token: Bytes,
}

/// One write of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Stores a value.
    Put {
        /// 1 to 1,024 bytes.
        key: Bytes,
        /// 0 bytes to the value limit.
        value: Bytes,
        /// `None` never expires.
        ttl: Option<Duration>,
    },
    /// Removes a key.
    Delete {
        /// 1 to 1,024 bytes.
        key: Bytes,
    },
}

impl Write {
    /// A put of a key that never expires.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put {
            key: key.into(),
            value: value.into(),
            ttl: None,
        }
    }

    /// A delete.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::Delete { key: key.into() }
    }
}

/// What came of one write of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteReply {
    /// The put was applied.
    Put(PutReply),
    /// The delete was applied.
    Delete(DeleteReply),
}

pub(crate) fn to_wire_duration(duration: Duration) -> prost_types::Duration {
    // Longer than the wire can say is longer than any limit: the router turns it down by name.
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(i32::MAX),
    }
}

pub(crate) fn from_wire_duration(duration: prost_types::Duration) -> Duration {
    // A negative one can only mean that it is over.
    Duration::try_from(duration).unwrap_or(Duration::ZERO)
}

impl Consistency {
    /// Absent means STRONG.
    pub(crate) fn to_wire(&self) -> Option<v1::ReadOptions> {
        let mut options = v1::ReadOptions::default();
        let level = match self {
            Self::Strong => return None,
            Self::Eventual => v1::Consistency::Eventual,
            Self::BoundedStaleness(max) => {
                options.max_staleness = Some(to_wire_duration(*max));
                v1::Consistency::BoundedStaleness
            }
            Self::Session(token) => {
                options.session_token = token.clone();
                v1::Consistency::Session
            }
        };
        options.set_consistency(level);
        Some(options)
    }
}

impl From<v1::Entry> for Entry {
    fn from(wire: v1::Entry) -> Self {
        Self {
            value: wire.value,
            version: wire.version,
            ttl: wire.ttl.map(from_wire_duration),
        }
    }
}

impl From<Option<v1::Served>> for Served {
    fn from(wire: Option<v1::Served>) -> Self {
        let wire = wire.unwrap_or_default();
        Self {
            source: match wire.source() {
                v1::Source::Unspecified => Source::Unknown,
                v1::Source::Master => Source::Master,
                v1::Source::Replica => Source::Replica,
            },
            staleness: wire.staleness.map(from_wire_duration),
            shard: wire.shard,
        }
    }
}

impl From<v1::GetResponse> for GetReply {
    fn from(wire: v1::GetResponse) -> Self {
        Self {
            entry: wire.entry.map(Entry::from),
            served: wire.served.into(),
        }
    }
}

impl From<v1::PutResponse> for PutReply {
    fn from(wire: v1::PutResponse) -> Self {
        Self {
            version: wire.version,
            session_token: wire.session_token,
        }
    }
}

impl From<v1::DeleteResponse> for DeleteReply {
    fn from(wire: v1::DeleteResponse) -> Self {
        Self {
            existed: wire.existed,
            session_token: wire.session_token,
        }
    }
}

impl From<v1::TtlResponse> for TtlReply {
    fn from(wire: v1::TtlResponse) -> Self {
        Self {
            found: wire.found,
            ttl: wire.ttl.map(from_wire_duration),
            served: wire.served.into(),
        }
    }
}

impl From<v1::ExpireResponse> for ExpireReply {
    fn from(wire: v1::ExpireResponse) -> Self {
        Self {
            existed: wire.existed,
            session_token: wire.session_token,
        }
    }
}

impl From<Write> for v1::Write {
    fn from(write: Write) -> Self {
        let write = match write {
            Write::Put { key, value, ttl } => {
                let ttl = ttl.map(to_wire_duration);
                v1::write::Write::Put(v1::PutRequest { key, value, ttl })
            }
            Write::Delete { key } => v1::write::Write::Delete(v1::DeleteRequest { key }),
        };
        Self { write: Some(write) }
    }
}
