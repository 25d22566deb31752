//! Moves slots from one shard to another while both serve.
//!
//! A [`Mover`] takes slots from a [`Shard`] to another one, a batch of them at a time, in the ten
//! steps of the design, on connections that are `timely`. `side` is a shard as a mover has it open: the server that leads, the
//! replicas that may be promoted, and what was noted of their positions. `batch` takes the slots
//! over and decides how far they are; `copy` and `drain` bring rows over, `verify` compares them,
//! `handover` is the part in which writes wait, and `ending` cleans up, after a move or a cancel.
//! What may follow what, `freehold_core::moving` says.
//!
//! Everything that goes wrong on the way ([`error`]) either begins the batch again with a new
//! take-over, or stops the move as it is: whoever comes later, here or elsewhere, takes it over and
//! goes on or back. [`progress`] shows how far it is, in plain values. Which slots to move, [`plan`] says.
//!
//! It rests, by its `throttle`, so that requests do not wait for what it does. It shows by its `beat`
//! that it is alive, which also tells how long requests wait; the [`lookout`] of somebody else sees where that has
//! ended, and the move was abandoned.

mod apart;
mod batch;
mod beat;
mod copy;
mod drain;
mod ending;
pub mod error;
mod handover;
pub mod lookout;
mod mover;
pub mod plan;
pub mod progress;
pub mod settings;
mod shard;
mod side;
mod throttle;
mod timely;
mod verify;

pub use error::MoveError;
pub use freehold_core::moving::Aim;
pub use lookout::{Lookout, Sighting};
pub use mover::{Mover, Outcome, RECORDS_MAX};
pub use progress::{Pause, Point, Points, Progress};
pub use settings::MoverSettings;
pub use shard::Shard;
