//! `freehold persist`.

use std::ffi::OsString;

use clap::Args;

use super::del::existed;
use crate::{
    args::{BytesArgs, RouterArgs},
    exit::{Exit, Failure},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  freehold persist session:9";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PersistArgs {
    /// 1 to 1,024 bytes
    key: OsString,
    #[command(flatten)]
    bytes: BytesArgs,
    #[command(flatten)]
    router: RouterArgs,
}

pub(crate) async fn run(args: PersistArgs, output: Output) -> Result<Exit, Failure> {
    let key = args.bytes.decode(&args.key)?;
    let reply = args.router.connect().await?.persist(key).await?;
    existed(output, reply.existed, &reply.session_token, "never expires")
}
