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
        plan::{PlanError, ranges},
    },
    exit::{Exit, Failure},
    output::{Output, human, table},
};

const EXAMPLES: &str = "\
Examples:
  freehold init --config freehold.toml
  freehold init --config freehold.toml --user schema --password-env SCHEMA_PASSWORD

Run it once. It creates tables, a view of live rows and the fence on every master, and deals out
the 65,536 slots evenly, in the order of the config. Where it was interrupted, run it again. It
refuses, before it changes anything, where a slot has an owner already, where tables are of another
version, and where a server is unfit (see `freehold doctor`).";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InitArgs {
    /// Succeed where every shard is initialised already, for scripts that run it each time
    #[arg(long)]
    if_needed: bool,
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
