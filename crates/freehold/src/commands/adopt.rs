//! `freehold adopt`.

use clap::Args;
use serde_json::json;

use crate::{
    args::AdminArgs,
    exit::{Exit, Failure},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  freehold adopt a      the promoted server of shard a may be written to from now on

Routers do it by themselves, unless the config says failover.adopt = \"manual\" or none of them has
seen the server read-only in the shard's current term. A server that still copies another one, or
that is not the only one to take writes, is not adopted by hand either.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AdoptArgs {
    /// The shard's name
    #[arg(value_name = "SHARD")]
    shard: String,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) async fn run(args: AdoptArgs, output: Output) -> Result<Exit, Failure> {
    let admin = args.admin.connect().await?;
    let address = admin.adopt(&args.shard).await?.address;
    if output.is_json() {
        output.json(&json!({ "shard": args.shard, "address": address }))?;
    } else {
        output.line(&format!("{address} leads shard {}", args.shard))?;
    }
    Ok(Exit::Done)
}
