//! Sweeping of real MariaDB and MySQL shards: what is due goes, what lives stays, and nobody
//! notices.

mod account;
mod faults;
mod one_per_shard;
mod revived;
mod shard;
mod writers;
