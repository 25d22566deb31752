//! `planted`: is every planted bug found? Builds the program with its feature, tortures it with one
//! bug after another, and says which was found after how long.

use std::env;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use freehold_core::planted::BUGS;
use tokio::time::Instant;

/// Tortures a program with each planted bug, one after another, until it is found.
#[derive(Debug, Parser)]
struct Options {
    /// Which database: mariadb or mysql.
    #[arg(long, default_value = "mariadb")]
    engine: String,
    /// How long to look for one bug, in seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Only these; all if absent.
    #[arg(long, value_delimiter = ',')]
    bugs: Vec<String>,
    /// A program that was built with the feature `planted-bugs`; built if absent.
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Nothing but the faults that a bug needs to show itself, so that it shows itself sooner.
fn faults(bug: &str) -> &'static str {
    match bug {
        "no-lock-clause" | "fence-read-apart" | "epoch-ignored-for-reads" => "handovers",
        "blind-retry" | "unknown-is-applied" => "masters,network",
        "replica-as-master" => "replicas",
        _ => "routers,masters,replicas,network,clients,handovers",
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("planted: {error}");
            ExitCode::from(2)
        }
    }
}

/// False if one was not found.
fn run(options: &Options) -> Result<bool, freehold_torture::Error> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => build()?,
    };
    let names = BUGS.iter().map(|(_, name)| *name);
    let wanted =
        |name: &&str| options.bugs.is_empty() || options.bugs.iter().any(|bug| bug == name);
    let mut missed = Vec::new();
    let mut count = 0;
    for bug in names.filter(wanted) {
        count += 1;
        let began = Instant::now();
        let first = torture(&program, options, bug)?;
        let took = began.elapsed();
        let words = match first {
            Ended::Found(words) => format!("found after {:>3} s: {words}", took.as_secs()),
            Ended::Clean => format!("NOT FOUND in {} s", took.as_secs()),
            Ended::Otherwise(words) => format!("NOT FOUND, the run broke: {words}"),
        };
        if !words.starts_with("found") {
            missed.push(bug);
        }
        writeln!(stdout(), "{bug:<24} {words}")?;
    }
    writeln!(stdout(), "{} of {count} found", count - missed.len())?;
    Ok(missed.is_empty())
}

/// How a run ended.
enum Ended {
    /// With a violation.
    Found(String),
    /// Without one.
    Clean,
    /// The cluster did not survive it, or something could not be decided.
    Otherwise(String),
}

fn torture(program: &Path, options: &Options, bug: &str) -> Result<Ended, freehold_torture::Error> {
    let torture = env::current_exe()?.with_file_name("torture");
    let seconds = options.seconds.to_string();
    let output = Command::new(torture)
        .args([
            "--engine",
            &options.engine,
            "--seconds",
            &seconds,
            "--bug",
            bug,
        ])
        .args(["--round-seconds", "10", "--faults", faults(bug)])
        .args(["--out", "target/torture/planted"])
        .env("FREEHOLD_TEST_BIN", program)
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let violation = text.lines().find(|line| line.starts_with("VIOLATION"));
    Ok(match (output.status.code(), violation) {
        (Some(0), _) => Ended::Clean,
        (Some(1), Some(violation)) => Ended::Found(violation.to_owned()),
        (code, _) => Ended::Otherwise(format!("exit code {code:?}: {text}")),
    })
}

/// In a folder of its own, so that nobody takes it for the program.
fn build() -> Result<PathBuf, freehold_torture::Error> {
    let target = "target/planted";
    let torture = [
        "build",
        "--quiet",
        "-p",
        "freehold-torture",
        "--bin",
        "torture",
    ];
    if !Command::new("cargo").args(torture).status()?.success() {
        return Err("the torture was not built".into());
    }
    let status = Command::new("cargo")
        .args([
            "build",
            "--quiet",
            "-p",
            "freehold",
            "--features",
            "planted-bugs",
        ])
        .args(["--target-dir", target])
        .status()?;
    if !status.success() {
        return Err("the program was not built".into());
    }
    Ok(env::current_dir()?.join(target).join("debug/freehold"))
}
