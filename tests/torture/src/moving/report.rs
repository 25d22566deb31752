//! What a run showed: all of it for machines, and in words for people.

mod words;

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Result;
use crate::moving::Options;
use crate::moving::changes::Changes;
use crate::moving::filling::Filling;
use crate::moving::goals::{self, Goal};
use crate::moving::rounds::Round;

/// All of it. `Display` is for people.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What the databases say they are.
    pub database: String,
    /// The machine, and how busy it was, at the beginning and at the end.
    pub machine: [String; 2],
    /// What was typed.
    pub command: String,
    /// What all random choices began with.
    pub seed: u64,
    /// Rows that were loaded.
    pub rows: u32,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Which goals are met.
    pub goals: Vec<Goal>,
    /// Turns without a move and with one.
    pub rounds: Vec<Round>,
    /// A third shard, filled.
    pub fillings: Vec<Filling>,
    /// One slot between two owners.
    pub changes: Option<Changes>,
    #[serde(skip)]
    name: String,
}

impl Report {
    /// An empty one.
    #[must_use]
    pub fn begin(options: &Options, seed: u64) -> Self {
        Self {
            database: String::new(),
            machine: [machine(), String::new()],
            command: std::env::args().collect::<Vec<_>>().join(" "),
            seed,
            rows: options.rows,
            value_bytes: options.value_bytes,
            goals: Vec::new(),
            rounds: Vec::new(),
            fillings: Vec::new(),
            changes: None,
            name: options.engine.to_string(),
        }
    }

    /// Everything was measured.
    pub fn end(&mut self, machine: String) {
        self.machine[1] = machine;
        self.goals = goals::of(&self.rounds, &self.fillings);
    }

    /// Writes it into a folder, as JSON.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(format!("{}.json", self.name));
        let text = serde_json::to_vec_pretty(self)?;
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()).into())
    }
}

/// The machine, and how busy it is.
#[must_use]
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    format!("{cores} cores, load {load}")
}
