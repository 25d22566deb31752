//! `freehold sweep`.

use std::time::Duration;

use clap::Args;
use freehold_proto::v1::SweeperInfo;
use serde_json::{Value, json};

use crate::{
    args::AdminArgs,
    exit::{Exit, Failure},
    output::{Output, human, table},
};

const EXAMPLES: &str = "\
Examples:
  freehold sweep                             what each shard's sweeper does
  freehold sweep --dry-run                   and how many rows are due
  freehold sweep --pause --shard a           until --resume, for all routers and across restarts
  freehold sweep --resume";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SweepArgs {
    /// Count the rows that are due, up to a bound, and delete none
    #[arg(long, conflicts_with_all = ["pause", "resume"])]
    dry_run: bool,
    /// Stop sweeping, for all routers and across restarts
    #[arg(long, conflicts_with = "resume")]
    pause: bool,
    /// Sweep again
    #[arg(long)]
    resume: bool,
    /// Only this shard
    #[arg(long, value_name = "NAME")]
    shard: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) async fn run(args: SweepArgs, output: Output) -> Result<Exit, Failure> {
    let admin = args.admin.connect().await?;
    let shard = args.shard.as_deref();
    let sweepers = if args.pause || args.resume {
        let told = admin.pause_sweepers(shard, args.pause).await?.sweepers;
        if told.is_empty() {
            let words = "no sweeper was told: this router has none, see [sweeper] in its config";
            return Err(Failure::Stopped(words.to_owned()));
        }
        told
    } else {
        admin.list_sweepers(shard, args.dry_run).await?.sweepers
    };
    if output.is_json() {
        let sweepers: Vec<Value> = sweepers
            .iter()
            .map(|sweeper| sweeper_json(sweeper, args.dry_run))
            .collect();
        output.json(&json!({ "sweepers": sweepers }))?;
    } else {
        show(&sweepers, args.dry_run, output)?;
    }
    // A shard that could not be asked, or told, is not done.
    let failed = sweepers.iter().any(|sweeper| !sweeper.error.is_empty());
    Ok(if failed { Exit::NotApplied } else { Exit::Done })
}

fn show(sweepers: &[SweeperInfo], dry_run: bool, output: Output) -> Result<(), Failure> {
    let mut headings = vec!["SHARD", "STATE", "SWEPT BY", "DELETED HERE"];
    if dry_run {
        headings.extend(["DUE", "OLDEST DUE FOR"]);
    }
    let mut table = table::table(&headings);
    for sweeper in sweepers {
        let (state, good) = state(sweeper);
        let holder = match (sweeper.held_here, sweeper.holder.as_str()) {
            (true, _) => "this router",
            (false, "") => "nobody",
            (false, holder) => holder,
        };
        let mut row = vec![
            sweeper.shard.as_str().into(),
            table::status(&state, good),
            holder.into(),
            table::number(human::count(sweeper.rows_deleted)),
        ];
        if dry_run {
            let more = if sweeper.rows_due_more {
                "at least "
            } else {
                ""
            };
            row.push(table::number(format!(
                "{more}{}",
                human::count(sweeper.rows_due)
            )));
            let oldest = oldest(sweeper).map(human::duration).unwrap_or_default();
            row.push(table::number(oldest));
        }
        table.add_row(row);
    }
    output.line(&table::render(&table))
}

fn state(sweeper: &SweeperInfo) -> (String, bool) {
    if !sweeper.error.is_empty() {
        (sweeper.error.clone(), false)
    } else if sweeper.paused {
        ("paused".to_owned(), false)
    } else if sweeper.waiting_for.is_empty() {
        ("sweeping".to_owned(), true)
    } else {
        (format!("waiting: {}", sweeper.waiting_for), true)
    }
}

fn oldest(sweeper: &SweeperInfo) -> Option<Duration> {
    sweeper
        .oldest_due
        .and_then(|oldest| Duration::try_from(oldest).ok())
}

fn sweeper_json(sweeper: &SweeperInfo, dry_run: bool) -> Value {
    json!({
        "shard": sweeper.shard,
        "paused": sweeper.paused,
        "holder": sweeper.holder,
        "held_here": sweeper.held_here,
        "rows_deleted": sweeper.rows_deleted,
        "rows_due": dry_run.then_some(sweeper.rows_due),
        "rows_due_more": dry_run.then_some(sweeper.rows_due_more),
        "oldest_due": oldest(sweeper).map(|oldest| oldest.as_secs_f64()),
        "waiting_for": sweeper.waiting_for,
        "error": sweeper.error,
    })
}
