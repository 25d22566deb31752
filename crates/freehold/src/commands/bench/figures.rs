//! What was seen, in seconds and in all.

use std::{collections::BTreeMap, time::Duration};

use freehold_client::Error;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{BenchArgs, load::Keys};
use crate::{
    exit::Failure,
    output::{Output, human, table},
};

/// Latencies up to a minute, in microseconds, with three digits.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Calls of one kind.
#[derive(Debug)]
struct Calls {
    latencies_us: Histogram<u64>,
    failed: u64,
}

impl Default for Calls {
    fn default() -> Self {
        let latencies_us = Histogram::new_with_max(LATENCY_US_MAX, 3);
        Self {
            latencies_us: latencies_us.expect("the bounds are constant and legal"),
            failed: 0,
        }
    }
}

impl Calls {
    fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.latencies_us.add(&other.latencies_us);
        self.failed += other.failed;
    }

    fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latencies_us.value_at_quantile(quantile))
    }

    fn to_json(&self) -> Value {
        json!({
            "answered": self.latencies_us.len(),
            "failed": self.failed,
            "p50_us": self.latencies_us.value_at_quantile(0.5),
            "p99_us": self.latencies_us.value_at_quantile(0.99),
            "p999_us": self.latencies_us.value_at_quantile(0.999),
            "max_us": self.latencies_us.max(),
        })
    }
}

/// What was seen in a while, mostly a second.
#[derive(Debug, Default)]
pub(super) struct Second {
    reads: Calls,
    writes: Calls,
    /// By what was said.
    failures: BTreeMap<String, u64>,
}

impl Second {
    pub(super) fn record(&mut self, is_read: bool, took: Duration, called: &Result<(), Error>) {
        let calls = if is_read {
            &mut self.reads
        } else {
            &mut self.writes
        };
        match called {
            Ok(()) => {
                let us = u64::try_from(took.as_micros()).unwrap_or(LATENCY_US_MAX);
                calls.latencies_us.saturating_record(us.max(1));
            }
            Err(error) => {
                calls.failed += 1;
                *self.failures.entry(error.to_string()).or_default() += 1;
            }
        }
    }

    /// For a terminal.
    pub(super) fn line(&self) -> String {
        let words = |name: &str, calls: &Calls| {
            format!(
                "{name} {}/s p99 {}",
                human::count(calls.latencies_us.len()),
                milliseconds(calls.quantile(0.99))
            )
        };
        let failed = self.reads.failed + self.writes.failed;
        format!(
            "{}   {}   failed {failed}",
            words("reads", &self.reads),
            words("writes", &self.writes)
        )
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "reads": self.reads.to_json(), "writes": self.writes.to_json() })
    }
}

/// A whole run.
#[derive(Debug, Default)]
pub(super) struct Figures {
    all: Second,
    elapsed: Duration,
    /// Reads that did not find what was written.
    wrong: u64,
}

impl Figures {
    pub(super) fn add(&mut self, seen: &Second) {
        self.all.reads.add(&seen.reads);
        self.all.writes.add(&seen.writes);
        for (words, count) in &seen.failures {
            *self.all.failures.entry(words.clone()).or_default() += count;
        }
    }

    pub(super) fn finish(&mut self, elapsed: Duration, wrong: u64) {
        (self.elapsed, self.wrong) = (elapsed, wrong);
    }

    /// Calls that failed or answered something wrong.
    pub(super) fn failed(&self) -> u64 {
        self.all.reads.failed + self.all.writes.failed + self.wrong
    }

    /// Tells it.
    pub(super) fn summary(
        &self,
        args: &BenchArgs,
        keys: &Keys,
        deleted: bool,
        output: Output,
    ) -> Result<(), Failure> {
        if output.is_json() {
            return output.json(&json!({
                "seconds": self.elapsed.as_secs_f64(),
                "callers": args.callers,
                "keys": keys.count,
                "value_bytes": keys.value_bytes,
                "prefix": keys.prefix,
                "deleted": deleted,
                "reads": self.calls_json(&self.all.reads),
                "writes": self.calls_json(&self.all.writes),
                "wrong_reads": self.wrong,
                "failures": self.all.failures,
            }));
        }
        let mut rows = table::table(&["", "CALLS", "PER SECOND", "P50", "P99", "P99.9", "FAILED"]);
        for (name, calls) in [("reads", &self.all.reads), ("writes", &self.all.writes)] {
            rows.add_row([
                table::number(name),
                table::number(human::count(calls.latencies_us.len())),
                table::number(human::count(self.per_second(calls))),
                table::number(milliseconds(calls.quantile(0.5))),
                table::number(milliseconds(calls.quantile(0.99))),
                table::number(milliseconds(calls.quantile(0.999))),
                table::number(human::count(calls.failed)),
            ]);
        }
        output.line(&table::render(&rows))?;
        for (words, count) in &self.all.failures {
            output.note(&format!(
                "{} failed: {words}",
                human::plural(*count, "call")
            ));
        }
        if self.wrong > 0 {
            let wrong = human::plural(self.wrong, "read");
            output.note(&format!("{wrong} did not find what was written"));
        }
        Ok(())
    }

    fn calls_json(&self, calls: &Calls) -> Value {
        let mut shown = calls.to_json();
        shown["per_second"] = json!(self.per_second(calls));
        shown
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    fn per_second(&self, calls: &Calls) -> u64 {
        let seconds = self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        (calls.latencies_us.len() as f64 / seconds).round() as u64
    }
}

/// `0.41 ms`.
fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_add_up_to_a_run() {
        let mut figures = Figures::default();
        for took in [1, 3] {
            let mut second = Second::default();
            for _ in 0..100 {
                second.record(true, Duration::from_millis(took), &Ok(()));
            }
            let failed = Err(Error::OutcomeUnknown {
                message: "lost".to_owned(),
            });
            second.record(false, Duration::from_millis(took), &failed);
            figures.add(&second);
        }
        figures.finish(Duration::from_secs(2), 0);
        assert_eq!(figures.per_second(&figures.all.reads), 100);
        assert_eq!(figures.failed(), 2);
        assert_eq!(figures.all.failures.values().sum::<u64>(), 2);
        assert_eq!(milliseconds(figures.all.reads.quantile(0.99)), "3.00 ms");
    }
}
