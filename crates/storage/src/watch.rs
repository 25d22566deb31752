//! What watching over a shard's servers takes: heartbeats, positions, and the state of replication.

use async_trait::async_trait;
use freehold_core::{Beat, Fence, Position, ShardIdentity};

use crate::error::StorageError;

/// One look at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Whose it is.
    pub identity: ShardIdentity,
    /// Its fence.
    pub fence: Fence,
    /// The id of the server that answered.
    pub answered_by: u64,
    /// The heartbeat, from the same snapshot as the fence.
    pub beat: Beat,
    /// What it has of its shard's history. A statement that begins after this look came back finds
    /// all of it; whether the snapshot of this look has it, too, is not said. `None` where the
    /// server does not tell: it writes no log, or numbers no transactions.
    pub position: Option<Position>,
}

/// Where a term ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedTerm {
    /// The term.
    pub term: u64,
    /// `@@server_id` of the server that led in it, as far as the next term's master knew: of a term
    /// whose adoption was lost, the server that led before.
    pub server_id: u64,
    /// Everything of it that the next term's master had. `None` if that cannot be read.
    pub position: Option<Position>,
}

/// How a server replicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// One per source; none if it replicates from nowhere.
    pub channels: Vec<Channel>,
    /// Whether it commits in the order in which its source did.
    pub keeps_commit_order: bool,
}

/// One source of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// `@@server_id` of the source; 0 while it was never reached.
    pub source_id: u64,
    /// Whether it belongs to Group Replication, where the group is the source.
    pub is_of_group: bool,
    /// Whether the thread that fetches is connected.
    pub receives: bool,
    /// Whether the thread that applies runs.
    pub applies: bool,
    /// Whether rules leave something out.
    pub filters: bool,
    /// The last error of either thread; empty if there is none.
    pub error: String,
}

/// One connection for watching. As for [`DataConnection`](crate::DataConnection), a future that is
/// dropped before it is done leaves the connection unusable.
#[async_trait]
pub trait WatchConnection: Send {
    /// Looks at fence, heartbeat and position.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn look(&mut self) -> Result<Sight, StorageError>;

    /// Writes the beat after `shown`, if the heartbeat still shows that and the fence agrees: of
    /// several that try at once, one does. Answers whether it was this one.
    ///
    /// # Errors
    /// [`StorageError`]: it may have been written.
    async fn beat(&mut self, fence: &Fence, shown: Beat) -> Result<bool, StorageError>;

    /// How it replicates.
    ///
    /// # Errors
    /// [`StorageError`], with [`Refusal::Denied`](crate::Refusal::Denied) where the account may not
    /// ask.
    async fn replication(&mut self) -> Result<Replication, StorageError>;

    /// Where earlier terms ended, in their order.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn ended_terms(&mut self) -> Result<Vec<EndedTerm>, StorageError>;
}
