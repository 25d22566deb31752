//! `torture`: see `--help`, or the crate's documentation for the path of a run.

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use freehold_torture::{Options, run, seed};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let seed = match seed(options.seed) {
        Ok(seed) => seed,
        Err(error) => return failed(&error),
    };
    say(&format!("to repeat: {}\n", options.command(seed)));
    match run(&options, seed, say).await {
        Ok(totals) => {
            say(&totals.words());
            match totals.failure {
                None => ExitCode::SUCCESS,
                Some(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &freehold_torture::Error) -> ExitCode {
    eprintln!("torture: {error}");
    ExitCode::from(2)
}

fn say(words: &str) {
    // Nobody listens any more: the exit code still tells.
    drop(write!(stdout(), "{words}"));
}
