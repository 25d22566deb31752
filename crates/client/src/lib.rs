//! The Rust client: typed calls with a deadline each, and outcomes that never share a variant.
//!
//! In the order of a call: [`connect`] opens a channel under [`ClientOptions`], [`client`] has a
//! method for each of `KeyValue`'s, in the words of [`types`], and [`error`] is what can come of
//! them. [`pipeline`] keeps many requests in flight on one stream, [`scan`] walks keys, and
//! [`admin`] asks a router about its cluster.
//!
//! A write ends in one of three ways: `Ok`, [`Error::OutcomeUnknown`], and any other error, which
//! proves that nothing was applied. The client repeats nothing by itself.

pub mod admin;
pub mod client;
pub mod connect;
pub mod error;
pub mod pipeline;
pub mod scan;
pub mod types;

pub use admin::AdminClient;
pub use client::Client;
pub use connect::{ClientOptions, ConnectError};
pub use error::Error;
pub use pipeline::{Pipeline, Request, Response};
pub use scan::{Scan, ScanOptions};
/// gRPC's status codes, as they stand in [`Error::Refused`].
pub use tonic::Code;
pub use types::{
    Consistency, DeleteReply, Entry, ExpireReply, GetReply, PutReply, Served, Source, TtlReply,
    Write, WriteReply,
};
