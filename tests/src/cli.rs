//! The real `freehold` program: where it is, and how to run one command of it.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// What a command answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The exit code; absent if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Answer {
    /// What it printed, or an error with everything it said if it did not exit with 0.
    pub fn success(self) -> Result<String> {
        if self.code == Some(0) {
            return Ok(self.stdout);
        }
        let message = format!(
            "exit code {:?}\n{}\n{}",
            self.code, self.stdout, self.stderr
        );
        Err(Error::Process {
            program: "freehold".to_owned(),
            message,
        })
    }
}

/// The program: `FREEHOLD_TEST_BIN`, or what cargo put beside the running test, or into this
/// workspace's `target/debug`: examples of the documentation run elsewhere.
///
/// Building a test of this package does not build it. `tests/run` and nextest's setup script do;
/// with anything else, `cargo build -p freehold` comes first.
pub fn program() -> Result<PathBuf> {
    let named = env::var_os("FREEHOLD_TEST_BIN").map(PathBuf::from);
    let beside = || {
        // target/debug/deps/<test> or target/debug/<program>
        let this = env::current_exe().ok()?;
        this.ancestors()
            .skip(1)
            .take(2)
            .map(|folder| folder.join("freehold"))
            .find(|f| f.is_file())
    };
    let built = || {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
            PathBuf::from,
        );
        let path = target.join("debug/freehold");
        path.is_file().then_some(path)
    };
    named
        .or_else(beside)
        .or_else(built)
        .ok_or_else(|| Error::Missing {
            what: "the freehold program".to_owned(),
            remedy: "run cargo build -p freehold, or name it in FREEHOLD_TEST_BIN".to_owned(),
        })
}

/// A command of the program that takes nothing from this process's own environment.
pub(crate) fn command(folder: &Path) -> Result<Command> {
    let mut command = Command::new(program()?);
    command.current_dir(folder);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("FREEHOLD_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Runs `freehold` with `arguments` in `folder` until it ends. `environment` comes over this
/// process's own; `input` is what it reads.
pub async fn run<A: AsRef<OsStr>>(
    folder: &Path,
    environment: &[(String, String)],
    arguments: impl IntoIterator<Item = A>,
    input: Stdio,
) -> Result<Answer> {
    let mut command = command(folder)?;
    command
        .envs(environment.iter().cloned())
        .args(arguments)
        .stdin(input);
    let failed = |message: String| Error::Process {
        program: "freehold".to_owned(),
        message,
    };
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))?;
    Ok(Answer {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
