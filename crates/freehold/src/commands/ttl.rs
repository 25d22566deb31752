//! `freehold ttl`.

use std::ffi::OsString;

use clap::Args;
use serde_json::json;

use super::get::{served_json, served_words};
use crate::{
    args::{BytesArgs, ReadArgs, RouterArgs},
    duration::seconds_of_ttl,
    exit::{Exit, Failure},
    output::{Output, dim, human},
};

const EXAMPLES: &str = "\
Examples:
  freehold ttl session:9
  freehold ttl session:9 --json              the same in seconds";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TtlArgs {
    /// 1 to 1,024 bytes
    key: OsString,
    #[command(flatten)]
    bytes: BytesArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    router: RouterArgs,
}

pub(crate) async fn run(args: TtlArgs, output: Output) -> Result<Exit, Failure> {
    let key = args.bytes.decode(&args.key)?;
    let reply = args
        .router
        .connect()
        .await?
        .ttl(key)
        .consistency(args.read.consistency.clone())
        .await?;
    if output.is_json() {
        output.json(&json!({
            "found": reply.found,
            "ttl": reply.ttl.map(seconds_of_ttl),
            "served": served_json(&reply.served),
        }))?;
    } else if reply.found {
        output.line(&human::ttl(reply.ttl))?;
        if console::user_attended() {
            output.line(&dim(&served_words(&reply.served)))?;
        }
    } else {
        output.note("not found");
    }
    Ok(if reply.found {
        Exit::Done
    } else {
        Exit::NotFound
    })
}
