//! `soak`: see [`freehold_torture::soak`].

use std::io::{Write as _, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use freehold_torture::soak::{Options, run};

#[tokio::main]
async fn main() -> ExitCode {
    let say = |words: &str| {
        // Nobody listens any more: the exit code still tells.
        drop(write!(stdout(), "{words}"));
    };
    match run(&Options::parse(), say).await {
        Ok(()) => {
            say("it took no more at the end than at the beginning\n");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}
