//! A child process that cannot outlive its test.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tokio::time::Instant;

use crate::container::docker;
use crate::error::{Error, Result};

/// A running program: its process, its log, and a guard that ends it.
///
/// `Drop` kills it. Should the test itself be killed, the guard does: a shell that reads from a
/// pipe whose other end only the test holds, and kills the program when the pipe closes. (A
/// parent-death signal would not do: it fires when the *thread* that started the child ends.)
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    guard: Child,
    log: PathBuf,
    /// The container that `child` is only the client of.
    container: Option<String>,
    /// Whether a test wanted it to end, or waited for it.
    may_end: bool,
}

impl Process {
    /// Starts `command` in a process group of its own; its output is appended to `log`.
    pub fn spawn(command: Command, log: &Path) -> Result<Self> {
        Self::spawn_as(command, log, None)
    }

    /// As [`Self::spawn`]; signals go to the container of this name.
    pub(crate) fn spawn_as(
        mut command: Command,
        log: &Path,
        container: Option<String>,
    ) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(Error::io(log))?;
        let errors = output.try_clone().map_err(Error::io(log))?;
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Error::io(&name))?;
        let guard = match guard(child.id(), container.as_deref()) {
            Ok(guard) => guard,
            Err(error) => {
                end(&mut child);
                return Err(error);
            }
        };
        Ok(Self {
            name,
            child,
            guard,
            log: log.to_owned(),
            container,
            may_end: false,
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal; nothing happens if the program has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.may_end |= ![Signal::STOP, Signal::CONT, Signal::HUP].contains(&signal);
        if let Some(container) = &self.container {
            return docker(&["kill", "--signal", &signal.as_raw().to_string(), container]);
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        match pid.filter(|_| self.is_running()) {
            None => Ok(()),
            Some(pid) => kill_process(pid, signal).map_err(|error| self.failure(error)),
        }
    }

    /// SIGSTOP, and waits until every thread stands: the signal alone leaves some of them running
    /// for long enough to answer a query.
    pub fn freeze(&mut self) -> Result<()> {
        if let Some(container) = &self.container {
            return docker(&["pause", container]);
        }
        self.signal(Signal::STOP)?;
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid()));
        while self.is_running() && !all_stopped(&tasks).map_err(Error::io(&tasks))? {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// SIGCONT.
    pub fn thaw(&mut self) -> Result<()> {
        if let Some(container) = &self.container {
            return docker(&["unpause", container]);
        }
        self.signal(Signal::CONT)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.may_end = true;
        // The guard first: once the child is reaped, its number may belong to someone else.
        end(&mut self.guard);
        let running = self.is_running();
        match &self.container {
            // The client ends when it sees that the container is gone.
            Some(container) if running => {
                let _ = docker(&["rm", "--force", container]);
                let _ = self.child.wait();
            }
            _ => end(&mut self.child),
        }
    }

    /// Waits until it ends by itself, at most `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.may_end = true;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().map_err(|error| self.failure(error))? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let what = format!("{} to end", self.name);
                return Err(Error::Late {
                    what,
                    waited_s: limit.as_secs(),
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// All it has written to stdout and stderr so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// An error that carries the end of the log.
    pub(crate) fn failure(&self, message: impl std::fmt::Display) -> Error {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        Error::Process {
            program: self.name.clone(),
            message: format!("{message}\n{tail}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let said = match self.child.try_wait() {
            _ if std::thread::panicking() => Some("still in use when the test failed".to_owned()),
            Ok(Some(status)) if !self.may_end => Some(format!("ended by itself: {status}")),
            _ => None,
        };
        if let Some(said) = said {
            eprintln!("{}", self.failure(said + "; the end of its log:"));
        }
        self.kill();
    }
}

fn guard(pid: u32, container: Option<&str>) -> Result<Child> {
    let script = r#"read -r _; kill -KILL "$1"; test -z "$2" || docker rm --force "$2""#;
    Command::new("/bin/sh")
        .args([
            "-c",
            script,
            "guard",
            &pid.to_string(),
            container.unwrap_or_default(),
        ])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::io("/bin/sh"))
}

fn all_stopped(tasks: &Path) -> std::io::Result<bool> {
    for task in fs::read_dir(tasks)? {
        let stat = fs::read_to_string(task?.path().join("stat"))?;
        // The state stands behind the name, which is in parentheses and may hold some itself.
        if !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" T")
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn end(child: &mut Child) {
    // Both fail only for a child that is gone already, and then there is nothing left to do.
    let _ = child.kill();
    let _ = child.wait();
}
