//! Breaks a whole cluster on a schedule that a seed draws, records what every client saw, and lets
//! the checker decide.
//!
//! The path of a run through the files:
//!
//! - [`options`]: what to run: engine, seed, length, which kinds of faults.
//! - [`cluster`]: two masters with their replicas and two routers, every one of them the real
//!   program, with a [`link`](mod@link) in front of each server for each router, and one in front of each
//!   router: a network that can be slow, one-way, cut or gone.
//! - [`schedule`]: which faults come when, a pure function of the seed; [`inject`] does them, and
//!   mends what it broke; [`handover`] lets slots change hands by SQL and
//!   [`moves`] by the command, [`failover`] replaces masters.
//! - [`workload`]: what a worker asks next, also drawn from the seed; [`worker`] asks it by
//!   [`calls`], single methods and batches or through the Rust client, keeps its session's tokens in
//!   [`sessions`], where others take them up, and writes each answer into the [`journal`].
//! - [`round`]: workers and faults at once, then everything mended, an [`audit`] by SQL, and the
//!   checker's verdict. A run is as many rounds as fit its time, on keys of their own; [`totals`]
//!   counts all of it.
//!
//! Beside it, without faults: [`overload`] asks ten times as much as a router can serve, [`soak`] uses
//! it for a long time; both by [`callers`], and look with [`gauge`] at what it takes. [`moving`]
//! measures what callers notice of moves.
//!
//! To add a consistency level, give [`workload::Level`] a variant and [`worker`] its request; to add
//! a fault, give [`schedule::Fault`] a variant and [`inject`] its deed.

pub mod audit;
pub mod callers;
pub mod calls;
pub mod cluster;
pub mod failover;
pub mod gauge;
pub mod handover;
pub mod inject;
pub mod journal;
pub mod link;
pub mod moves;
pub mod moving;
pub mod options;
pub mod overload;
pub mod round;
pub mod schedule;
pub mod sessions;
pub mod soak;
pub mod totals;
pub mod worker;
pub mod workload;

use rand::{
    RngExt as _, SeedableRng as _,
    rngs::{StdRng, SysRng},
};

pub use options::{Kind, Options};
pub use round::run;
pub use totals::Totals;

/// Whatever went wrong, in words.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What fails with words.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The seed that was given, or one that is short enough to be typed.
///
/// # Errors
/// If the system gives no random numbers.
pub fn seed(given: Option<u64>) -> Result<u64> {
    match given {
        Some(seed) => Ok(seed),
        None => Ok(StdRng::try_from_rng(&mut SysRng)?.random_range(0..1_000_000_000)),
    }
}
