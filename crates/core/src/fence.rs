//! The fence: one row on every master that each write proves in its own statement.

/// What a router believes a shard's fence shows.
///
/// The identity is `(server_id, stamp)`. Term and epoch repeat after a failover that lost a tail,
/// so they are for order and for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    /// `@@server_id` of the server that wrote the fence.
    pub server_id: u64,
    /// Random, drawn anew by every change of epoch or term.
    pub stamp: u64,
    /// The failover counter.
    pub term: u64,
    /// Every change of a slot's state on the shard adds one.
    pub epoch: u64,
}

impl Fence {
    /// Whether both name the same moment of the same server.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        (self.server_id, self.stamp) == (other.server_id, other.stamp)
    }

    /// Whether this fence is of a later moment, as far as counters can tell.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.term, self.epoch) > (other.term, other.epoch)
    }
}
