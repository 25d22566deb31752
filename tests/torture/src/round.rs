//! Workers and faults at once, then everything mended, an audit, and the verdict.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use freehold_checker::record::{Action, Level, Operation, Outcome, Record, Run};
use freehold_checker::verdict::check_within;
use freehold_checker::{History, Limits, Verdict, timeline};
use freehold_client::{Client, ClientOptions};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::Result;
use crate::calls::{Stub, Way};
use crate::cluster::{Cluster, Plan};
use crate::inject::inject;
use crate::journal::Journal;
use crate::options::{Kind, Options};
use crate::schedule::draw;
use crate::sessions::{Known, Shared};
use crate::worker::Worker;

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Rounds.
    pub rounds: u64,
    /// Operations that were checked.
    pub operations: usize,
    /// Walks that were checked.
    pub scans: usize,
    /// Rows that the audits read.
    pub rows: usize,
    /// Operations by how they ended: applied, not applied, unknown.
    pub outcomes: [u64; 3],
    /// Reads that a replica answered.
    pub by_replica: u64,
    /// Answered reads by their level.
    pub reads: BTreeMap<String, u64>,
    /// Faults by family.
    pub faults: BTreeMap<String, u64>,
    /// How failed requests ended.
    pub statuses: BTreeMap<String, u64>,
    /// Requests that were late while this machine stood still.
    pub excused: u64,
    /// Which kinds of faults this machine does not allow, and why.
    pub unavailable: Vec<String>,
    /// The first verdict that was not clean, and where its history is.
    pub failure: Option<(Verdict, PathBuf)>,
}

/// Runs rounds until the time is up, or one is not clean.
///
/// # Errors
/// Only of the harness itself: a cluster that does not start, or does not become well again.
pub async fn run(options: &Options, seed: u64, mut tell: impl FnMut(&str)) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut kinds = options.kinds();
    kinds.retain(|kind| match kind.is_available(options.engine) {
        Ok(()) => true,
        Err(error) => {
            let words = format!("NOT AVAILABLE HERE, AND NOT TESTED: {kind:?}: {error}");
            tell(&format!("{words}\n"));
            totals.unavailable.push(words);
            false
        }
    });
    let plan = Plan {
        engine: options.engine,
        bug: options.bug.as_deref(),
        kinds: &kinds,
        fails_over: kinds.contains(&Kind::Failovers),
    };
    let cluster = Arc::new(Cluster::start(&plan).await?);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut random = StdRng::seed_from_u64(seed);
    while totals.failure.is_none() && (totals.rounds == 0 || Instant::now() < end) {
        let round_seed = random.random();
        let number = totals.rounds;
        let one = round(&cluster, options, &kinds, seed, number, round_seed).await;
        let words = match one {
            Ok(history) => judge(options, history, &mut totals)?,
            Err(error) => {
                let folder = options.out.join(format!("{seed}-{}", totals.rounds));
                keep_logs(&cluster, &folder).await?;
                return Err(format!("{error}; logs are in {}", folder.display()).into());
            }
        };
        tell(&words);
        if let Some((_, folder)) = &totals.failure {
            keep_logs(&cluster, folder).await?;
        }
    }
    Ok(totals)
}

async fn round(
    cluster: &Arc<Cluster>,
    options: &Options,
    kinds: &[Kind],
    seed: u64,
    round: u64,
    round_seed: u64,
) -> Result<(Vec<Record>, BTreeMap<String, u64>)> {
    let mut random = StdRng::seed_from_u64(round_seed);
    let journal = Arc::new(Journal::default());
    journal.note(Record::Run(Run {
        seed,
        command: options.command(seed),
    }));
    let length = Duration::from_secs(options.round_seconds);
    let planned = draw(&mut random, kinds, cluster.replicas(), length);
    let stop = CancellationToken::new();
    let mut watching = JoinSet::new();
    let watched = journal.clone();
    watching.spawn(async move { watched.watch_the_machine().await });
    let (clocks, of) = (journal.clone(), cluster.clone());
    watching.spawn(async move { of.watch_the_clocks(&clocks).await });

    let mut workers = JoinSet::new();
    for worker in workers_of(cluster, options, &journal, round, &mut random).await? {
        workers.spawn(worker.run(stop.clone()));
    }
    let mut faults = BTreeMap::new();
    let mut injecting = JoinSet::new();
    for planned in planned {
        *faults.entry(planned.fault.family()).or_default() += 1;
        let (cluster, journal) = (cluster.clone(), journal.clone());
        injecting.spawn(async move { inject(&cluster, &journal, &planned).await });
    }
    tokio::time::sleep(length).await;
    // Whatever is broken is mended before the last requests.
    while let Some(injected) = injecting.join_next().await {
        injected??;
    }
    cluster.become_well().await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.cancel();
    while let Some(worker) = workers.join_next().await {
        worker?;
    }
    watching.shutdown().await;
    cluster.replicas_agree(round).await?;
    cluster.audit(round, &journal).await?;
    Ok((journal.take(), faults))
}

