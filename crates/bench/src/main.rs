//! `freehold-bench`: what callers get through Freehold and without it, in one run.
//!
//! In the order of a run: [`plan`] says what is measured, [`cluster`] starts a real database server
//! and a real router, [`targets`] are the ways to the data, [`measure`] lets callers loose on one
//! for a while, and [`report`] says what came of it. Targets take turns, so that a machine that
//! slows down hurts all alike; what is compared are medians of repetitions.

mod cluster;
mod data;
mod error;
mod measure;
mod plan;
mod report;
mod targets;

use std::process::ExitCode;

use clap::Parser;
use plan::Arguments;

/// As in the router, so that both sides are measured alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("freehold-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), error::Error> {
    let plan = arguments.plan();
    let mut cluster = cluster::Cluster::start(&plan).await?;
    let mut records = Vec::new();
    for repetition in 0..plan.repetitions {
        for workload in &plan.workloads {
            for target in &plan.targets {
                let round = measure::Round {
                    target: *target,
                    workload: *workload,
                    repetition,
                };
                let record = measure::measure(&mut cluster, &plan, round).await?;
                eprintln!("{record}");
                records.push(record);
            }
        }
    }
    println!("{}", report::table(&plan, &records));
    if let Some(path) = &arguments.out {
        report::write_json(path, &records)?;
    }
    Ok(())
}
