//! What to measure, and on how much.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use freehold_tests::Engine;

use crate::moving::rows::VALUE_BYTES_MIN;

/// Measures moves as their users see them, and says which goals they meet.
///
/// Exit code 0: every answer was right, no request failed and no row is missing. How fast it was is
/// printed, and decided by nobody.
#[derive(Debug, Clone, Parser)]
#[command(name = "moving", version)]
pub struct Options {
    /// Which database: mariadb or mysql.
    #[arg(long, default_value = "mariadb", value_parser = crate::options::engine)]
    pub engine: Engine,
    /// What all random choices begin with; drawn and printed if absent.
    #[arg(long)]
    pub seed: Option<u64>,
    /// What to measure; all if absent.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub parts: Vec<Part>,
    /// Rows that are loaded first.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    pub rows: u32,
    /// Bytes of each value, 16 to 1 MiB.
    #[arg(long, default_value_t = 1_024, value_parser = value_bytes)]
    pub value_bytes: usize,
    /// Callers that each have one request outstanding, at most.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub callers: u32,
    /// Requests per second of all callers.
    #[arg(long, default_value_t = 2_500, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// Rounds; medians of them are what counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// How long a turn without a move lasts, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Slots that move in a round.
    #[arg(long, default_value_t = 8_192, value_parser = clap::value_parser!(u16).range(1..=32_768))]
    pub slots: u16,
    /// Changes of owner of one slot.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub changes: u32,
    /// How much movers spare requests, instead of the default; 0: not at all.
    #[arg(long)]
    pub latency_factor_max: Option<f64>,
    /// The buffer pool of each server, in MiB.
    #[arg(long, default_value_t = 1_024)]
    pub buffer_pool_mib: u32,
    /// The folder for the figures, as JSON; made if it is not there.
    #[arg(long, default_value = "target/moving")]
    pub out: PathBuf,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Pauses of writes, and how long requests take, in turns without a move and with one.
    Rounds,
    /// How long it takes to fill a new shard, beside a dump.
    Filling,
    /// What callers that write to one slot wait while its owner changes.
    Changes,
}

impl Options {
    /// Whether it is to be measured.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

fn value_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok();
    let bytes = bytes.filter(|bytes| (VALUE_BYTES_MIN..=1 << 20).contains(bytes));
    bytes.ok_or_else(|| format!("use {VALUE_BYTES_MIN} to {}", 1 << 20))
}
