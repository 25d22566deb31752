//! `freehold explain`.

use std::{ffi::OsString, time::Duration};

use clap::Args;
use freehold_core::SLOTS;
use freehold_proto::v1::{ExplainResponse, RowInfo};
use serde_json::{Map, Value, json};

use super::shards::{replication_json, replication_words};
use crate::{
    args::{AdminArgs, BytesArgs},
    duration::seconds_of_ttl,
    exit::{Exit, Failure},
    output::{Output, bold, bytes, human},
};

const EXAMPLES: &str = "\
Examples:
  freehold explain user:1
  freehold explain '{user:1}:cart'           the tag in braces decides the slot";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// 1 to 1,024 bytes
    key: OsString,
    #[command(flatten)]
    bytes: BytesArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) async fn run(args: ExplainArgs, output: Output) -> Result<Exit, Failure> {
    let key = args.bytes.decode(&args.key)?;
    let way = args.admin.connect().await?.explain(key.clone()).await?;
    if output.is_json() {
        output.json(&json(&key, &way))?;
        return Ok(Exit::Done);
    }
    let encoding = args.bytes.encoding();
    let line =
        |what: &str, text: String| output.line(&format!("{} {text}", bold(&format!("{what:<9}"))));
    line(
        "key",
        format!(
            "{} ({})",
            encoding.encode_line(&key),
            human::bytes(key.len() as u64)
        ),
    )?;
    let whole = if way.tag == key {
        " (the whole key)"
    } else {
        " (in braces)"
    };
    line("tag", format!("{}{whole}", encoding.encode_line(&way.tag)))?;
    line("hash", format!("{:016x} (XXH3_64 of the tag)", way.hash))?;
    line(
        "slot",
        format!("{} of {SLOTS} (the first 16 bits of the hash)", way.slot),
    )?;
    if way.shard.is_empty() {
        line("shard", format!("none: the slot is {}", way.slot_state))?;
    } else {
        let state = format!(
            "{} ({}, slot_epoch {})",
            way.shard, way.slot_state, way.slot_epoch
        );
        line("shard", state)?;
        line("fence", format!("term {}, epoch {}", way.term, way.epoch))?;
        line("master", way.master.clone())?;
        line(
            "lanes",
            format!(
                "reads: {} waiting; writes: {} waiting",
                way.reads_waiting, way.writes_waiting
            ),
        )?;
    }
    for replica in &way.replicas {
        let usable = if replica.usable {
            "usable"
        } else {
            "not usable"
        };
        let next = if replica.next {
            ", next for an EVENTUAL read"
        } else {
            ""
        };
        let reason = if replica.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", replica.reason)
        };
        line(
            "replica",
            format!("{} ({usable}{next}{reason})", replica.address),
        )?;
        line(
            "replication",
            replication_words(replica.replication.as_ref()),
        )?;
    }
    line("row", row_words(&way))?;
    Ok(Exit::Done)
}

fn row_words(way: &ExplainResponse) -> String {
    let Some(row) = &way.row else {
        return if way.row_error.is_empty() {
            "none".to_owned()
        } else {
            format!("could not be looked at: {}", way.row_error)
        };
    };
    let size = human::bytes(row.value_bytes);
    let version = human::version(row.version);
    if row.live {
        format!("live, {size}, {}, version {version}", human::ttl(ttl(row)))
    } else {
        format!("deleted or expired, not swept yet, {size}, version {version}")
    }
}

fn ttl(row: &RowInfo) -> Option<Duration> {
    row.ttl.and_then(|ttl| Duration::try_from(ttl).ok())
}

fn json(key: &[u8], way: &ExplainResponse) -> Value {
    let mut object = Map::new();
    bytes::insert(&mut object, "key", key);
    bytes::insert(&mut object, "tag", &way.tag);
    let rest = json!({
        "hash": format!("{:016x}", way.hash),
        "slot": way.slot,
        "shard": way.shard,
        "slot_state": way.slot_state,
        "slot_epoch": way.slot_epoch,
        "term": way.term,
        "epoch": way.epoch,
        "master": way.master,
        "reads_waiting": way.reads_waiting,
        "writes_waiting": way.writes_waiting,
        "replicas": way.replicas.iter().map(|replica| json!({
            "address": replica.address,
            "usable": replica.usable,
            "reason": replica.reason,
            "next": replica.next,
            "replication": replication_json(replica.replication.as_ref()),
        })).collect::<Vec<_>>(),
        "row": way.row.as_ref().map(|row| json!({
            "live": row.live,
            "version": row.version.to_string(),
            "ttl": ttl(row).map(seconds_of_ttl),
            "value_bytes": row.value_bytes,
        })),
        "row_error": way.row_error,
    });
    if let Value::Object(rest) = rest {
        object.extend(rest);
    }
    object.into()
}
