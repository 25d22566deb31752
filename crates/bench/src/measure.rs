//! Lets callers loose on one target for a while, and counts.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    counters::{Counted, Counters},
    cpu,
    data::DataSet,
    error::Error,
    plan::{Cell, Plan},
    servers::{Processes, Servers},
    targets::{Batcher, Caller, Callers, Target},
    workload::{Generator, Inserted, Operation, Workload},
};

/// Latencies up to a minute, in microseconds, with three digits.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Before counting begins: connections, caches and batches settle.
const WARM_UP: Duration = Duration::from_millis(500);

/// The share of its calls that a store must have counted itself. It is asked a moment after the
/// round began, so a little is missing always.
const COUNTED_MIN: f64 = 0.7;

/// One target in one cell, once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) target: Target,
    pub(crate) cell: Cell,
    pub(crate) repetition: u32,
}

/// What came of a round. CPU is in microseconds per operation.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Record {
    pub(crate) target: Target,
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) repetition: u32,
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    pub(crate) rate_per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    /// Of what keeps the rows.
    pub(crate) database_cpu_us: f64,
    /// Of what stands between it and the callers.
    pub(crate) between_cpu_us: f64,
    /// Of the callers, which are this program.
    pub(crate) callers_cpu_us: f64,
    /// What stands between occupies at the end.
    pub(crate) between_memory_mib: f64,
    /// What the store counted itself in the meantime.
    pub(crate) counted: Counted,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell {
            workload,
            callers,
            data,
        } = self.cell;
        write!(
            f,
            "{:>2} {:<7} {callers:>4} callers {:>5} B {:<15} {:>8.0}/s  p50 {:>6} us  p99 {:>6} us  cpu {:>6.1} + {:>6.1} + {:>6.1} us",
            self.repetition + 1,
            workload.as_str(),
            data.value_bytes,
            self.target.as_str(),
            self.rate_per_second,
            self.p50_us,
            self.p99_us,
            self.database_cpu_us,
            self.between_cpu_us,
            self.callers_cpu_us
        )
    }
}

/// What all callers of a round share.
struct Shared {
    round: Round,
    rows: u64,
    slow: Option<Duration>,
    begin: Instant,
    end: Instant,
    /// One for all: as many as there are callers would not fit the processor's caches.
    latencies: Mutex<Histogram<u64>>,
    /// Calls that the store should have seen: a read with a write behind it is two.
    calls: AtomicU64,
}

/// Measures one round.
#[allow(clippy::cast_precision_loss)]
pub(crate) async fn measure(
    servers: &mut Servers,
    plan: &Plan,
    round: Round,
) -> Result<Record, Error> {
    let Round { target, cell, .. } = round;
    let callers = target.callers(servers, plan, cell.callers).await?;
    let mut counters = Counters::of(target, servers).await?;
    let processes = servers.processes(target)?;
    let begin = Instant::now() + WARM_UP.min(plan.duration);
    let shared = Arc::new(Shared {
        round,
        rows: plan.rows_of(cell.data),
        slow: plan
            .slow
            .and_then(|(slow, time)| (slow == target).then_some(time)),
        begin,
        end: begin + plan.duration,
        latencies: Mutex::new(histogram()),
        calls: AtomicU64::new(0),
    });
    let inserted = servers.inserted(target, cell.data).clone();
    inserted.settle();
    let mut tasks = start(callers, &shared, inserted);
    tokio::time::sleep_until(shared.begin).await;
    let (cpu_before, before) = (cpu_seconds(processes)?, counters.read().await?);
    tokio::time::sleep_until(shared.end).await;
    let (cpu_after, after) = (cpu_seconds(processes)?, counters.read().await?);
    let between_memory_mib = processes.between.map_or(Ok(0.0), cpu::memory_mib)?;
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let latencies = shared
        .latencies
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let operations = latencies.len();
    let cpu_us =
        |index: usize| (cpu_after[index] - cpu_before[index]) * 1e6 / operations.max(1) as f64;
    let record = Record {
        target,
        cell,
        repetition: round.repetition,
        operations,
        seconds: plan.duration.as_secs_f64(),
        rate_per_second: operations as f64 / plan.duration.as_secs_f64(),
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
        p999_us: latencies.value_at_quantile(0.999),
        database_cpu_us: cpu_us(0),
        between_cpu_us: cpu_us(1),
        callers_cpu_us: cpu_us(2),
        between_memory_mib,
        counted: after.since(before),
    };
    check_counters(&record, shared.calls.load(Ordering::Relaxed))?;
    Ok(record)
}

fn start(
    callers: Callers,
    shared: &Arc<Shared>,
    inserted: Arc<Inserted>,
) -> JoinSet<Result<(), Error>> {
    let mut tasks = JoinSet::new();
    let generator = |index: u64| {
        let Round {
            cell, repetition, ..
        } = shared.round;
        let seed = u64::from(repetition) << 32 | index;
        Generator::new(cell.workload, shared.rows, seed)
    };
    match callers {
        Callers::OneByOne(callers) => {
            for (index, caller) in (0..).zip(callers) {
                let task = CallerTask {
                    caller,
                    shared: shared.clone(),
                    generator: generator(index),
                    inserted: inserted.clone(),
                };
                tasks.spawn(task.run());
            }
        }
        Callers::Batches(batchers) => {
            for (index, batcher) in (0..).zip(batchers) {
                let task = BatchTask {
                    batcher,
                    shared: shared.clone(),
                    generator: generator(index),
                    inserted: inserted.clone(),
                };
                tasks.spawn(task.run());
            }
        }
    }
    tasks
}

