//! `freehold get`.

use std::ffi::OsString;

use clap::Args;
use freehold_client::{Entry, Served, Source};
use serde_json::{Map, Value, json};

use super::shards::MILLISECOND;
use crate::{
    args::{BytesArgs, ReadArgs, RouterArgs},
    duration::seconds_of_ttl,
    exit::{Exit, Failure},
    output::{Output, bytes, dim, human},
};

const EXAMPLES: &str = "\
Examples:
  freehold get user:1
  freehold get photo:1 --raw > photo.jpg
  freehold get user:1 --consistency eventual --json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GetArgs {
    /// 1 to 1,024 bytes
    key: OsString,
    /// Write the value's bytes and nothing else, no line end either
    #[arg(long, conflicts_with_all = ["hex", "base64"])]
    raw: bool,
    #[command(flatten)]
    bytes: BytesArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    router: RouterArgs,
}

pub(crate) async fn run(args: GetArgs, output: Output) -> Result<Exit, Failure> {
    output.refuse_json_with(args.raw, "--raw")?;
    let key = args.bytes.decode(&args.key)?;
    let reply = args
        .router
        .connect()
        .await?
        .get(key.clone())
        .consistency(args.read.consistency.clone())
        .await?;
    if output.is_json() {
        let mut object = Map::new();
        bytes::insert(&mut object, "key", &key);
        object.insert("found".to_owned(), reply.entry.is_some().into());
        if let Some(entry) = &reply.entry {
            bytes::insert(&mut object, "value", &entry.value);
            object.insert("version".to_owned(), entry.version.to_string().into());
            object.insert("ttl".to_owned(), entry.ttl.map(seconds_of_ttl).into());
        }
        object.insert("served".to_owned(), served_json(&reply.served));
        output.json(&object.into())?;
    }
    let Some(entry) = reply.entry else {
        if !output.is_json() {
            output.note("not found");
        }
        return Ok(Exit::NotFound);
    };
    if args.raw {
        output.bytes(&entry.value)?;
    } else if !output.is_json() {
        show(&args, &entry, &reply.served, output)?;
    }
    Ok(Exit::Done)
}

fn show(args: &GetArgs, entry: &Entry, served: &Served, output: Output) -> Result<(), Failure> {
    let shown = args.bytes.encoding().encode(&entry.value);
    output.line(&shown)?;
    if console::user_attended() {
        let ttl = human::ttl(entry.ttl);
        let size = human::bytes(entry.value.len() as u64);
        output.line(&dim(&format!("{size}, {ttl}, {}", served_words(served))))?;
    }
    let as_it_is = shown.as_bytes() == &entry.value[..];
    if !as_it_is && args.bytes.encoding() == bytes::Encoding::Text {
        output.note("the value is not plain text: --raw, --hex or --base64 show it whole");
    }
    Ok(())
}

/// Who answered, for programs.
pub(crate) fn served_json(served: &Served) -> Value {
    json!({
        "shard": served.shard,
        "source": source_word(served.source),
        "staleness": served.staleness.map(|staleness| staleness.as_secs_f64()),
    })
}

/// Who answered, for people.
pub(crate) fn served_words(served: &Served) -> String {
    let staleness = match served.staleness {
        Some(staleness) if staleness.is_zero() => String::new(),
        Some(staleness) => format!(", at most {} old", human::duration(staleness + MILLISECOND)),
        None => ", of unknown age".to_owned(),
    };
    format!(
        "from the {} of shard {}{staleness}",
        source_word(served.source),
        served.shard
    )
}

fn source_word(source: Source) -> &'static str {
    match source {
        Source::Unknown => "unknown",
        Source::Master => "master",
        Source::Replica => "replica",
    }
}
