//! The stateless router.
//!
//! The path of a request, in the order of the files: [`server`] accepts it, on one of its
//! callers' [`connections`] that will [`linger`] at its end, [`admission`] lets it in if the router's [`budget`]s have room,
//! [`service`] decodes it ([`unread`] explains where that fails),
//! [`validate`] checks every limit, [`calls`] gives it a deadline, [`shards`] finds its owner in the
//! map and its lane's [`queue`] (where the owner changes, a [`handover`] keeps writes in order); the
//! [`lane`] has its next [`batch`] cut, sends it as one statement, and answers each [`request`];
//! [`status`] says failures in gRPC's terms.
//!
//! Beside it run one [`map_loader`] per shard, [`health`], [`metrics`] and [`gauges`], and the
//! [`admin`] service. [`router`] builds all of it from [`settings`].

pub mod admin;
pub mod admission;
pub mod backoff;
pub mod batch;
pub mod budget;
pub mod calls;
pub mod connections;
pub mod deadline;
pub mod failure;
pub mod gauges;
pub mod handover;
pub mod health;
pub mod lane;
pub mod linger;
pub mod map_loader;
pub mod metrics;
pub mod page_token;
pub mod queue;
pub mod replica;
pub mod request;
pub mod router;
pub mod server;
pub mod service;
pub mod settings;
pub mod shards;
pub mod status;
pub mod unread;
pub mod validate;
pub mod versions;

pub use admin::Sweepers;
pub use router::{Router, ShardSpec};
pub use server::{Listeners, serve};
pub use settings::RouterSettings;
