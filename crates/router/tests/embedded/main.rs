//! The whole router over embedded shards, through its real listeners.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod fixture;

mod batches;
mod fence;
mod large_values;
mod limits;
mod overload;
mod pipeline;
mod scans;
mod silence;
mod singles;
