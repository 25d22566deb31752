//! The Rust client of Freehold.
//!
//! ```
//! # freehold_tests::doctest(async |address| {
//! use freehold_client::{Client, ClientOptions};
//! use std::time::Duration;
//!
//! // One per program: clones are cheap and share it. Several routers stand between commas.
//! let client = Client::connect(address, &ClientOptions::default()).await?;
//!
//! client.put("user:1", "Ada").ttl(Duration::from_secs(3_600)).await?;
//! let reply = client.get("user:1").await?;
//! assert_eq!(reply.value().unwrap(), "Ada");
//! assert!(client.delete("user:1").await?.existed);
//! # Ok(()) });
//! ```
//!
//! # Many callers, few streams
//!
//! All callers of a client share a few streams ([`ClientOptions::streams`]), each to one router.
//! What is asked at the same time goes out in one packet, so a thousand callers cost far less than
//! a thousand times one. A call is a future that borrows nothing:
//!
//! ```
//! # freehold_tests::doctest(async |address| {
//! # use freehold_client::*;
//! # let client = Client::connect(address, &ClientOptions::default()).await?;
//! let mut calls = tokio::task::JoinSet::new();
//! for number in 0..100 {
//!     calls.spawn(client.put(format!("user:{number}"), "Ada"));
//! }
//! while let Some(reply) = calls.join_next().await {
//!     reply??;
//! }
//! # Ok(()) });
//! ```
//!
//! # What became of a write
//!
//! A write ends in one of three ways, and an application that keeps money in here has to tell them
//! apart: `Ok` means applied and durable, [`Error::OutcomeUnknown`] means perhaps, and every other
//! error proves that nothing was applied.
//!
//! ```
//! # freehold_tests::doctest(async |address| {
//! # use freehold_client::*;
//! # let client = Client::connect(address, &ClientOptions::default()).await?;
//! match client.put("balance:7", "100").await {
//!     Ok(reply) => println!("stored as version {}", reply.version),
//!     // Read before you repeat it: a repeat can undo what somebody else wrote in between.
//!     Err(Error::OutcomeUnknown { message }) => println!("perhaps: {message}"),
//!     Err(other) => println!("not applied: {other}"),
//! }
//! # Ok(()) });
//! ```
//!
//! # What is tried again
//!
//! Until the call's deadline, within [`RetryOptions`], and with growing, random pauses:
//!
//! - any call that never left this process;
//! - reads whose answer was lost, or that a router could not answer;
//! - writes that a router says it did not apply and may be tried again: because it shuts down (the
//!   call goes to another router at once), because a shard was not available, or because a queue
//!   was full.
//!
//! Never a write whose outcome is unknown. [`RetryOptions::never`] turns all of it off.
//!
//! # In which order
//!
//! Calls to one key of one client (and to all keys with the same `{tag}`) go the same way, in the
//! order in which they are first polled, and writes to one key are applied in it, awaited or not.
//! Trying again does not break that: a write that would come after a later one to the same key is
//! not sent again, but ends as not applied. A read sees every write whose answer has come, not
//! necessarily one that is still under way. Batches and scans go ways of their own: await what they
//! must come after.
//!
//! # Deadlines
//!
//! A call ends by its deadline, whatever happens: [`ClientOptions::timeout`], or
//! [`Call::timeout`]. The deadline travels with each request, and the router answers a margin (a
//! tenth, 100 ms at most) before it, so that the truth arrives. A router that is older than the
//! `timeout` field of a pipeline's requests keeps to its own limit; a write that is not answered by
//! the deadline is then unknown a little more often.
//!
//! # Routers come and go
//!
//! A router that fails or shuts down is left alone for a while, longer with each failure, and its
//! streams move to others; once it is back, streams that prefer it return within
//! [`ClientOptions::refresh_interval`]. Names are resolved again in the same interval, and as soon
//! as a connection breaks.
//!
//! # The path of a call
//!
//! [`client`] has a method for each of `KeyValue`'s, in the words of [`types`]; each makes a
//! [`Call`] ([`call`]) out of a request. The call goes into the `table` of a `pipe`, whose tasks
//! keep a stream to one of the `routers` open, and comes back as a reply or an [`error`]; `retry`
//! decides what is sent again. [`batch`] and [`scan`] are gRPC calls of their own, through `unary`.
//! [`address`] and [`connect`] lead to a router, under [`options`]. [`admin`] asks one about its
//! cluster.

pub mod address;
pub mod admin;
pub mod batch;
pub mod call;
pub mod client;
pub mod connect;
pub mod error;
pub mod options;
mod pipe;
mod retry;
mod routers;
pub mod scan;
mod session;
mod table;
pub mod types;
mod unary;

pub use address::Resolve;
pub use admin::AdminClient;
pub use batch::{BatchGet, BatchWrite};
pub use call::Call;
pub use client::Client;
pub use connect::ConnectError;
pub use error::Error;
pub use options::{ClientOptions, RetryOptions};
pub use scan::{Scan, ScanOptions};
pub use session::{Session, Written};
/// gRPC's status codes, as they stand in [`Error::Refused`].
pub use tonic::Code;
pub use types::{
    Consistency, DeleteReply, Entry, ExpireReply, GetReply, PutReply, Served, Source, TtlReply,
    Write, WriteReply,
};
