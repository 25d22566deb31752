//! `moving`: see [`freehold_torture::moving`].

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use freehold_torture::{
    moving::{Options, run},
    seed,
};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let seed = match seed(options.seed) {
        Ok(seed) => seed,
        Err(error) => return failed(&error),
    };
    eprintln!("to repeat what is asked for: --seed {seed}");
    match run(options, seed).await {
        Ok(report) => {
            // Nobody listens any more: the file has it, too.
            drop(write!(stdout(), "{report}"));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &freehold_torture::Error) -> ExitCode {
    eprintln!("moving: {error}");
    ExitCode::FAILURE
}
