//! What came of each line: told as it happens, and counted.

use std::fmt::Write as _;

use indicatif::ProgressBar;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    exit::{Exit, Failure},
    output::{Output, human},
};

/// What can come of a line that was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// It will never be stored as it is.
    Bad,
    /// It was not applied.
    NotApplied,
    /// It may or may not have been applied.
    Unknown,
}

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// So many lines were stored.
    Stored(u64),
    /// These lines were not.
    Failed {
        lines: Vec<u64>,
        outcome: Outcome,
        error: String,
    },
    /// So many bytes of input are dealt with.
    Read(u64),
    /// The rest of the input is left out.
    Stopped(String),
}

/// Counts, and the progress bar.
pub(super) struct Report {
    output: Output,
    bar: ProgressBar,
    started: Instant,
    stored: u64,
    failed: [u64; 3],
    stopped: Option<String>,
}

impl Report {
    pub(super) fn new(output: Output, bar: ProgressBar, started: Instant) -> Self {
        Self {
            output,
            bar,
            started,
            stored: 0,
            failed: [0; 3],
            stopped: None,
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Stored(lines) => {
                self.stored += lines;
                self.bar.set_message(self.rate());
            }
            Event::Read(bytes) => self.bar.inc(bytes),
            Event::Failed {
                mut lines,
                outcome,
                error,
            } => {
                lines.sort_unstable();
                self.failed[outcome as usize] += lines.len() as u64;
                self.bar.suspend(|| self.tell(&lines, outcome, &error));
            }
            // The first reason is the one that counts.
            Event::Stopped(why) if self.stopped.is_none() => {
                self.bar
                    .suspend(|| self.output.note(&format!("stopping: {why}")));
                self.stopped = Some(why);
            }
            Event::Stopped(_) => {}
        }
    }

    fn tell(&self, lines: &[u64], outcome: Outcome, error: &str) {
        if self.output.is_json() {
            // Whether or not somebody reads it, the import goes on, and its code counts the line.
            let _ = self.output.json(&json!({
                "lines": lines, "outcome": outcome.word(), "error": error,
            }));
            return;
        }
        let what = match outcome {
            Outcome::Bad => "",
            Outcome::NotApplied => "not applied: ",
            Outcome::Unknown => "outcome unknown: ",
        };
        self.output
            .note(&format!("{}: {what}{error}", ranges(lines)));
    }

    fn rate(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let per_second = human::count((self.stored as f64 / seconds) as u64);
        format!("{}, {per_second} keys/s", human::plural(self.stored, "key"))
    }

    /// The counts, and the code they mean.
    pub(super) fn finish(self) -> Result<Exit, Failure> {
        self.bar.finish_and_clear();
        let [bad, not_applied, unknown] = self.failed;
        if self.output.is_json() {
            let told = self.output.json(&json!({
                "imported": self.stored,
                "bad": bad,
                "not_applied": not_applied,
                "unknown": unknown,
                "stopped": self.stopped,
                "seconds": self.started.elapsed().as_secs_f64(),
            }));
            match told {
                Ok(()) | Err(Failure::OutputClosed) => {}
                Err(failure) => return Err(failure),
            }
        } else {
            self.output.note(&format!("imported {}", self.rate()));
            let failed = [
                (bad, "that can never be stored as they are"),
                (not_applied, "that were not applied"),
                (unknown, "whose outcome is unknown"),
            ];
            for (lines, what) in failed.into_iter().filter(|(lines, _)| *lines > 0) {
                self.output
                    .note(&format!("{} {what}", human::plural(lines, "line")));
            }
            if let Some(why) = &self.stopped {
                self.output
                    .note(&format!("the rest of the input was left out: {why}"));
            }
            if not_applied + unknown > 0 || self.stopped.is_some() {
                self.output.note(
                    "Run the import again to complete it, unless somebody else writes these keys: \
                     it would undo what they wrote.",
                );
            }
        }
        Ok(match (unknown, not_applied, bad) {
            (1.., _, _) => Exit::Unknown,
            (_, 1.., _) => Exit::NotApplied,
            _ if self.stopped.is_some() => Exit::NotApplied,
            (_, _, 1..) => Exit::NotFound,
            _ => Exit::Done,
        })
    }
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        }
    }
}

/// `line 5`, `lines 5, 9-12`.
fn ranges(lines: &[u64]) -> String {
    let mut text = String::from(if lines.len() == 1 { "line " } else { "lines " });
    for (index, chunk) in lines.chunk_by(|a, b| a + 1 == *b).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = match chunk {
            [first, .., last] => write!(text, "{comma}{first}-{last}"),
            [only] => write!(text, "{comma}{only}"),
            [] => Ok(()),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_numbers_are_told_as_ranges() {
        assert_eq!(ranges(&[5]), "line 5");
        assert_eq!(ranges(&[5, 9, 10, 11, 20]), "lines 5, 9-11, 20");
    }
}
