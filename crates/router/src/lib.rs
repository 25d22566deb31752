//! The stateless router.
//!
//! The path of a request, in the order of the files: [`server`] accepts it, on one of its
//! callers' [`connections`] that will [`linger`] at its end, [`admission`] lets it in if the router's [`budget`]s have room,
//! [`service`] decodes it ([`unread`] explains where that fails),
//! [`validate`] checks every limit, [`calls`] gives it a deadline, [`shards`] finds its owner in the
//! map and its lane's [`queue`] (where the owner changes, requests wait there for the new one, and a
//! [`handover`] keeps writes in order); the [`lane`] has its next [`batch`] cut, sends it as one statement, and answers each [`request`];
//! [`status`] says failures in gRPC's terms.
//!
//! Beside it run one [`watch`] per server, which shows what replicas may be used for ([`fitness`],
//! [`beat_times`]; [`sightings`] keeps it, and reads may [`waits`] for more), one [`map_loader`] per
//! shard, which finds the server that leads it by the rules of [`leadership`], [`health`],
//! [`metrics`] and [`gauges`], and the
//! [`admin`] service, which steers sweepers and [`movers`]. [`router`] builds all of it from
//! [`settings`]; the [`roster`] adds and takes away shards and servers while it runs (in lists that
//! each [`grows`]), and [`reloads`] says what came of that.

pub mod admin;
pub mod admission;
pub mod backoff;
pub mod batch;
pub mod beat_times;
pub mod budget;
#[cfg(test)]
mod bytes_tests;
pub mod calls;
pub mod connections;
pub mod deadline;
pub mod failure;
pub mod fitness;
pub mod gauges;
pub mod grows;
pub mod handover;
pub mod health;
pub mod history;
pub mod lane;
pub mod leadership;
pub mod linger;
pub mod map_loader;
pub mod metrics;
pub mod movers;
pub mod page_token;
pub mod queue;
pub mod reloads;
pub mod replica;
pub mod request;
pub mod roster;
pub mod router;
pub mod server;
pub mod service;
pub mod settings;
pub mod shards;
pub mod sightings;
pub mod status;
pub mod unread;
pub mod validate;
pub mod versions;
pub mod waits;
pub mod watch;

pub use admin::Sweepers;
pub use movers::Movers;
pub use roster::{Changes, Obstacle, Roster};
pub use router::{Router, ShardSpec};
pub use server::{Listeners, serve};
pub use settings::RouterSettings;
