//! All lines of a run, sorted by what they are about.

use std::collections::BTreeMap;
use std::io::BufRead;

use crate::record::{Action, Clock, Level, Operation, Outcome, Record, Row, Run, Scan, Seen, Span};

/// Milliseconds in nanoseconds.
pub const MS: i64 = 1_000_000;

/// What the model's instants are off by, apart from the databases' clocks: they count whole
/// milliseconds, and an expiry is rounded once when it is made and once when it is told.
const ROUNDING_NS: i64 = 3 * MS;

/// A look at a clock that took longer says little of it.
const CLOCK_LOOK_NS_MAX: i64 = 4 * MS;

/// Clocks of one machine that drift further apart are none that expiry can be checked by.
pub const CLOCK_ERROR_NS_MAX: i64 = 200 * MS;

/// What a fault is called that steps a clock.
const CLOCK_FAULT: &str = "its clock is";

/// A line that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file.
    #[error("history: {0}")]
    Io(#[from] std::io::Error),
    /// A line that is not what [`Record`] says.
    #[error("line {line} of the history: {source}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// A whole run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Which run it is.
    pub run: Run,
    /// Operations by key, in the order in which they began.
    pub keys: BTreeMap<String, Vec<Operation>>,
    /// Walks.
    pub scans: Vec<Scan>,
    /// What was broken.
    pub faults: Vec<Span>,
    /// When the recording machine stood still.
    pub pauses: Vec<Span>,
    /// The rows of the final audit.
    pub rows: Vec<Row>,
    /// The final audit, if there was one.
    pub audit: Option<Span>,
    clocks: Vec<Clock>,
}

impl History {
    /// Reads JSON lines.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(lines: impl BufRead) -> Result<Self, ReadError> {
        let mut records = Vec::new();
        for (number, line) in lines.lines().enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            records.push(
                serde_json::from_str(&line).map_err(|source| ReadError::Line {
                    line: number + 1,
                    source,
                })?,
            );
        }
        Ok(Self::new(records))
    }

    /// Sorts records.
    pub fn new(records: impl IntoIterator<Item = Record>) -> Self {
        let mut history = Self::default();
        for record in records {
            match record {
                Record::Run(run) => history.run = run,
                Record::Operation(operation) => history
                    .keys
                    .entry(operation.key.clone())
                    .or_default()
                    .push(operation),
                Record::Scan(scan) => history.scans.push(scan),
                Record::Clock(clock) => history.clocks.push(clock),
                Record::Fault(span) => history.faults.push(span),
                Record::Pause(span) => history.pauses.push(span),
                Record::Row(row) => history.rows.push(row),
                Record::Audit(span) => history.audit = Some(span),
            }
        }
        for operations in history.keys.values_mut() {
            operations.sort_by_key(|operation| (operation.start_ns, operation.id));
        }
        history
    }

    /// How many operations it has.
    pub fn operations(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// By how much an instant of a database's clock can be off when it is told in the history's:
    /// the distance that the two were seen to drift during the run, and the rounding of both.
    pub fn clock_error_ns(&self) -> i64 {
        let mut offsets: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        let width = |clock: &Clock| clock.after_ns - clock.before_ns;
        let mut widths: Vec<i64> = self.clocks.iter().map(width).collect();
        widths.sort_unstable();
        // Where all of them took long, the better half.
        let median = widths.get(widths.len() / 2).copied().unwrap_or(0);
        let width_max = median.max(CLOCK_LOOK_NS_MAX);
        let tight = |clock: &&Clock| width(clock) <= width_max;
        for clock in self.clocks.iter().filter(tight) {
            let middle = clock.before_ns + (clock.after_ns - clock.before_ns) / 2;
            let offset = clock.database_ms * MS - middle;
            let seen = offsets.entry(&clock.server).or_insert((offset, offset));
            *seen = (seen.0.min(offset), seen.1.max(offset));
        }
        let drift = offsets.values().map(|(low, high)| high - low).max();
        ROUNDING_NS + drift.unwrap_or(0)
    }

    /// Whether expiry can be checked no more exactly than this, although nobody stepped a clock: then
    /// the checks of it say nothing.
    pub fn clocks_drifted(&self) -> bool {
        let was_stepped = |fault: &Span| fault.what.contains(CLOCK_FAULT);
        self.clock_error_ns() > CLOCK_ERROR_NS_MAX && !self.faults.iter().any(was_stepped)
    }

    /// The operations of a key, and what the final audit saw of it as one more read.
    pub fn with_audit(&self, key: &str) -> Vec<Operation> {
        let mut operations = self.keys.get(key).cloned().unwrap_or_default();
        if let Some(audit) = &self.audit {
            let row = self.row_index().get(key).copied();
            operations.push(audit_read(key, audit, row));
        }
        operations
    }

    /// Live rows of the audit by key, as their owners have them.
    pub fn row_index(&self) -> BTreeMap<&str, &Row> {
        let live = self.rows.iter().filter(|row| row.live && row.owned);
        live.map(|row| (row.key.as_str(), row)).collect()
    }
}

/// What the final audit saw of a key, as a strong read.
pub(crate) fn audit_read(key: &str, audit: &Span, row: Option<&Row>) -> Operation {
    Operation {
        id: u64::MAX,
        client: u32::MAX,
        key: key.to_owned(),
        start_ns: audit.start_ns,
        end_ns: audit.end_ns,
        deadline_ns: None,
        action: Action::Get {
            seen: Some(Seen {
                live: row.is_some(),
                value: row.map(|row| row.value.clone()),
                ttl_ms: None,
            }),
        },
        outcome: Outcome::Applied,
        level: Level::Strong,
        by_replica: false,
        staleness_ms: None,
        via: "final audit by SQL".to_owned(),
        status: String::new(),
        words: String::new(),
    }
}
