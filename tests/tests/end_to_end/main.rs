//! The program as its users run it: `freehold` on real servers, broken in the ways of real life.
//!
//! A scene is a [`scene::Cluster`]. What is asked of it goes through Freehold's client
//! ([`load`], which remembers how each write ended), or through plain gRPC ([`wire`]) where a test
//! is about statuses. Whether the store agrees is decided by [`history`], which knows nothing of
//! Freehold's code, and by SQL ([`table`]).

#[macro_use(on_servers)]
extern crate freehold_tests;

mod abandoned;
mod audit;
mod bad_config;
mod by_router;
mod commands;
mod drain;
mod drain_hard;
mod exit_codes;
mod export;
mod failover;
mod fence;
mod first_start;
mod floods;
mod fragments;
mod hanging;
mod history;
mod init_once;
mod init_shard;
mod init_unfit;
mod isolation;
mod kill_router;
mod late_server;
mod load;
mod memory;
mod mending;
mod moves;
mod moving;
mod observed;
mod overtaking;
mod pace;
mod packages;
mod pushed_back;
mod rebalance;
mod reload;
mod replicas;
mod scene;
mod sick;
mod silence;
mod table;
mod tls;
mod wire;
mod wrong_master;
