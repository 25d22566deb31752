//! `freehold init`.

use clap::Args;
use rand::Rng as _;
use serde_json::json;

use super::{Site, open_site, random};
use crate::{
    args::{AccountArgs, ConfigArgs},
    cluster::{
        ClusterError,
        init::init,
        join::add_shard,
        plan::{Join, PlanError, ranges},
    },
    exit::{Exit, Failure},
    output::{Output, human, table},
};

const EXAMPLES: &str = "\
Examples:
  freehold init --config freehold.toml
  freehold init --config freehold.toml --user schema --password-env SCHEMA_PASSWORD
  freehold init --config freehold.toml --shard c       a shard that is new in the config

Run it once. It creates tables, a view of live rows and the fence on every master, and deals out
the 65,536 slots evenly, in the order of the config. Where it was interrupted, run it again. It
refuses, before it changes anything, where a slot has an owner already, where tables are of another
version, and where a server is unfit (see `freehold doctor`).

With --shard it makes one more shard ready, for a cluster that has its slots already: tables and the
fence of the same cluster, and no slot, which routers with that config serve beside the others. Its
database must be empty. Slots come to it when they are moved there.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InitArgs {
    /// Succeed where every shard is initialised already, for scripts that run it each time
    #[arg(long)]
    if_needed: bool,
    /// Make this shard of the config ready, empty, for the cluster of the others
    #[arg(long, value_name = "NAME", requires = "config")]
    shard: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    account: AccountArgs,
}

pub(crate) async fn run(args: InitArgs, output: Output) -> Result<Exit, Failure> {
    let mut random = random()?;
    let Site {
        shards,
        wanted,
        lock: _lock,
        ..
    } = open_site(&args.config, Some(&args.account), 1, true, &mut random)?;
    if let Some(name) = &args.shard {
        let joined = add_shard(&shards, name, &wanted).await;
        return tell_joined(joined, name, args.if_needed, output);
    }
    let done = match init(&shards, &wanted, random.next_u64()).await {
        Err(ClusterError::Plan(error @ PlanError::Finished { .. })) if args.if_needed => {
            output.note(&error.to_string());
            return Ok(Exit::Done);
        }
        done => done?,
    };
    if output.is_json() {
        let shards: Vec<_> = shards
            .iter()
            .zip(&done.steps)
            .map(|(shard, step)| {
                json!({
                    "shard": shard.name,
                    "server": shard.master.address(),
                    "first_slot": step.share.start(),
                    "last_slot": step.share.end(),
                    "was_finished": step.finished,
                })
            })
            .collect();
        let cluster_id = format!("{:016x}", done.cluster_id);
        output.json(&json!({ "cluster_id": cluster_id, "shards": shards }))?;
        return Ok(Exit::Done);
    }
    let mut table = table::table(&["SHARD", "MASTER", "SLOTS", "", "STATE"]);
    for (shard, step) in shards.iter().zip(&done.steps) {
        table.add_row(vec![
            shard.name.as_str().into(),
            shard.master.address().into(),
            table::number(human::count(step.share.len() as u64)),
            ranges(std::slice::from_ref(&step.share)).into(),
            table::status(
                if step.finished {
                    "was finished before"
                } else {
                    "initialised"
                },
                true,
            ),
        ]);
    }
    output.line(&table::render(&table))?;
    output.line(&format!(
        "cluster {:016x} is ready: freehold serve",
        done.cluster_id
    ))?;
    Ok(Exit::Done)
}

fn tell_joined(
    joined: Result<Join, ClusterError>,
    name: &str,
    if_needed: bool,
    output: Output,
) -> Result<Exit, Failure> {
    let cluster_id = match joined {
        Err(ClusterError::Plan(error @ PlanError::Joined { .. })) if if_needed => {
            output.note(&error.to_string());
            return Ok(Exit::Done);
        }
        joined => format!("{:016x}", joined?.cluster_id),
    };
    if output.is_json() {
        output.json(&json!({ "cluster_id": cluster_id, "shard": name, "slots_owned": 0 }))?;
    } else {
        output.line(&format!(
            "shard '{name}' is ready in cluster {cluster_id}, and owns no slot"
        ))?;
    }
    Ok(Exit::Done)
}
