//! What Freehold is about, without I/O: keys, slots, who owns them, and the limits.
//!
//! The way of a request through it: [`key`] checks the bytes and hashes the tag, [`slot`] cuts the
//! slot out of the hash, [`map`] says which shard owns the slot (as that shard's own [`claims`]
//! say), and the [`fence`] is what a write proves to the owner. [`limits`] bounds all of it.

pub mod claims;
pub mod fence;
pub mod key;
pub mod limits;
pub mod map;
pub mod slot;

pub use claims::{SCHEMA_VERSION, ShardClaims, ShardIdentity, SlotClaim, SlotState};
pub use fence::Fence;
pub use key::{Key, KeyError};
pub use map::{Extent, Route, ShardId, ShardMap, ShardView};
pub use slot::{SLOTS, Slot};
