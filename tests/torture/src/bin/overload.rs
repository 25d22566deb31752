//! `overload`: see [`freehold_torture::overload`].

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use freehold_torture::overload::{Options, run};

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(report) => {
            // Nobody listens any more: the exit code still tells.
            drop(write!(stdout(), "{}", report.words()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("overload: {error}");
            ExitCode::FAILURE
        }
    }
}
