//! `freehold shards`.

use clap::Args;
use freehold_proto::v1::{ServerRole, ShardInfo};
use serde_json::{Value, json};

use crate::{
    args::AdminArgs,
    exit::{Exit, Failure},
    output::{Output, human, table},
};

const EXAMPLES: &str = "\
Examples:
  freehold shards
  freehold shards --json | jq '.shards[] | {name, slots_owned}'";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ShardsArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) async fn run(args: ShardsArgs, output: Output) -> Result<Exit, Failure> {
    let shards = args.admin.connect().await?.list_shards().await?.shards;
    if output.is_json() {
        let shards: Vec<Value> = shards.iter().map(shard_json).collect();
        output.json(&json!({ "shards": shards }))?;
        return Ok(Exit::Done);
    }
    let headings = [
        "SHARD", "SLOTS", "TERM", "EPOCH", "QUEUED", "ROLE", "SERVER", "STATE",
    ];
    let mut table = table::table(&headings);
    for shard in &shards {
        for (index, server) in shard.servers.iter().enumerate() {
            // What is the shard's stands once, beside its first server.
            let own = |text: String| if index == 0 { text } else { String::new() };
            let state = if server.usable {
                "up"
            } else {
                server.reason.as_str()
            };
            table.add_row(vec![
                own(shard.name.clone()).into(),
                table::number(own(human::count(shard.slots_owned.into()))),
                table::number(own(shard.term.to_string())),
                table::number(own(shard.epoch.to_string())),
                table::number(own(human::count(shard.queued))),
                role(server.role()).into(),
                server.address.as_str().into(),
                table::status(state, server.usable),
            ]);
        }
    }
    output.line(&table::render(&table))?;
    Ok(Exit::Done)
}

fn role(role: ServerRole) -> &'static str {
    match role {
        ServerRole::Unspecified => "unknown",
        ServerRole::Master => "master",
        ServerRole::Replica => "replica",
    }
}

fn shard_json(shard: &ShardInfo) -> Value {
    json!({
        "name": shard.name,
        "slots_owned": shard.slots_owned,
        "term": shard.term,
        "epoch": shard.epoch,
        "queued": shard.queued,
        "servers": shard.servers.iter().map(|server| json!({
            "address": server.address,
            "role": role(server.role()),
            "usable": server.usable,
            "reason": server.reason,
        })).collect::<Vec<_>>(),
    })
}
