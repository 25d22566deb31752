//! `freehold expire`.

use std::{ffi::OsString, time::Duration};

use clap::Args;

use super::del::existed;
use crate::{
    args::{BytesArgs, RouterArgs},
    duration::parse_ttl,
    exit::{Exit, Failure},
    output::{Output, human},
};

const EXAMPLES: &str = "\
Examples:
  freehold expire session:9 30m
  freehold expire session:9 500ms";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExpireArgs {
    /// 1 to 1,024 bytes
    key: OsString,
    /// How long the key lives from now: 30s, 1h30m, 500ms
    #[arg(value_parser = parse_ttl)]
    ttl: Duration,
    #[command(flatten)]
    bytes: BytesArgs,
    #[command(flatten)]
    router: RouterArgs,
}

pub(crate) async fn run(args: ExpireArgs, output: Output) -> Result<Exit, Failure> {
    let key = args.bytes.decode(&args.key)?;
    let reply = args.router.connect().await?.expire(key, args.ttl).await?;
    let done = format!("expires in {}", human::duration(args.ttl));
    existed(output, reply.existed, &reply.session_token, &done)
}
