//! Freehold's client against real routers that come and go.
//!
//! The routers serve embedded shards of their own, so which one answered is seen by what it has.

mod bench_command;
mod deadlines;
mod order;
mod routers;
mod scene;
