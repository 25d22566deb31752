//! `freehold-bench`: what callers get through Freehold and without it, in one run.
//!
//! In the order of a run: [`plan`] says what is measured; [`servers`] starts a real database
//! server, a real router and the peers, and loads the same rows of [`data`] into each; [`targets`]
//! are the ways to the data and [`workload`] what callers do; [`measure`] lets callers loose on one
//! for a while, with [`cpu`] and [`counters`] as witnesses; [`report`] says what came of it.
//! Targets take turns, so that a machine that slows down hurts all alike; what is compared are
//! medians of repetitions.
//!
//! [`shards`] and [`connections`] are measurements of their own: what many of them cost a router.

mod connections;
mod counters;
mod cpu;
mod data;
mod error;
mod measure;
mod plan;
mod report;
mod servers;
mod shards;
mod targets;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use plan::{Arguments, Command, Compare};

/// As in the router, so that both sides are measured alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Compare(compare) => run(&compare).await,
        Command::Shards(args) => shards::run(args).await,
        Command::Connections(args) => connections::run(args).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("freehold-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(compare: &Compare) -> Result<(), error::Error> {
    let plan = compare.plan();
    // First: an hour's run must not end in a folder that cannot be written.
    report::make_folder(&compare.out)?;
    let mut servers = servers::Servers::start(&plan).await?;
    let (mut records, mut failures) = (Vec::new(), Vec::new());
    for repetition in 0..plan.repetitions {
        for (number, cell) in plan.cells.iter().copied().enumerate() {
            // Each is first now and then: what the one before left behind hits all alike.
            let first = repetition as usize + number;
            let turns = plan.targets.iter().copied().cycle();
            for target in turns.skip(first).take(plan.targets.len()) {
                let has_no_part = target.has_no_part_in(cell.workload, cell.callers).is_some();
                if has_no_part || servers.missing.contains_key(&target) {
                    continue;
                }
                let round = measure::Round {
                    target,
                    cell,
                    repetition,
                };
                match measure::measure(&mut servers, &plan, round).await {
                    Ok(record) => {
                        eprintln!("{record}");
                        records.push(record);
                    }
                    Err(error) if error.ends_the_run() => return Err(error),
                    Err(error) => {
                        let failed = report::FailedRound::new(round, &error);
                        eprintln!("{failed}");
                        failures.push(failed);
                    }
                }
            }
        }
    }
    let run = report::Run {
        database: servers.database_version().await?,
        machine: cpu::machine(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        router_idle_mib: servers.router_idle_mib,
        missing: &servers.missing,
        plan: &plan,
        records: &records,
        failures: &failures,
    };
    println!("{}", report::write(&compare.out, &run)?);
    Ok(())
}
