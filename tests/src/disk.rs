//! A disk of limited size under a server, which can be filled, and one that takes its time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::process::{Process, Signal};

/// How long a tool may take to let go of a program.
const LET_GO_WITHIN: Duration = Duration::from_secs(30);

/// What is taken at once where there is room for it.
const PIECE_BYTES_MAX: u64 = 512 << 20;

/// The least that a file system gives.
const PAGE_BYTES: u64 = 4_096;

/// System calls by which databases write and sync.
const WRITES: &str = "fsync,fdatasync,pwrite64,pwritev,write";

/// A file system in memory over a folder. It goes with this value.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Puts a file system of so many MiB over an empty folder. Only root may.
    pub fn mount(folder: &Path, mib_max: u32) -> Result<Self> {
        let size = format!("size={mib_max}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "freehold-test"]);
        run(mount.arg(folder))?;
        let folder = folder.to_owned();
        Ok(Self { folder })
    }

    /// Whether that can be done here, and why not.
    pub fn is_available() -> Result<()> {
        let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let disk = Self::mount(folder.path(), 1)?;
        disk.fill()?;
        disk.free()
    }

    /// Leaves not a page.
    pub fn fill(&self) -> Result<()> {
        let (mut offset, mut bytes) = (0_u64, PIECE_BYTES_MAX);
        // In ever smaller pieces: whoever writes meanwhile takes some, too.
        while bytes >= PAGE_BYTES {
            let mut fallocate = Command::new("fallocate");
            fallocate
                .args(["--offset", &offset.to_string()])
                .args(["--length", &bytes.to_string()])
                .arg(self.ballast());
            match run(&mut fallocate) {
                Ok(_) => offset += bytes,
                Err(Error::Process { message, .. }) if message.contains("No space left") => {
                    bytes /= 2;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub fn free(&self) -> Result<()> {
        let ballast = self.ballast();
        match std::fs::remove_file(&ballast) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::io(&ballast)),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: somebody may still look into it.
        drop(run(Command::new("umount").arg("--lazy").arg(&self.folder)));
    }
}

/// Makes every write and sync of a program take so much longer, until it is ended.
#[derive(Debug)]
pub struct Slowness {
    tracer: Process,
}

impl Slowness {
    /// Begins. Only who may trace the program can.
    pub fn begin(pid: u32, each: Duration, log: &Path) -> Result<Self> {
        let inject = format!("inject={WRITES}:delay_enter={}", each.as_micros());
        let mut strace = Command::new("strace");
        strace
            .args(["--follow-forks", "--quiet=all", "--output=/dev/null"])
            .args(["-e", &format!("trace={WRITES}"), "-e", &inject])
            .args(["--attach", &pid.to_string()]);
        let tracer = Process::spawn(strace, log)?;
        Ok(Self { tracer })
    }

    /// Ends. An error if it had not begun.
    pub async fn end(mut self) -> Result<()> {
        if !self.tracer.is_running() {
            return Err(self.tracer.failure("ended before it was told to"));
        }
        self.tracer.signal(Signal::INT)?;
        self.tracer.wait(LET_GO_WITHIN).await.map(drop)
    }

    /// Whether programs can be traced here, and why not.
    pub fn is_available() -> Result<()> {
        run(Command::new("strace").args(["--output=/dev/null", "true"])).map(drop)
    }
}

fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(Error::io(&name))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Process {
        program: name,
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
