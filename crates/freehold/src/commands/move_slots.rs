//! `freehold move`.

use clap::Args;
use freehold_core::SlotSet;
use freehold_router::movers::Wish;

use super::moving::carry::CarryArgs;
use crate::{
    exit::{Exit, Failure},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  freehold move --slots 0-4095 --to c --dry-run
  freehold move --slots 0-4095,7000 --to c                           the router moves, this watches
  freehold move --slots 7 --to c --admin router-2:7421 --yes
  freehold move --config freehold.toml --slots 0-4095 --to c         do so here, without a router

The slots are served throughout: reads go on, and writes to slots that change hands wait for some
milliseconds in the routers. Every row is compared before its slot has a new owner.

A router moves with the account of its [mover], which needs to write all of Freehold's tables. Ctrl-C
ends the watching only: freehold moves shows the move, and takes it back with --cancel. If the router
dies, another one goes on.

With --config this command moves, as that account or --user. Ctrl-C stops a move in order then, and it
waits for freehold moves --resume or --cancel. If the command is killed, a router goes on.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MoveArgs {
    /// Which slots: numbers and ranges, with commas in between
    #[arg(long, value_name = "SLOTS")]
    slots: SlotSet,
    /// The shard that is to own them
    #[arg(long, value_name = "SHARD")]
    to: String,
    #[command(flatten)]
    carry: CarryArgs,
}

pub(crate) async fn run(args: MoveArgs, output: Output) -> Result<Exit, Failure> {
    let nothing = format!("'{}' owns them already", args.to);
    let wish = Wish::Gather {
        slots: args.slots,
        target: args.to,
    };
    args.carry.carry_out(&wish, &nothing, output).await
}
