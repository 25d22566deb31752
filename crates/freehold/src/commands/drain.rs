//! `freehold drain`.

use clap::Args;
use freehold_router::movers::Wish;

use super::moving::spread::SpreadArgs;
use crate::{
    exit::{Exit, Failure},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  freehold drain a --dry-run
  freehold drain a
  freehold drain a --config freehold.toml            do so here, without a router

It moves all slots of the shard to the others, each to the one that has the least for its weight.
Then the shard can be taken out of the config; routers follow without a restart. Slots are served
throughout, as with freehold move, and by whom they are moved and what Ctrl-C does is as there. Ended
early, it goes on from there when it is run again.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DrainArgs {
    /// The shard that is to be empty
    #[arg(value_name = "SHARD")]
    shard: String,
    #[command(flatten)]
    spread: SpreadArgs,
}

pub(crate) async fn run(args: DrainArgs, output: Output) -> Result<Exit, Failure> {
    let shard = args.shard;
    let wish = |spread| Wish::Drain { shard, spread };
    args.spread.carry_out(wish, output).await
}