/// The callers' count against the store's own: work that was never done must not count.
#[allow(clippy::cast_precision_loss)]
fn check_counters(record: &Record, calls: u64) -> Result<(), Error> {
    let statements = record.counted.statements;
    let is_enough = statements as f64 >= calls as f64 * COUNTED_MIN;
    if record.target.is_one_statement_per_call() && !is_enough {
        return Err(Error::Miscounted {
            target: record.target.as_str(),
            operations: calls,
            statements,
        });
    }
    Ok(())
}

fn cpu_seconds(processes: Processes) -> Result<[f64; 3], Error> {
    Ok([
        cpu::seconds(processes.database)?,
        processes.between.map_or(Ok(0.0), cpu::seconds)?,
        cpu::seconds(std::process::id())?,
    ])
}

impl Shared {
    /// Counts what began and ended in time.
    fn record(&self, started: Instant, operations: u64, calls: u64) {
        let ended = Instant::now();
        if started < self.begin || ended > self.end {
            return;
        }
        let us = u64::try_from((ended - started).as_micros()).unwrap_or(LATENCY_US_MAX);
        let mut latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let us = us.clamp(1, LATENCY_US_MAX);
        // The highest value is in its range.
        let _ = latencies.record_n(us, operations);
        drop(latencies);
        self.calls.fetch_add(calls, Ordering::Relaxed);
    }

    fn data(&self) -> DataSet {
        self.round.cell.data
    }

    fn check(&self, is_right: bool, number: u64) -> Result<(), Error> {
        let target = self.round.target.as_str();
        is_right
            .then_some(())
            .ok_or(Error::WrongValue { target, number })
    }
}

struct CallerTask {
    caller: Box<dyn Caller>,
    shared: Arc<Shared>,
    generator: Generator,
    inserted: Arc<Inserted>,
}

impl CallerTask {
    /// Calls until the round's end.
    async fn run(mut self) -> Result<(), Error> {
        loop {
            let started = Instant::now();
            if started >= self.shared.end {
                return Ok(());
            }
            if let Some(time) = self.shared.slow {
                tokio::time::sleep(time).await;
            }
            let operation = self.generator.next(&self.inserted);
            let calls = self.call(operation).await?;
            self.shared.record(started, 1, calls);
        }
    }

    /// Does it; returns how many calls that were.
    async fn call(&mut self, operation: Operation) -> Result<u64, Error> {
        let data = self.shared.data();
        match operation {
            Operation::Get(number) => {
                self.get(number).await?;
            }
            Operation::Put { number, expires } => {
                let (key, value) = (data.key(number), data.value(number, self.generator.salt()));
                self.caller.put(key, value, expires).await?;
            }
            Operation::Insert(number) => {
                let (key, value) = (data.key(number), data.value(number, self.generator.salt()));
                self.caller.put(key, value, false).await?;
                self.inserted.end(number);
            }
            Operation::ReadThenPut(number) => {
                self.get(number).await?;
                let (key, value) = (data.key(number), data.value(number, self.generator.salt()));
                self.caller.put(key, value, false).await?;
                return Ok(2);
            }
            Operation::Scan { tag, rows } => {
                let keys = data.keys_of_tag(tag);
                let found = self.caller.scan(keys.start, keys.end, rows).await?;
                let is_right = found.len() as u64 == rows
                    && found
                        .iter()
                        .all(|(key, value)| data.is_row_of_tag(tag, key, value));
                self.shared.check(is_right, tag)?;
            }
        }
        Ok(1)
    }

    async fn get(&mut self, number: u64) -> Result<(), Error> {
        let data = self.shared.data();
        let value = self.caller.get(data.key(number)).await?;
        let is_right = value.is_some_and(|value| data.is_value_of(number, &value))
            || self.shared.round.target == Target::EmptyCall;
        self.shared.check(is_right, number)
    }
}

struct BatchTask {
    batcher: Batcher,
    shared: Arc<Shared>,
    generator: Generator,
    inserted: Arc<Inserted>,
}

impl BatchTask {
    async fn run(mut self) -> Result<(), Error> {
        let data = self.shared.data();
        let workload = self.shared.round.cell.workload;
        loop {
            let started = Instant::now();
            if started >= self.shared.end {
                return Ok(());
            }
            if let Some(time) = self.shared.slow {
                tokio::time::sleep(time).await;
            }
            let numbers = self.draw();
            if workload == Workload::Get {
                let keys: Vec<Bytes> = numbers.iter().map(|number| data.key(*number)).collect();
                let rows = self.batcher.get(&keys).await?;
                self.check(&numbers, &rows)?;
            } else {
                let salt = self.generator.salt();
                let row = |number: &u64| (data.key(*number), data.value(*number, salt));
                let rows: Vec<(Bytes, Bytes)> = numbers.iter().map(row).collect();
                let expires = workload == Workload::PutTtl;
                self.batcher.put(&rows, expires).await?;
            }
            self.shared.record(started, numbers.len() as u64, 1);
        }
    }

    /// As many different keys as a batch has.
    fn draw(&mut self) -> BTreeSet<u64> {
        let mut numbers = BTreeSet::new();
        while numbers.len() < self.batcher.width() {
            match self.generator.next(&self.inserted) {
                Operation::Get(number) | Operation::Put { number, .. } => numbers.insert(number),
                other => unreachable!("{other:?} has no part in batches"),
            };
        }
        numbers
    }

    fn check(&self, numbers: &BTreeSet<u64>, rows: &[(Bytes, Bytes)]) -> Result<(), Error> {
        let data = self.shared.data();
        self.shared
            .check(rows.len() == numbers.len(), rows.len() as u64)?;
        for (key, value) in rows {
            let number = value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
            let number = number.unwrap_or_default();
            let is_right = numbers.contains(&number)
                && *key == data.key(number)
                && data.is_value_of(number, value);
            self.shared.check(is_right, number)?;
        }
        Ok(())
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are constant and legal")
}
