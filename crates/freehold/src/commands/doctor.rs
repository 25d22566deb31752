//! `freehold doctor`.

use clap::Args;
use console::Style;
use freehold_storage::schema::SchemaState;
use serde_json::json;

use super::{Site, open_site, random};
use crate::{
    args::{AccountArgs, ConfigArgs},
    cluster::{
        findings::{Finding, Severity, findings},
        survey::{Surveyed, ask_mover, follow, survey, watch},
    },
    exit::{Exit, Failure},
    output::{Output, bold, dim, human, table},
};

const EXAMPLES: &str = "\
Examples:
  freehold doctor --config freehold.toml
  freehold doctor --config freehold.toml --routers 12
  freehold doctor --config freehold.toml --json | jq '.findings[].mend'

It reads settings and changes nothing. After a failover the master is the server that leads, whatever the
config calls it. Errors break data or service (`init` refuses a master with
one, unless it is about tables or rights), warnings wait for something to happen, advice saves
something. It ends with 1 if there are errors.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// How many routers there will be: connections and prepared statements are counted for all
    #[arg(long, value_name = "ROUTERS", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    routers: u64,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    account: AccountArgs,
}

pub(crate) async fn run(args: DoctorArgs, output: Output) -> Result<Exit, Failure> {
    let Site {
        shards,
        swept,
        moved,
        moves,
        wanted,
        ..
    } = open_site(
        &args.config,
        Some(&args.account),
        args.routers,
        false,
        &mut random()?,
    )?;
    let mut surveyed = survey(&shards, true).await;
    follow(&mut surveyed, &shards).await;
    watch(&mut surveyed, &swept).await;
    if moves {
        ask_mover(&mut surveyed, &moved).await;
    }
    let findings = findings(&surveyed, &wanted);
    if output.is_json() {
        let servers: Vec<_> = surveyed.iter().map(server_json).collect();
        output.json(&json!({ "servers": servers, "findings": findings }))?;
    } else {
        show(&surveyed, &findings, output)?;
    }
    let errors = findings
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    Ok(if errors { Exit::NotFound } else { Exit::Done })
}

fn show(surveyed: &[Surveyed], findings: &[Finding], output: Output) -> Result<(), Failure> {
    let mut table = table::table(&["SHARD", "ROLE", "SERVER", "VERSION", "SLOTS", "CLOCK"]);
    for server in surveyed {
        let (version, slots, clock) = match &server.seen {
            Ok(seen) => (
                table::status(
                    &format!("{} {}", seen.facts.engine, seen.facts.version),
                    true,
                ),
                slots(&seen.state),
                format!(
                    "{:+} ms ± {}",
                    seen.facts.clock_skew_ms, seen.facts.clock_error_ms
                ),
            ),
            Err(_) => (
                table::status("does not answer", false),
                String::new(),
                String::new(),
            ),
        };
        table.add_row(vec![
            server.shard.as_str().into(),
            server.role.word().into(),
            server.address.as_str().into(),
            version,
            table::number(slots),
            table::number(clock),
        ]);
    }
    output.line(&table::render(&table))?;
    for finding in findings {
        output.line("")?;
        show_finding(finding, output)?;
    }
    let count = |severity| {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count() as u64
    };
    output.line("")?;
    output.line(&format!(
        "{}, {}, {} of advice",
        human::plural(count(Severity::Error), "error"),
        human::plural(count(Severity::Warning), "warning"),
        human::plural(count(Severity::Advice), "piece"),
    ))
}

fn show_finding(finding: &Finding, output: Output) -> Result<(), Failure> {
    let (word, style) = match finding.severity {
        Severity::Error => ("error", Style::new().red().bold()),
        Severity::Warning => ("warning", Style::new().yellow().bold()),
        Severity::Advice => ("advice", Style::new().cyan().bold()),
    };
    let place = format!(
        "shard {}, {} {}",
        finding.shard,
        finding.role.word(),
        finding.server
    );
    output.line(&format!(
        "{} {} {}",
        style.apply_to(word),
        bold(&finding.what),
        dim(&format!("({place})"))
    ))?;
    output.line(&format!("  found   {}", finding.found))?;
    output.line(&format!("  wanted  {}", finding.wanted))?;
    output.line(&format!("  why     {}", finding.why))?;
    for (index, mend) in finding.mend.iter().enumerate() {
        output.line(&format!(
            "  {}    {mend}",
            if index == 0 { "mend" } else { "    " }
        ))?;
    }
    Ok(())
}

fn slots(state: &SchemaState) -> String {
    match state {
        SchemaState::Absent => "no tables".to_owned(),
        SchemaState::Started(_) => "begun".to_owned(),
        SchemaState::Ready { slots_claimed, .. } => human::count(*slots_claimed as u64),
    }
}

fn server_json(server: &Surveyed) -> serde_json::Value {
    let seen = server.seen.as_ref();
    json!({
        "shard": server.shard,
        "role": server.role,
        "server": server.address,
        "error": seen.err().map(ToString::to_string),
        "engine": seen.ok().map(|seen| &seen.facts.engine),
        "version": seen.ok().map(|seen| &seen.facts.version),
        "clock_skew_ms": seen.ok().map(|seen| seen.facts.clock_skew_ms),
        "clock_error_ms": seen.ok().map(|seen| seen.facts.clock_error_ms),
        "slots_claimed": seen.ok().and_then(|seen| match &seen.state {
            SchemaState::Ready { slots_claimed, .. } => Some(*slots_claimed),
            _ => None,
        }),
    })
}
