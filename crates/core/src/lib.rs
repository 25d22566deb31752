//! What Freehold is about, without I/O: keys, slots, who owns them, and the limits.
//!
//! The way of a request through it: [`key`] checks the bytes and hashes the tag, [`slot`] cuts the
//! slot out of the hash, [`map`] says which shard owns the slot (as that shard's own [`claims`]
//! say), and the [`fence`] is what a write proves to the owner. [`moving`] is how a slot changes its
//! owner, and a [`slot_set`] names those that do; [`adoption`] is what becomes of it where a shard
//! fails over meanwhile. A [`token`] says which [`position`] in a shard's history a read has to find, and a [`beat`]
//! how old what it finds can be. [`limits`] bounds all of it.

pub mod adoption;
pub mod beat;
pub mod claims;
pub mod fence;
pub mod key;
pub mod limits;
pub mod map;
pub mod moving;
pub mod planted;
pub mod position;
pub mod slot;
pub mod slot_set;
pub mod token;
mod varint;

pub use beat::Beat;
pub use claims::{NOT_COMPARED, SCHEMA_VERSION, ShardClaims, ShardIdentity, SlotClaim, SlotState};
pub use fence::Fence;
pub use key::{Key, KeyError};
pub use map::{Extent, Route, Service, ShardId, ShardMap, ShardView};
pub use position::Position;
pub use slot::{SLOTS, Slot};
pub use slot_set::SlotSet;
pub use token::{ShardTag, Term, Token};
