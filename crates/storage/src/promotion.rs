//! What a router asks of each server of a shard to find the one that leads it.

use std::sync::Arc;

use async_trait::async_trait;
use freehold_core::{Fence, ShardClaims, Slot};

use crate::error::StorageError;

/// What a server is in the replication of its shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `read_only`, `super_read_only` or `innodb_read_only` is set.
    pub read_only: bool,
    /// What it copies; the server's words where the account may not see that.
    pub copying: Result<Copying, Arc<str>>,
}

/// A server's threads that copy another one, of all channels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copying {
    /// A receiver runs, or tries to connect.
    pub receiver_runs: bool,
    /// An applier runs.
    pub applier_runs: bool,
    /// Something was received and is not applied.
    pub is_unapplied: bool,
    /// What it is to Group Replication, if it is a member of a group.
    pub group: Option<GroupMember>,
}

impl Copying {
    /// Whether it has applied everything, and nothing more can come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !self.receiver_runs && !self.applier_runs && !self.is_unapplied
    }
}

/// A member of a replication group, by its own view of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupMember {
    /// Its role is PRIMARY.
    pub is_primary: bool,
    /// Its state is ONLINE.
    pub is_online: bool,
    /// It reaches more than half of the group.
    pub has_majority: bool,
}

impl GroupMember {
    /// Whether the group has agreed that this member takes the writes.
    #[must_use]
    pub const fn leads(&self) -> bool {
        self.is_primary && self.is_online && self.has_majority
    }
}

/// One connection that looks at a server.
#[async_trait]
pub trait PromotionConnection: Send {
    /// The shard row and the slot rows whose `since_epoch` is above `above_epoch` (0: all), in one
    /// snapshot.
    ///
    /// # Errors
    /// [`StorageError`], with [`Refusal::Schema`](crate::Refusal::Schema) where `init` never ran.
    async fn claims(&mut self, above_epoch: u64) -> Result<ShardClaims, StorageError>;

    /// Whether it takes writes, and whether it copies another server.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn part(&mut self) -> Result<Part, StorageError>;

    /// Makes this server the one that the fence names, in one transaction, if the fence still shows
    /// `seen`: a new stamp, and a term and an epoch one above those of `seen` and of `known`, the
    /// latest that the caller has ever seen of the shard. Notes in `terms` what this server had
    /// applied by then, as the end of each term from the one of `seen` to the one before the new.
    /// Answers whether it did: false means that somebody else changed the fence first.
    ///
    /// Claims of slots that were on their way (`outgoing`, `fenced`) are marked in the same
    /// transaction: their `since_epoch` is [`NOT_COMPARED`](freehold_core::NOT_COMPARED) then, and no
    /// router serves them before [`Self::serve_compared`].
    ///
    /// The position is what the server calls its own: `gtid_executed` on MySQL, without line breaks;
    /// `gtid_current_pos` on MariaDB.
    ///
    /// # Errors
    /// [`StorageError`]; [`StorageError::Lost`] leaves it open whether it did.
    async fn adopt(&mut self, seen: &Fence, known: &Fence) -> Result<bool, StorageError>;

    /// Draws a new attempt for those of these slots that this server receives (`incoming`) with a
    /// higher slot_epoch than the one given, if its fence names it, so that no mover that knows the
    /// attempt before can open them. Then reads the rows of all of them, in one snapshot with the
    /// fence.
    ///
    /// # Errors
    /// [`StorageError`]; a part of the attempts may have been drawn.
    async fn stop_moves_of(&mut self, slots: &[(Slot, u64)]) -> Result<ShardClaims, StorageError>;

    /// Has marked claims of these slots count from now on, in one transaction, if the fence still
    /// shows `seen`: a new epoch and stamp, and that epoch as their `since_epoch`. Answers whether
    /// it did.
    ///
    /// # Errors
    /// [`StorageError`]; [`StorageError::Lost`] leaves it open whether it did.
    async fn serve_compared(&mut self, seen: &Fence, slots: &[Slot]) -> Result<bool, StorageError>;
}
