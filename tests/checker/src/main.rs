//! `check HISTORY [TIMELINE]`: decides about a recorded history (JSON lines), and draws the key of
//! its first violation. Exit code 0 is clean, 1 is not, 2 is a history that cannot be read.

use std::fs::{self, File};
use std::io::{BufReader, Write as _, stdout};
use std::path::Path;
use std::process::ExitCode;

use freehold_checker::{History, check, timeline};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, page) = match arguments.as_slice() {
        [path] => (path, None),
        [path, page] => (path, Some(page)),
        _ => {
            eprintln!("usage: check HISTORY [TIMELINE.html]");
            return ExitCode::from(2);
        }
    };
    match run(Path::new(path), page.map(Path::new)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{path}: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(path: &Path, page: Option<&Path>) -> Result<bool, Box<dyn std::error::Error>> {
    let history = History::read(BufReader::new(File::open(path)?))?;
    let verdict = check(&history);
    write!(stdout(), "{verdict}")?;
    if let (Some(page), Some(violation)) = (page, verdict.violations.first()) {
        fs::write(page, timeline::html(&history, violation))?;
    }
    Ok(verdict.is_clean())
}
