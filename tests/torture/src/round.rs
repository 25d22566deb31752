//! Workers and faults at once, then everything mended, an audit, and the verdict.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freehold_checker::record::{Record, Run};
use freehold_checker::verdict::check_within;
use freehold_checker::{History, Limits, timeline};
use freehold_client::{Client, ClientOptions};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::calls::{Stub, Way};
use crate::cluster::{Cluster, Plan};
use crate::inject::inject;
use crate::journal::Journal;
use crate::options::{Kind, Options};
use crate::schedule::draw;
use crate::sessions::{Known, Shared};
use crate::totals::{Injected, Totals};
use crate::worker::Worker;
use crate::{Error, Result};

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
) -> Result<(Vec<Record>, Injected)> {
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
    let mut injecting = JoinSet::new();
    for planned in planned {
        let (cluster, journal) = (cluster.clone(), journal.clone());
        injecting.spawn(async move {
            let had_effect = inject(&cluster, &journal, &planned).await?;
            Ok::<_, Error>((planned.fault.family(), had_effect))
        });
    }
    tokio::time::sleep(length).await;
    // Whatever is broken is mended before the last requests.
    let mut faults = Injected::default();
    while let Some(injected) = injecting.join_next().await {
        let (family, had_effect) = injected??;
        faults.count(family, had_effect);
    }
    cluster.become_well().await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.cancel();
    while let Some(worker) = workers.join_next().await {
        worker?;
    }
    watching.shutdown().await;
    cluster.replicas_agree(round).await?;
    cluster.slots_have_owners().await?;
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
    (records, injected): (Vec<Record>, Injected),
    totals: &mut Totals,
) -> Result<String> {
    totals.add_records(&records);
    let text = if options.keep {
        Some(as_lines(&records)?)
    } else {
        None
    };
    let history = History::new(records.iter().cloned());
    let began = Instant::now();
    let limits = Limits {
        late_ns_max: options.late_ms_max.saturating_mul(1_000_000),
        unanswered_percent_max: options.unanswered_percent_max,
        ..Limits::default()
    };
    let verdict = check_within(&history, &limits);
    let took = began.elapsed();
    let folder = options
        .out
        .join(format!("{}-{}", history.run.seed, totals.rounds));
    totals.add_verdict(&verdict);
    let mut words = format!("{injected}; checked in {took:.1?}: {verdict}");
    totals.injected.add(injected);
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
