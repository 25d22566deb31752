//! What a master says of itself: its identity, its fence, and the slots it owns, receives or gave
//! away.

use crate::{fence::Fence, slot::Slot};

/// The version of the tables that this code reads and writes.
pub const SCHEMA_VERSION: u32 = 1;

/// The `since_epoch` of a claim that a promoted server was found with while its slot was on its way:
/// an epoch that never comes. The claim counts only once it was compared with the peer's
/// ([`crate::adoption`]), which gives it the epoch of that moment.
pub const NOT_COMPARED: u64 = i64::MAX.cast_unsigned();

/// What a slot is to a shard that has a row for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotState {
    /// Serves reads and writes.
    Owned,
    /// Owned, and every write also logs its key: the slot is being copied away.
    Outgoing,
    /// Owned, for reads only: the last of it is being copied away.
    Fenced,
    /// Being copied here; not served, never a claim.
    Incoming,
    /// Given away to the peer.
    Gone,
}

impl SlotState {
    /// All states, in the order of a slot's life.
    pub const ALL: [Self; 5] = [
        Self::Owned,
        Self::Outgoing,
        Self::Fenced,
        Self::Incoming,
        Self::Gone,
    ];

    /// The word in the `state` column.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owned => "owned",
            Self::Outgoing => "outgoing",
            Self::Fenced => "fenced",
            Self::Incoming => "incoming",
            Self::Gone => "gone",
        }
    }

    /// The state of a word of the `state` column.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether a shard in this state says that the slot is its own.
    #[must_use]
    pub const fn is_claim(self) -> bool {
        matches!(self, Self::Owned | Self::Outgoing | Self::Fenced)
    }

    /// Whether the owner takes writes in this state.
    #[must_use]
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::Owned | Self::Outgoing)
    }
}

/// One row of a master's `slots` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotClaim {
    /// Which slot.
    pub slot: Slot,
    /// What it is to this shard.
    pub state: SlotState,
    /// The counter of the slot's changes of owner, over all shards.
    pub slot_epoch: u64,
    /// The other shard of the slot's last move, by name.
    pub peer: Option<Box<str>>,
    /// The shard's epoch at which this row last changed, or [`NOT_COMPARED`].
    pub since_epoch: u64,
}

impl SlotClaim {
    /// Whether the shard says that the slot is its own, and does not know yet what its peer says.
    #[must_use]
    pub const fn is_to_be_compared(&self) -> bool {
        self.state.is_claim() && self.since_epoch == NOT_COMPARED
    }
}

/// Who a server says it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIdentity {
    /// The shard's name.
    pub name: String,
    /// Random, the same on every server of a cluster.
    pub cluster_id: u64,
    /// The version of its tables; 0 while `init` has not finished.
    pub schema_version: u32,
}

/// One snapshot of a server's `shard` row and of its `slots` rows above an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardClaims {
    /// Whose they are.
    pub identity: ShardIdentity,
    /// `@@server_id` of the server that answered. On a master it is the fence's, unless the server
    /// was promoted and not yet adopted.
    pub answered_by: u64,
    /// The fence in the same snapshot.
    pub fence: Fence,
    /// The rows, ordered by slot, each slot once.
    pub claims: Vec<SlotClaim>,
}
