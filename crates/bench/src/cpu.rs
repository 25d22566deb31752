//! What the operating system says of a process.

use std::{fs, path::Path};

use crate::error::Error;

/// Kernel clock ticks in a second, as `/proc` counts CPU time on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time that a process has used, all threads together.
pub(crate) fn seconds(pid: u32) -> Result<f64, Error> {
    let text = read(&format!("/proc/{pid}/stat"))?;
    // The name of the program stands in parentheses and may hold anything.
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// Memory that a process occupies, in MiB.
pub(crate) fn memory_mib(pid: u32) -> Result<f64, Error> {
    let text = read(&format!("/proc/{pid}/status"))?;
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    Ok(kib.unwrap_or(f64::NAN) / 1_024.0)
}

/// The machine, in words.
pub(crate) fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split(':').nth(1))
        .map_or("unknown processor", str::trim);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::io(Path::new(path)))
}
