//! Deletes the expired and deleted rows of a shard in small batches, one sweeper per shard among
//! any number of routers.
//!
//! From the outside in: [`Sweeper::spawn`] starts one, in [`settings`]; its [`handle`] shows the
//! [`state`] and steers it. Inside, `background` runs the ticks of a `task`. A tick opens a
//! connection if it has none (`connection`), keeps the `lease`, looks whether it must wait
//! (`waiting`, with what `lookout` saw of the replicas and the purge), and then reads and deletes
//! one batch, as large and as long after the one before as `pace` says. [`metrics`] count it. Which
//! server of the shard is swept, it is told anew at each tick.
//!
//! A batch cannot harm: the storage looks at the fence and at each row's expiry again, under the
//! row's lock, before it deletes. The lease keeps several routers from doing the same work; should
//! two ever believe to have it (a machine that was suspended), they delete only what is due.

mod background;
mod connection;
pub mod handle;
mod lease;
mod lookout;
pub mod metrics;
mod pace;
pub mod settings;
pub mod state;
mod task;
pub mod waiting;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod task_tests;

pub use connection::Leader;
pub use freehold_storage::sweep::Holder;
pub use handle::{DueRows, Sweeper, SweeperHandle};
pub use metrics::SweeperMetrics;
pub use settings::{SettingsError, SweeperSettings};
pub use state::{LastError, SweeperState};
pub use waiting::Waiting;
