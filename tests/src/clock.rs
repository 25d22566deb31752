//! Clocks that show a program another time than the machine's: one that can be set while a server
//! runs, libfaketime's, and one that is ahead from a program's start to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::cache;
use crate::error::{Error, Result};

/// Where Debian keeps it, below the folder of the machine's kind.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The library, if it is here.
pub fn library() -> Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib").map_err(Error::io("/usr/lib"))?;
    let candidates = folders.flatten().map(|folder| folder.path().join(LIBRARY));
    let found = candidates.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| Error::Missing {
        what: LIBRARY.to_owned(),
        remedy: "install Debian's libfaketime".to_owned(),
    })
}

/// How far [`ahead`] is, in seconds.
const AHEAD: &str = "FREEHOLD_TEST_SKEW_S";

/// Builds a library, and says by which environment variables a program takes it, whose wall clock
/// is then so many seconds ahead of the machine's. Durations are the machine's own.
pub fn ahead(seconds: i64) -> Result<[(&'static str, String); 2]> {
    // Not among temporary files: what lies there may not be executable.
    let folder = cache()?;
    let draft = tempfile::tempdir_in(&folder).map_err(Error::io(&folder))?;
    let shim = draft.path().join("skewed_clock.so");
    let source = draft.path().join("skewed_clock.c");
    fs::write(&source, include_str!("skewed_clock.c")).map_err(Error::io(&source))?;
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&shim, &source])
        .arg("-ldl")
        .output()
        .map_err(|error| Error::Missing {
            what: format!("cc ({error})"),
            remedy: "install a C compiler".to_owned(),
        })?;
    if !built.status.success() {
        return Err(Error::Process {
            program: "cc".to_owned(),
            message: String::from_utf8_lossy(&built.stderr).into_owned(),
        });
    }
    // Whole at any moment, for tests that run beside each other.
    let place = folder.join("skewed_clock.so");
    fs::rename(&shim, &place).map_err(Error::io(&place))?;
    Ok([
        ("LD_PRELOAD", place.display().to_string()),
        (AHEAD, seconds.to_string()),
    ])
}

/// Has a program go by the clock in a folder: what [`set`] says, seen within a second. Durations are
/// measured by the machine's own.
pub(crate) fn prepare(command: &mut Command, folder: &Path) -> Result<()> {
    if !file(folder).exists() {
        set(folder, 0)?;
    }
    command
        .env("LD_PRELOAD", library()?)
        .env("FAKETIME_TIMESTAMP_FILE", file(folder))
        .env("FAKETIME_CACHE_DURATION", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Ok(())
}

/// Takes the names off what the library shares with children of a running program: one that is
/// killed would leave them behind, in memory.
pub(crate) fn forget(pid: u32) {
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        // Nothing is lost where it has others.
        let _ = fs::remove_file(format!("/dev/shm/{name}{pid}"));
    }
}

/// Sets the clock so many seconds before or after the machine's.
pub(crate) fn set(folder: &Path, ahead_s: i64) -> Result<()> {
    let path = file(folder);
    // Whole at any moment: whoever reads half of it has another time.
    let new = path.with_extension("new");
    fs::write(&new, format!("{ahead_s:+}\n")).map_err(Error::io(&new))?;
    fs::rename(&new, &path).map_err(Error::io(&path))
}

fn file(folder: &Path) -> PathBuf {
    folder.join("clock")
}
