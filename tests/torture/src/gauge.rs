//! What a router takes: memory, descriptors, and what it says of itself.

use std::collections::BTreeMap;
use std::fs;

use freehold_tests::Router;

use crate::Result;

/// A look at a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Resident memory.
    pub memory_mib: u64,
    /// Open files and connections.
    pub descriptors: usize,
}

impl Taken {
    /// Looks.
    ///
    /// # Errors
    /// If it does not run.
    pub fn by(router: &mut Router) -> Result<Self> {
        let memory_mib = memory_mib(router, "VmRSS:")?;
        let descriptors = format!("/proc/{}/fd", router.pid()?);
        Ok(Self {
            memory_mib,
            descriptors: fs::read_dir(descriptors)?.count(),
        })
    }
}

/// The memory a router has now. The most it has from here on is counted anew.
///
/// # Errors
/// If it does not run.
pub fn forget_peak(router: &mut Router) -> Result<u64> {
    fs::write(format!("/proc/{}/clear_refs", router.pid()?), "5")?;
    memory_mib(router, "VmRSS:")
}

/// The most memory it had since then.
///
/// # Errors
/// If it does not run.
pub fn peak_mib(router: &mut Router) -> Result<u64> {
    memory_mib(router, "VmHWM:")
}

fn memory_mib(router: &mut Router, what: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", router.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib.ok_or("a process without memory")?.trim().parse()?;
    Ok(kib / 1_024)
}

/// What callers hold of the router now, by the name of its limit: connections, calls, bytes.
///
/// # Errors
/// If `/metrics` does not answer.
pub async fn held(router: &Router) -> Result<BTreeMap<String, u64>> {
    let (_, metrics) = router.http_get("/metrics").await?;
    let mut held = BTreeMap::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("freehold_limit_level{") else {
            continue;
        };
        let Some((labels, level)) = rest.split_once("} ") else {
            continue;
        };
        let name = labels.split('"').nth(1).unwrap_or(labels).to_owned();
        held.insert(name, level.trim().parse()?);
    }
    Ok(held)
}
