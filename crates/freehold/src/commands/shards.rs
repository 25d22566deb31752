//! `freehold shards`.

use std::time::Duration;

use clap::Args;
use freehold_proto::v1::{Fitness, Replication, ServerRole, ShardInfo};
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

/// What is shown of an age is rounded down to milliseconds, and it must not be less than it is.
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ShardsArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) async fn run(args: ShardsArgs, output: Output) -> Result<Exit, Failure> {
    let listed = args.admin.connect().await?.list_shards().await?;
    let (shards, refused) = (listed.shards, listed.config_refused);
    if output.is_json() {
        let shards: Vec<Value> = shards.iter().map(shard_json).collect();
        output.json(&json!({ "shards": shards, "config_refused": refused }))?;
        return Ok(Exit::Done);
    }
    let headings = [
        "SHARD",
        "SLOTS",
        "TERM",
        "EPOCH",
        "MOVING",
        "QUEUED",
        "ROLE",
        "SERVER",
        "STATE",
        "REPLICATION",
    ];
    let mut table = table::table(&headings);
    for shard in &shards {
        for (index, server) in shard.servers.iter().enumerate() {
            // What is the shard's stands once, beside its first server.
            let own = |text: String| if index == 0 { text } else { String::new() };
            let alarm = format!("ALARM: {}", server.alarm);
            let state = match (server.alarm.as_str(), server.usable) {
                ("", true) => "up",
                ("", false) => server.reason.as_str(),
                _ => &alarm,
            };
            table.add_row(vec![
                own(shard.name.clone()).into(),
                table::number(own(human::count(shard.slots_owned.into()))),
                table::number(own(shard.term.to_string())),
                table::number(own(shard.epoch.to_string())),
                own(moving(shard)).into(),
                table::number(own(human::count(shard.queued))),
                role(server.role()).into(),
                server.address.as_str().into(),
                table::status(state, server.usable),
                replication_words(server.replication.as_ref()).into(),
            ]);
        }
    }
    output.line(&table::render(&table))?;
    if !refused.is_empty() {
        output.line(&format!(
            "The router does not follow its config file as it is now: {refused}"
        ))?;
    }
    Ok(Exit::Done)
}

/// The slots of a shard that are on their way.
fn moving(shard: &ShardInfo) -> String {
    let mut words = Vec::new();
    for (slots, what) in [
        (shard.slots_outgoing, "leave"),
        (shard.slots_fenced, "take no writes now"),
        (shard.slots_incoming, "arrive"),
    ] {
        if slots > 0 {
            words.push(format!("{} {what}", human::count(slots.into())));
        }
    }
    words.join(", ")
}

/// How a replica follows its master, for people.
pub(super) fn replication_words(replication: Option<&Replication>) -> String {
    let Some(replication) = replication else {
        return String::new();
    };
    let word = fitness(replication.fitness());
    let staleness = staleness(replication).map_or_else(String::new, |staleness| {
        format!(", at most {} old", human::duration(staleness + MILLISECOND))
    });
    match replication.reason.as_str() {
        "" => format!("{word}{staleness}"),
        reason => format!("{word}: {reason}"),
    }
}

/// How a replica follows its master, for programs.
pub(super) fn replication_json(replication: Option<&Replication>) -> Value {
    replication.map_or(Value::Null, |replication| {
        json!({
            "fitness": fitness(replication.fitness()),
            "reason": replication.reason,
            "staleness": staleness(replication).map(|staleness| staleness.as_secs_f64()),
        })
    })
}

fn staleness(replication: &Replication) -> Option<Duration> {
    replication
        .staleness
        .and_then(|staleness| Duration::try_from(staleness).ok())
}

fn fitness(fitness: Fitness) -> &'static str {
    match fitness {
        Fitness::Unspecified => "unknown",
        Fitness::Follows => "follows",
        Fitness::OnlyEventual => "only eventual",
        Fitness::Astray => "astray",
        Fitness::Foreign => "foreign",
    }
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
        "slots_outgoing": shard.slots_outgoing,
        "slots_fenced": shard.slots_fenced,
        "slots_incoming": shard.slots_incoming,
        "queued": shard.queued,
        "servers": shard.servers.iter().map(|server| json!({
            "address": server.address,
            "role": role(server.role()),
            "usable": server.usable,
            "reason": server.reason,
            "alarm": server.alarm,
            "replication": replication_json(server.replication.as_ref()),
        })).collect::<Vec<_>>(),
    })
}
