//! `freehold put`.

use std::{ffi::OsString, io::Read as _, time::Duration};

use bytes::Bytes;
use clap::Args;
use data_encoding::BASE64;
use freehold_core::limits::VALUE_BYTES_MAX;
use serde_json::json;

use crate::{
    args::{BytesArgs, RouterArgs},
    duration::parse_ttl,
    exit::{Exit, Failure},
    output::{Output, human},
};

const EXAMPLES: &str = "\
Examples:
  freehold put user:1 Ada
  freehold put session:9 token --ttl 30m
  freehold put photo:1 - < photo.jpg
  freehold put --hex 00ff00 cafe";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PutArgs {
    /// 1 to 1,024 bytes
    key: OsString,
    /// The value; - reads standard input, byte for byte
    #[arg(allow_hyphen_values = true)]
    value: OsString,
    /// How long the key lives: 30s, 1h30m, 500ms; without it for ever
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    ttl: Option<Duration>,
    #[command(flatten)]
    bytes: BytesArgs,
    #[command(flatten)]
    router: RouterArgs,
}

pub(crate) async fn run(args: PutArgs, output: Output) -> Result<Exit, Failure> {
    let key = args.bytes.decode(&args.key)?;
    let value = if args.value == "-" {
        read_input()?
    } else {
        args.bytes.decode(&args.value)?
    };
    let value_bytes = value.len() as u64;
    let reply = args
        .router
        .connect()
        .await?
        .put(key, value)
        .ttl(args.ttl)
        .await?;
    if output.is_json() {
        output.json(&json!({
            "version": reply.version.to_string(),
            "session_token": BASE64.encode(&reply.session_token),
        }))?;
    } else {
        let lives = args.ttl.map_or_else(
            || "never expires".to_owned(),
            |ttl| format!("expires in {}", human::duration(ttl)),
        );
        let version = human::version(reply.version);
        output.line(&format!(
            "stored {}, {lives}, version {version}",
            human::bytes(value_bytes)
        ))?;
    }
    Ok(Exit::Done)
}

fn read_input() -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    // One byte more than any value may have: the router then says what its own limit is.
    let bytes_max = VALUE_BYTES_MAX as u64 + 1;
    std::io::stdin()
        .lock()
        .take(bytes_max)
        .read_to_end(&mut value)
        .map_err(|error| Failure::io("cannot read standard input", error))?;
    Ok(value.into())
}
