//! `freehold`: the server and the command line.
//!
//! [`args`] is what can be typed and [`commands`] what is done about it, one file each. `serve`
//! goes through [`config`], [`embedded`] (the shards of a first minute), [`telemetry`] and [`app`],
//! which wires everything together; `init`, `migrate` and `doctor` work on the servers themselves,
//! in [`cluster`]. Every command ends in one of the codes of [`exit`].

mod app;
mod args;
mod audit;
mod banner;
mod cluster;
mod commands;
mod config;
mod duration;
mod embedded;
mod exit;
mod movers;
mod ndjson;
mod open_files;
mod output;
mod planning;
mod reload;
mod sweepers;
mod telemetry;
mod walk;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{args::Args, exit::Failure, output::Output};

/// A router allocates a few small pieces per request, from all threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output::new(args.json);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(|error| Failure::io("cannot start threads", error))
        .and_then(|runtime| runtime.block_on(commands::run(args, output)));
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report(output);
            failure.exit().into()
        }
    }
}
