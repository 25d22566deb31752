//! What `rebalance` and `drain` are told.

use clap::{Args, ValueEnum};
use freehold_router::movers::{EvenBy, Spread, Wish};

use super::carry::CarryArgs;
use crate::{
    exit::{Exit, Failure},
    output::Output,
};

/// What is to be even.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Numbers of slots, which hold about as many keys each
    Slots,
    /// Bytes of keys and values: reads every row once
    Bytes,
}

/// What both commands are told.
#[derive(Debug, Args)]
pub(crate) struct SpreadArgs {
    /// What is to be even
    #[arg(long, value_enum, default_value = "slots")]
    by: By,
    /// How much a shard shall have beside the others, which have 1; 0: nothing
    #[arg(long = "weight", value_name = "SHARD=NUMBER", value_parser = parse_weight)]
    weights: Vec<(String, u32)>,
    #[command(flatten)]
    carry: CarryArgs,
}

fn parse_weight(text: &str) -> Result<(String, u32), String> {
    let parts = text.split_once('=');
    let parts = parts.and_then(|(name, weight)| Some((name.to_owned(), weight.parse().ok()?)));
    parts.ok_or_else(|| "write SHARD=NUMBER, such as c=2".to_owned())
}

impl SpreadArgs {
    /// Carries out what is wished of such a spread.
    pub(crate) async fn carry_out(
        self,
        wish: impl FnOnce(Spread) -> Wish,
        output: Output,
    ) -> Result<Exit, Failure> {
        let by = match self.by {
            By::Slots => EvenBy::Slots,
            By::Bytes => EvenBy::Bytes,
        };
        let wish = wish(Spread {
            by,
            weights: self.weights,
        });
        let nothing = "nothing to move: the shards have what they shall have";
        self.carry.carry_out(&wish, nothing, output).await
    }
}
