//! `freehold audit`.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use clap::Args;
use indicatif::ProgressBar;

use super::{Site, open_site, random};
use crate::{
    args::ConfigArgs,
    audit::{Settings, audit, report::Report},
    duration::parse_duration,
    exit::{Exit, Failure},
    output::{Output, human, table},
};

const EXAMPLES: &str = "\
Examples:
  freehold audit --config freehold.toml
  freehold audit --config freehold.toml --shard a --rate 5000
  freehold audit --config freehold.toml --json | jq .findings

It asks the servers themselves: whether every slot has one owner, whether a master has rows of slots
that are not its own, and whether each replica has what its master has. Servers make checksums of
pages of rows, and nothing is locked; what differs is looked at again once the replica has caught
up, so a cluster under load raises no false alarm. Each server rests for at least as long as it
worked.

It ends with 0 if all is as it must be, with 1 if something is not, and with 3 if nothing was found
but something could not be looked at.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AuditArgs {
    /// Compare the replicas of this shard only (slots are looked at on all)
    #[arg(long, value_name = "NAME")]
    shard: Option<String>,
    /// Rows per second that are read of each server at most
    #[arg(long, value_name = "ROWS", default_value = "20000",
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: u32,
    /// How long a replica that differs may take to catch up
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    lag_max: Duration,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) async fn run(args: AuditArgs, output: Output) -> Result<Exit, Failure> {
    let mut random = random()?;
    let Site { shards, .. } = open_site(&args.config, None, 1, false, &mut random)?;
    if let Some(name) = &args.shard
        && !shards.iter().any(|shard| shard.name == *name)
    {
        let known: Vec<&str> = shards.iter().map(|shard| shard.name.as_str()).collect();
        return Err(Failure::Usage(format!(
            "no shard is called '{name}': the config has {}",
            known.join(", ")
        )));
    }
    let settings = Settings {
        rate_max: f64::from(args.rate),
        lag_max: args.lag_max,
        only: args.shard.clone(),
    };
    let bar = match stderr().is_terminal() && !output.is_json() {
        true => ProgressBar::new_spinner(),
        false => ProgressBar::hidden(),
    };
    let mut told = |shard: &str, server: &str, rows: u64| {
        let rows = human::count(rows);
        bar.set_message(format!("shard {shard}, {server}: {rows} rows compared"));
        bar.tick();
    };
    let report = audit(&shards, &settings, &mut told).await;
    bar.finish_and_clear();
    match output.is_json() {
        true => output.json(&report.to_json())?,
        false => tell(&report, output)?,
    }
    Ok(match (report.has_findings(), report.is_incomplete()) {
        (true, _) => Exit::NotFound,
        (false, true) => Exit::NotApplied,
        (false, false) => Exit::Done,
    })
}

fn tell(report: &Report, output: Output) -> Result<(), Failure> {
    let mut table = table::table(&["SHARD", "ROLE", "SERVER", "ROWS COMPARED", "FOUND"]);
    for shard in &report.shards {
        let strays: u64 = shard.strays.iter().map(|stray| stray.rows).sum();
        let found = match (&shard.unreached, strays) {
            (Some(_), _) => "not looked at".to_owned(),
            (None, 0) => "no row that is not its own".to_owned(),
            (None, rows) => format!("{} rows of slots that are not its own", human::count(rows)),
        };
        table.add_row(vec![
            shard.name.as_str().into(),
            "master".into(),
            shard.master.as_str().into(),
            table::number(String::new()),
            table::status(&found, strays == 0 && shard.unreached.is_none()),
        ]);
        for other in &shard.replicas {
            let found = match (other.differences, &other.unfinished, other.undecided) {
                (0, None, 0) => "as its master".to_owned(),
                (0, Some(_), _) => "not compared to the end".to_owned(),
                (0, None, _) => "some rows could not be compared".to_owned(),
                (rows, ..) => format!("{} rows differ", human::count(rows)),
            };
            let is_well = other.differences == 0 && other.unfinished.is_none();
            table.add_row(vec![
                "".into(),
                "replica".into(),
                other.address.as_str().into(),
                table::number(human::count(other.rows)),
                table::status(&found, is_well && other.undecided == 0),
            ]);
        }
    }
    output.line(&table::render(&table))?;
    let owned = human::count(report.slots.owned as u64);
    output.line(&format!("{owned} of 65,536 slots have one owner"))?;
    for line in report.lines() {
        output.line(&line)?;
    }
    Ok(())
}
