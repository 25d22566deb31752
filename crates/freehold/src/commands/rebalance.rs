//! `freehold rebalance`.

use clap::Args;
use freehold_router::movers::Wish;

use super::moving::spread::SpreadArgs;
use crate::{
    exit::{Exit, Failure},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  freehold rebalance --dry-run
  freehold rebalance --weight c=2
  freehold rebalance --by bytes --yes
  freehold rebalance --config freehold.toml          do so here, without a router

It moves as few slots as it takes for every shard to have its share, by weight, to within one slot.
Slots are served throughout, as with freehold move, and by whom they are moved and what Ctrl-C does is
as there. Ended early, it goes on from there when it is run again.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RebalanceArgs {
    #[command(flatten)]
    spread: SpreadArgs,
}

pub(crate) async fn run(args: RebalanceArgs, output: Output) -> Result<Exit, Failure> {
    args.spread.carry_out(Wish::Rebalance, output).await
}
