//! Reads are exactly as fresh as they ask to be, whatever happens to replication meanwhile.
//!
//! A [`scene::Cluster`] has two shards with two replicas each, and two routers. [`lags`] makes its
//! replicas lag in every way that replication knows; what is read is judged by what the readers
//! wrote themselves, and by their own clock.
//!
//! Each test prints what it asked for, under which faults, with which seed, and who answered. CI
//! makes a share of the reads; all of them take one command:
//!
//! ```text
//! FREEHOLD_TEST_READS=1000000 FREEHOLD_TEST_SEED=1 tests/run nextest -- -E 'binary(consistency)'
//! ```

#[macro_use(on_servers)]
extern crate freehold_tests;

mod faults;
mod figures;
mod lags;
mod lost;
mod scene;
mod shares;
mod states;
