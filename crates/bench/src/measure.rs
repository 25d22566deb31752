//! Lets callers loose on one target for a while, and counts.

use std::{
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use hdrhistogram::Histogram;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    cluster::Cluster,
    data,
    error::Error,
    plan::{Plan, Workload},
    targets::{Caller, Target},
};

/// Latencies up to a minute, in microseconds, with three digits.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Before counting begins: connections, caches and batches settle.
const WARM_UP: Duration = Duration::from_millis(500);

/// Kernel clock ticks in a second, as `/proc` counts CPU time on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// One target, one workload, once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) target: Target,
    pub(crate) workload: Workload,
    pub(crate) repetition: u32,
}

/// What came of a round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Record {
    pub(crate) target: Target,
    pub(crate) workload: Workload,
    pub(crate) callers: usize,
    pub(crate) repetition: u32,
    pub(crate) operations: u64,
    pub(crate) rate_per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) database_cpu_us_per_operation: f64,
    pub(crate) router_cpu_us_per_operation: f64,
    pub(crate) callers_cpu_us_per_operation: f64,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>2} {} {:>8}: {:>8.0}/s  p50 {:>6} us  p99 {:>6} us  database {:>6.1} us  router {:>6.1} us  callers {:>6.1} us",
            self.repetition + 1,
            self.workload.as_str(),
            self.target.as_str(),
            self.rate_per_second,
            self.p50_us,
            self.p99_us,
            self.database_cpu_us_per_operation,
            self.router_cpu_us_per_operation,
            self.callers_cpu_us_per_operation
        )
    }
}

/// Measures one round.
#[allow(clippy::cast_precision_loss)]
pub(crate) async fn measure(
    cluster: &mut Cluster,
    plan: &Plan,
    round: Round,
) -> Result<Record, Error> {
    let callers = round.target.callers(cluster, plan.callers).await?;
    let begin = Instant::now() + WARM_UP;
    let end = begin + plan.duration;
    // One for all: as many as there are callers would not fit the processor's caches.
    let latencies = Arc::new(Mutex::new(histogram()));
    let mut tasks = JoinSet::new();
    for (index, caller) in (0_u64..).zip(callers) {
        let seed = u64::from(round.repetition) << 32 | index;
        let task = CallerTask {
            caller,
            round,
            rows: cluster.rows,
            value_bytes: cluster.value_bytes,
            random: StdRng::seed_from_u64(seed),
            latencies: latencies.clone(),
        };
        tasks.spawn(task.run(begin, end));
    }
    tokio::time::sleep_until(begin).await;
    let (database, router) = cluster.processes()?;
    // The callers are this process.
    let cpu = || -> Result<[f64; 3], Error> {
        let callers = std::process::id();
        Ok([
            cpu_seconds(database)?,
            cpu_seconds(router)?,
            cpu_seconds(callers)?,
        ])
    };
    let before = cpu()?;
    tokio::time::sleep_until(end).await;
    let after = cpu()?;
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let latencies = latencies.lock().expect("nobody panics with it");
    let operations = latencies.len();
    let cpu_us =
        |process: usize| (after[process] - before[process]) * 1e6 / operations.max(1) as f64;
    Ok(Record {
        target: round.target,
        workload: round.workload,
        callers: plan.callers,
        repetition: round.repetition,
        operations,
        rate_per_second: operations as f64 / plan.duration.as_secs_f64(),
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
        p999_us: latencies.value_at_quantile(0.999),
        database_cpu_us_per_operation: cpu_us(0),
        router_cpu_us_per_operation: cpu_us(1),
        callers_cpu_us_per_operation: cpu_us(2),
    })
}

struct CallerTask {
    caller: Box<dyn Caller>,
    round: Round,
    rows: u64,
    value_bytes: usize,
    random: StdRng,
    latencies: Arc<Mutex<Histogram<u64>>>,
}

impl CallerTask {
    /// Calls until `end`; counts the calls that begin and end between `begin` and `end`.
    async fn run(mut self, begin: Instant, end: Instant) -> Result<(), Error> {
        loop {
            let started = Instant::now();
            if started >= end {
                return Ok(());
            }
            self.call().await?;
            let ended = Instant::now();
            if started >= begin && ended <= end {
                let us = u64::try_from((ended - started).as_micros()).unwrap_or(LATENCY_US_MAX);
                let mut latencies = self.latencies.lock().expect("nobody panics with it");
                latencies.saturating_record(us.max(1));
            }
        }
    }

    async fn call(&mut self) -> Result<(), Error> {
        let number = self.random.random_range(0..self.rows);
        let key = data::key(number);
        match self.round.workload {
            Workload::Get => {
                let value = self.caller.get(key).await?;
                if value.is_some_and(|value| data::is_value_of(number, &value)) {
                    Ok(())
                } else {
                    Err(Error::WrongValue {
                        target: self.round.target.as_str(),
                        number,
                    })
                }
            }
            Workload::Put => {
                let value = data::value(number, self.value_bytes);
                self.caller.put(key, value).await
            }
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are constant and legal")
}

/// CPU time that a process has used, as the operating system counts it.
fn cpu_seconds(pid: u32) -> Result<f64, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let text = fs::read_to_string(&path).map_err(|error| Error::Io { path, error })?;
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
