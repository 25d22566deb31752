//! What a run came to, in numbers and words.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use freehold_checker::Verdict;
use freehold_checker::endings::Endings;
use freehold_checker::record::{Action, Level, Operation, Outcome, Record};

/// Faults by family.
#[derive(Debug, Clone, Default)]
pub struct Injected {
    /// Those that had an effect.
    pub faults: BTreeMap<String, u64>,
    /// Those that were planned, and found nothing to break: a network that carried nothing, a mover
    /// that had ended.
    pub idle: BTreeMap<String, u64>,
}

impl Injected {
    /// Counts one.
    pub fn count(&mut self, family: String, had_effect: bool) {
        let counts = match had_effect {
            true => &mut self.faults,
            false => &mut self.idle,
        };
        *counts.entry(family).or_default() += 1;
    }

    /// Counts all of another round.
    pub fn add(&mut self, other: Self) {
        let counts = [
            (&mut self.faults, other.faults),
            (&mut self.idle, other.idle),
        ];
        for (all, more) in counts {
            for (family, count) in more {
                *all.entry(family).or_default() += count;
            }
        }
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [faults, idle] = [&self.faults, &self.idle].map(|counts| counts.values().sum::<u64>());
        write!(f, "{faults} faults, {idle} more without effect")
    }
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Rounds.
    pub rounds: u64,
    /// Operations that were checked.
    pub operations: usize,
    /// Walks that were checked.
    pub scans: usize,
    /// Of these, those that came to their end.
    pub scans_complete: usize,
    /// Rows that the audits read.
    pub rows: usize,
    /// Operations by how they ended: applied, not applied, unknown.
    pub outcomes: [u64; 3],
    /// Reads that a replica answered.
    pub by_replica: u64,
    /// Answered reads by their level.
    pub reads: BTreeMap<String, u64>,
    /// What was broken.
    pub injected: Injected,
    /// How failed requests ended.
    pub statuses: BTreeMap<String, u64>,
    /// How requests ended.
    pub endings: Endings,
    /// Which kinds of faults this machine does not allow, and why.
    pub unavailable: Vec<String>,
    /// The first verdict that was not clean, and where its history is.
    pub failure: Option<(Verdict, PathBuf)>,
}

impl Totals {
    /// Counts what a round recorded.
    pub fn add_records(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::Operation(one) => self.add_operation(one),
                Record::Scan(one) if !one.status.is_empty() => {
                    *self.statuses.entry(one.status.clone()).or_default() += 1;
                }
                Record::Row(_) => self.rows += 1,
                _ => {}
            }
        }
    }

    fn add_operation(&mut self, one: &Operation) {
        let place = match one.outcome {
            Outcome::Applied => 0,
            Outcome::NotApplied => 1,
            Outcome::Unknown => 2,
        };
        self.outcomes[place] += 1;
        self.by_replica += u64::from(one.by_replica);
        if matches!(one.action, Action::Get { seen: Some(_) }) {
            *self.reads.entry(level(one)).or_default() += 1;
        }
        if !one.status.is_empty() {
            *self.statuses.entry(one.status.clone()).or_default() += 1;
        }
    }

    /// Counts what a round came to.
    pub fn add_verdict(&mut self, verdict: &Verdict) {
        self.rounds += 1;
        self.operations += verdict.operations;
        self.scans += verdict.scans;
        self.scans_complete += verdict.scans_complete;
        let (all, more) = (&mut self.endings, verdict.endings);
        *all = Endings {
            requests: all.requests + more.requests,
            late: all.late + more.late,
            excused: all.excused + more.excused,
            undisturbed: all.undisturbed + more.undisturbed,
            unanswered: all.unanswered + more.unanswered,
            silenced: all.silenced + more.silenced,
        };
    }

    /// All of it, for people.
    pub fn words(&self) -> String {
        let [applied, not_applied, unknown] = self.outcomes;
        let Endings {
            excused,
            undisturbed,
            unanswered,
            silenced,
            ..
        } = self.endings;
        let mut text = format!(
            "{} rounds, {} operations ({applied} applied or answered, {not_applied} not applied, \
             {unknown} unknown or unanswered; {} answered by replicas), {} scans to the end and {} \
             others, {} rows audited, {}\n\
             {excused} late while this machine stood still; without a word of a router ended \
             {unanswered} requests of {undisturbed} that nothing disturbed, and {silenced} others\n",
            self.rounds,
            self.operations,
            self.by_replica,
            self.scans_complete,
            self.scans - self.scans_complete,
            self.rows,
            self.injected
        );
        for words in &self.unavailable {
            text += &format!("{words}\n");
        }
        let parts = [
            ("faults", &self.injected.faults),
            ("without effect", &self.injected.idle),
            ("answered reads", &self.reads),
            ("failed", &self.statuses),
        ];
        for (title, counts) in parts {
            let counts: Vec<String> = counts
                .iter()
                .map(|(what, n)| format!("{what} {n}"))
                .collect();
            text += &format!("{title}: {}\n", counts.join(", "));
        }
        text
    }
}

/// The level of a read, and who answered it.
fn level(read: &Operation) -> String {
    let level = match &read.level {
        Level::Strong => "STRONG",
        Level::Eventual => "EVENTUAL",
        Level::Bounded { .. } => "BOUNDED_STALENESS",
        Level::Session { token_of: None } => "SESSION of other keys",
        Level::Session { .. } => "SESSION",
    };
    let by = if read.by_replica {
        "replicas"
    } else {
        "masters"
    };
    format!("{level} by {by}")
}
