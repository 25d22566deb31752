//! What was read, from where, and how long it took.

use std::{collections::BTreeMap, fmt, time::Duration};

use freehold_client::Source;

/// Reads of one kind.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    took: Vec<Duration>,
    by_source: BTreeMap<&'static str, u64>,
    /// What must not be, in words.
    pub(crate) wrong: Vec<String>,
    /// Ended with an error that promises nothing.
    pub(crate) unanswered: u64,
}

impl Figures {
    pub(crate) fn add(&mut self, source: Source, took: Duration) {
        let source = match source {
            Source::Replica => "replicas",
            Source::Master => "masters",
            Source::Unknown => "nobody knows",
        };
        *self.by_source.entry(source).or_default() += 1;
        self.took.push(took);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.took.extend(other.took);
        self.wrong.extend(other.wrong);
        self.unanswered += other.unanswered;
        for (source, count) in other.by_source {
            *self.by_source.entry(source).or_default() += count;
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.took.len()
    }

    pub(crate) fn share_of_replicas(&self) -> f64 {
        let of_replicas = self.by_source.get("replicas").copied().unwrap_or(0);
        of_replicas as f64 / (self.count() as f64).max(1.0)
    }

    /// The time that half of the reads took at most.
    pub(crate) fn median(&self) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        took.get(took.len() / 2).copied().unwrap_or_default()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} reads, {:.1} % by replicas, p50 {:?}, {} unanswered, {} wrong",
            self.count(),
            100.0 * self.share_of_replicas(),
            self.median(),
            self.unanswered,
            self.wrong.len()
        )
    }
}
