//! What a run showed: a table of medians, the goals, all records for machines, and charts.

mod charts;
mod goals;
mod medians;
mod table;

use std::{collections::BTreeMap, fmt, fs, path::Path};

use serde::Serialize;

use self::goals::Goal;
use crate::{
    error::Error,
    measure::{Record, Round},
    plan::{Cell, Plan},
    targets::Target,
};

/// All that a report is made of.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) database: String,
    pub(crate) machine: String,
    pub(crate) command: String,
    pub(crate) router_idle_mib: f64,
    pub(crate) missing: &'a BTreeMap<Target, String>,
    pub(crate) plan: &'a Plan,
    pub(crate) records: &'a [Record],
    pub(crate) failures: &'a [FailedRound],
}

/// `report.json`.
#[derive(Debug, Serialize)]
struct Json<'a> {
    database: &'a str,
    machine: &'a str,
    command: &'a str,
    rows: u64,
    seconds: f64,
    repetitions: u32,
    router_idle_mib: f64,
    /// Targets that were asked for and could not run, with the reason.
    missing: &'a BTreeMap<Target, String>,
    /// Where a target has no part, with the reason.
    without_part: Vec<WithoutPart>,
    goals: &'a [Goal],
    /// One for each target, cell and repetition.
    records: &'a [Record],
    /// Rounds that ended with an error instead.
    failures: &'a [FailedRound],
}

#[derive(Debug, Serialize)]
struct WithoutPart {
    target: Target,
    #[serde(flatten)]
    cell: Cell,
    reason: &'static str,
}

/// A round without a record.
#[derive(Debug, Serialize)]
pub(crate) struct FailedRound {
    target: Target,
    #[serde(flatten)]
    cell: Cell,
    repetition: u32,
    reason: String,
}

impl FailedRound {
    pub(crate) fn new(round: Round, error: &Error) -> Self {
        Self {
            target: round.target,
            cell: round.cell,
            repetition: round.repetition,
            reason: error.to_string(),
        }
    }
}

impl fmt::Display for FailedRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, cell) = (self.target.as_str(), self.cell);
        write!(
            f,
            "`{target}`, {} with {} callers and {} bytes, repetition {}: {}",
            cell.workload.as_str(),
            cell.callers,
            cell.data.value_bytes,
            self.repetition + 1,
            self.reason
        )
    }
}

/// Makes the folder for a report.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::io(folder))
}

/// Writes all files; returns the text of `report.md`.
pub(crate) fn write(folder: &Path, run: &Run<'_>) -> Result<String, Error> {
    let goals = goals::of(run);
    let json = Json {
        database: &run.database,
        machine: &run.machine,
        command: &run.command,
        rows: run.plan.rows,
        seconds: run.plan.duration.as_secs_f64(),
        repetitions: run.plan.repetitions,
        router_idle_mib: run.router_idle_mib,
        missing: run.missing,
        without_part: without_part(run.plan),
        goals: &goals,
        records: run.records,
        failures: run.failures,
    };
    let text = serde_json::to_vec_pretty(&json).expect("plain numbers and words");
    save(&folder.join("report.json"), &text)?;
    let charts = charts::draw(folder, run)?;
    let text = table::text(run, &goals, &charts);
    save(&folder.join("report.md"), text.as_bytes())?;
    Ok(text)
}

fn without_part(plan: &Plan) -> Vec<WithoutPart> {
    let mut found = Vec::new();
    for cell in plan.cells.iter().copied() {
        for target in plan.targets.iter().copied() {
            let reason = target.has_no_part_in(cell.workload, cell.callers);
            found.extend(reason.map(|reason| WithoutPart {
                target,
                cell,
                reason,
            }));
        }
    }
    found
}

fn save(path: &Path, text: &[u8]) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io(path))
}
