//! What MySQL and MariaDB connections promise beyond what every engine does: accounts, TLS,
//! packets, and the truth about a write when its connection breaks.

#[macro_use(on_servers)]
extern crate freehold_tests;

mod accounts;
mod broken;
mod contention;
mod facts;
mod packets;
mod shard;
mod tls;
mod writers;
