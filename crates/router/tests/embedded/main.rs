//! The whole router over embedded shards, through its real listeners.

mod fixture;

mod batches;
mod fence;
mod limits;
mod pipeline;
mod scans;
mod singles;
