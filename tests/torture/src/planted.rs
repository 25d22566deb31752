//! `planted`: is every planted bug found? Builds the program with its feature, tortures it with one
//! bug after another, and says which was found after how long, and by which check. Before that it
//! tortures the same program without any: that has to be clean.
//!
//! How a request ended finds no bug here: a busy machine is late, too.

use std::env;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use freehold_checker::Check;
use freehold_core::planted::BUGS;
use tokio::time::Instant;

/// Tortures a program without a planted bug, then with each, one after another, until it is found.
///
/// Exit code 0: without one the run was clean, and each was found.
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
    /// Leave out the run without a bug.
    #[arg(long)]
    no_control: bool,
    /// A program that was built with the feature `planted-bugs`; built if absent.
    #[arg(long)]
    program: Option<PathBuf>,
}

/// All faults that any bug needs.
const FAULTS: &str = "routers,masters,replicas,network,clients,handovers";

/// Nothing but the faults that a bug needs to show itself, so that it shows itself sooner.
fn faults(bug: &str) -> &'static str {
    match bug {
        "no-lock-clause" | "fence-read-apart" | "epoch-ignored-for-reads" => "handovers",
        "blind-retry" | "unknown-is-applied" => "masters,network",
        "replica-as-master" => "replicas",
        _ => FAULTS,
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
    let is_sound = options.no_control || is_clean_without(&program, options)?;
    let mut missed = Vec::new();
    let mut count = 0;
    for bug in names.filter(wanted) {
        count += 1;
        let began = Instant::now();
        let first = torture(&program, options, Some(bug))?;
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
    Ok(missed.is_empty() && is_sound)
}

/// Whether nothing is found where nothing was planted.
fn is_clean_without(program: &Path, options: &Options) -> Result<bool, freehold_torture::Error> {
    let began = Instant::now();
    let ended = torture(program, options, None)?;
    let words = match &ended {
        Ended::Clean => format!("clean for {:>3} s", began.elapsed().as_secs()),
        Ended::Found(words) | Ended::Otherwise(words) => format!("NOT CLEAN: {words}"),
    };
    writeln!(stdout(), "{:<24} {words}", "control")?;
    Ok(matches!(ended, Ended::Clean))
}

/// How a run ended.
enum Ended {
    /// With a violation, of data.
    Found(String),
    /// Without one.
    Clean,
    /// The cluster did not survive it, something could not be decided, or only how requests ended was
    /// wrong.
    Otherwise(String),
}

fn torture(
    program: &Path,
    options: &Options,
    bug: Option<&str>,
) -> Result<Ended, freehold_torture::Error> {
    let torture = env::current_exe()?.with_file_name("torture");
    let seconds = options.seconds.to_string();
    let output = Command::new(torture)
        .args(["--engine", &options.engine, "--seconds", &seconds])
        .args(bug.into_iter().flat_map(|bug| ["--bug", bug]))
        .args([
            "--round-seconds",
            "10",
            "--faults",
            bug.map_or(FAULTS, faults),
        ])
        .args(["--late-ms-max", "600000", "--unanswered-percent-max", "100"])
        .args(["--out", "target/torture/planted"])
        .env("FREEHOLD_TEST_BIN", program)
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let endings = format!("({})", Check::Endings);
    let mut violations = text
        .lines()
        .filter_map(|line| line.strip_prefix("VIOLATION "));
    let violation = violations.find(|words| !words.starts_with(&endings));
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
