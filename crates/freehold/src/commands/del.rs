//! `freehold del`.

use std::ffi::OsString;

use clap::Args;
use data_encoding::BASE64;
use serde_json::json;

use crate::{
    args::{BytesArgs, RouterArgs},
    exit::{Exit, Failure},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  freehold del user:1
  freehold del user:1 || echo 'it was not there'";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DelArgs {
    /// 1 to 1,024 bytes
    key: OsString,
    #[command(flatten)]
    bytes: BytesArgs,
    #[command(flatten)]
    router: RouterArgs,
}

pub(crate) async fn run(args: DelArgs, output: Output) -> Result<Exit, Failure> {
    let key = args.bytes.decode(&args.key)?;
    let reply = args.router.connect().await?.delete(key).await?;
    existed(output, reply.existed, &reply.session_token, "deleted")
}

/// The answer of a write that may have found nothing to change.
pub(crate) fn existed(
    output: Output,
    existed: bool,
    session_token: &[u8],
    done: &str,
) -> Result<Exit, Failure> {
    if output.is_json() {
        output.json(&json!({
            "existed": existed,
            "session_token": BASE64.encode(session_token),
        }))?;
    } else if existed {
        output.line(done)?;
    } else {
        output.note("not found");
    }
    Ok(if existed { Exit::Done } else { Exit::NotFound })
}