async fn workers_of(
    cluster: &Cluster,
    options: &Options,
    journal: &Arc<Journal>,
    round: u64,
    random: &mut StdRng,
) -> Result<Vec<Worker>> {
    let mut ways = Vec::new();
    for address in cluster.addresses() {
        for _ in 0..options.unary {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?
                .connect_timeout(Duration::from_millis(500))
                .http2_keep_alive_interval(Duration::from_secs(1))
                .keep_alive_timeout(Duration::from_secs(1));
            ways.push(Way::Unary(Stub::new(endpoint.connect_lazy())));
        }
    }
    let addresses: Vec<String> = cluster
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let client_options = ClientOptions {
        keepalive_interval: Duration::from_secs(1),
        keepalive_timeout: Duration::from_secs(1),
        ..ClientOptions::default()
    };
    let client = Client::connect(&addresses.join(","), &client_options).await?;
    ways.extend((0..options.pipelined).map(|_| Way::Streamed(client.clone())));
    let shared = Arc::new(Shared::default());
    let worker = |(number, way)| Worker {
        number,
        round,
        way,
        random: StdRng::seed_from_u64(random.random()),
        journal: journal.clone(),
        values: 0,
        known: Known::default(),
        shared: shared.clone(),
    };
    Ok((0..).zip(ways).map(worker).collect())
}

/// Checks a history, counts it, and keeps it if it is not clean. What came of it, in words.
fn judge(
    options: &Options,
    (records, faults): (Vec<Record>, BTreeMap<String, u64>),
    totals: &mut Totals,
) -> Result<String> {
    for record in &records {
        match record {
            Record::Operation(one) => {
                let place = match one.outcome {
                    Outcome::Applied => 0,
                    Outcome::NotApplied => 1,
                    Outcome::Unknown => 2,
                };
                totals.outcomes[place] += 1;
                totals.by_replica += u64::from(one.by_replica);
                if matches!(one.action, Action::Get { seen: Some(_) }) {
                    *totals.reads.entry(level(one)).or_default() += 1;
                }
                if !one.status.is_empty() {
                    *totals.statuses.entry(one.status.clone()).or_default() += 1;
                }
            }
            Record::Row(_) => totals.rows += 1,
            _ => {}
        }
    }
    let text = if options.keep {
        Some(as_lines(&records)?)
    } else {
        None
    };
    let history = History::new(records.iter().cloned());
    let began = Instant::now();
    let limits = Limits {
        late_ns_max: options.late_ms_max.saturating_mul(1_000_000),
        ..Limits::default()
    };
    let verdict = check_within(&history, &limits);
    let took = began.elapsed();
    let injected: u64 = faults.values().sum();
    for (family, count) in faults {
        *totals.faults.entry(family).or_default() += count;
    }
    let folder = options
        .out
        .join(format!("{}-{}", history.run.seed, totals.rounds));
    totals.rounds += 1;
    totals.operations += verdict.operations;
    totals.scans += verdict.scans;
    totals.excused += verdict.endings.excused;
    let mut words = format!("{injected} faults; checked in {took:.1?}: {verdict}");
    if !verdict.is_clean() || text.is_some() {
        let text = text.map_or_else(|| as_lines(&records), Ok)?;
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("history.jsonl"), text)?;
        if let Some(violation) = verdict.violations.first() {
            fs::write(folder.join("key.html"), timeline::html(&history, violation))?;
        }
        words += &format!("history, and a timeline of the key: {}\n", folder.display());
    }
    if !verdict.is_clean() {
        totals.failure = Some((verdict, folder));
    }
    Ok(words)
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

fn as_lines(records: &[Record]) -> Result<Vec<u8>> {
    let mut text = BufWriter::new(Vec::new());
    for record in records {
        serde_json::to_writer(&mut text, record)?;
        text.write_all(b"\n")?;
    }
    Ok(text.into_inner().map_err(|error| error.into_error())?)
}

async fn keep_logs(cluster: &Cluster, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (name, log) in cluster.logs().await {
        fs::write(folder.join(format!("{name}.log")), log)?;
    }
    Ok(())
}

impl Totals {
    /// All of it, for people.
    pub fn words(&self) -> String {
        let [applied, not_applied, unknown] = self.outcomes;
        let injected: u64 = self.faults.values().sum();
        let mut text = format!(
            "{} rounds, {} operations ({applied} applied or answered, {not_applied} not applied, \
             {unknown} unknown or unanswered; {} answered by replicas), {} scans, {} rows audited, \
             {injected} faults, {} late while this machine stood still\n",
            self.rounds, self.operations, self.by_replica, self.scans, self.rows, self.excused
        );
        for words in &self.unavailable {
            text += &format!("{words}\n");
        }
        let parts = [
            ("faults", &self.faults),
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
