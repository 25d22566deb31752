//! Isolation: a master that is frozen or killed hurts its own keys alone, and every request to it
//! ends in time, once, and with the truth.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use freehold_core::slot::even_share;
use freehold_tests::Engine;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tonic::Code;

use crate::{
    history::Ending,
    load::{Load, Outcome, Plan},
    pace::{Calls, Control, Pace},
    scene::{Cluster, Result, keys_of, seed, until},
    sick::{Ended, IMPATIENT, PATIENT, Sick},
    table,
    wire::{self, Stub, Verdict},
};

/// The router's own limit.
const ROUTER_LIMIT: Duration = Duration::from_secs(2);

/// For the answer's way through a busy machine.
const TOLERANCE: Duration = Duration::from_secs(4);

/// No request to the healthy master may take longer, on a machine with too much to do.
const HEALTHY_MAX: Duration = Duration::from_secs(5);

/// How much slower than before the healthy half may be, compared with writes that pass the router
/// by. What the sick master could hold up (a lock, a queue, a thread) would cost far more.
const SLOWER_MAX: f64 = 3.0;

/// What the machine's other work may add to a typical call.
const NOISE: Duration = Duration::from_millis(20);

/// How long the pace is measured before the trouble.
const BEFORE: Duration = Duration::from_secs(2);

/// The connections to a frozen server are given up while it is frozen: both what happens before
/// and what happens after that is seen.
const CONFIG: &str = "[server]\nrequest_timeout_ms = 2000\n[lanes]\nstatement_timeout_ms = 3500\n\
                      connect_timeout_ms = 500\n";

/// How long the master is away at least: past the statement timeout, and some more.
const AWAY: Duration = Duration::from_millis(5_500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Frozen,
    Killed,
}

async fn a_frozen_master_hurts_its_own_keys_alone(engine: Engine) -> Result<()> {
    isolated(engine, Fault::Frozen).await
}

async fn a_killed_master_hurts_its_own_keys_alone(engine: Engine) -> Result<()> {
    isolated(engine, Fault::Killed).await
}

on_servers!(
    a_frozen_master_hurts_its_own_keys_alone,
    a_killed_master_hurts_its_own_keys_alone
);

async fn isolated(engine: Engine, fault: Fault) -> Result<()> {
    let mut cluster = Cluster::of_two(engine, CONFIG).await?;
    let mut plan = Plan::new("healthy", seed());
    plan.slots = even_share(1, 2);
    (plan.unary, plan.pipelined) = (4, 4);
    // Far from what the machine can do, so that the pace is the router's, not the machine's.
    plan.pause = Duration::from_millis(5);
    let control = Control::start(cluster.masters[1].connect().await?, plan.pause).await?;
    let healthy = Load::start(cluster.router.address(), &plan).await?;
    let stub = wire::stub(&cluster.router).await?;
    healthy.until_done(500).await?;
    let measured = Instant::now();
    sleep(BEFORE).await;
    let measured = measured..Instant::now();
    let sick = Sick::start(&stub);
    healthy.until_done(500).await?;

    match fault {
        Fault::Frozen => cluster.masters[0].freeze()?,
        Fault::Killed => cluster.masters[0].kill(),
    }
    let began = Instant::now();
    let (streamed, ()) = tokio::join!(stream_to_the_sick(&stub), sleep(AWAY));
    let streamed = streamed?;
    let times = [measured, began..Instant::now()];
    match fault {
        Fault::Frozen => cluster.masters[0].thaw()?,
        Fault::Killed => cluster.masters[0].start_again().await?,
    }

    let mut keys = keys_of(0, 2, "again");
    until("service to return without a restart", async || {
        let key = keys.next().expect("endless");
        Ok(wire::put(&stub, &key, "1", PATIENT).await.code == Code::Ok)
    })
    .await?;
    let (history, endings) = sick.stop().await?;
    let control = control.stop().await?;
    judge_healthy(&healthy.stop().await?, &control, &times);
    judge_sick(fault, &endings);
    judge_stream(&streamed);
    let client = cluster.client().await?;
    table::audit(&client, &history).await?;
    println!(
        "{} keys with an unknown outcome",
        history.count(Ending::Unknown)
    );
    Ok(())
}

/// 64 writes on one stream, to a master that does not answer.
async fn stream_to_the_sick(stub: &Stub) -> Result<wire::Streamed> {
    let keys: Vec<String> = keys_of(0, 2, "streamed").take(64).collect();
    let requests = keys
        .iter()
        .map(|key| wire::pipelined_put(key, "1"))
        .collect();
    let (sent, _unheard) = mpsc::channel(1);
    wire::pipeline(stub, requests, sent).await
}

fn judge_healthy(outcome: &Outcome, control: &Calls, times: &[Range<Instant>; 2]) {
    assert_eq!(
        outcome.failures,
        BTreeMap::new(),
        "nothing fails on the healthy master"
    );
    assert_eq!(outcome.violations, [""; 0]);
    assert!(
        outcome.longest < HEALTHY_MAX,
        "the longest request took {:?}",
        outcome.longest
    );
    let paces = |calls: &Calls| {
        times
            .each_ref()
            .map(|time| Pace::of(calls, time).expect("calls at that time"))
    };
    let ([before, during], [alone_before, alone]) = (paces(&outcome.took), paces(control));
    println!("healthy: {before:?}, then {during:?}");
    println!("past the router: {alone_before:?}, then {alone:?}");
    // How much slower the machine has become, in each respect.
    let slower = |before: Duration, now: Duration| {
        let times = now.as_secs_f64() / before.as_secs_f64();
        times.max(1.0)
    };
    let median_noise = slower(alone_before.median, alone.median);
    let slow_noise = slower(alone_before.slow, alone.slow).max(median_noise);
    for (what, before, during, noise) in [
        ("half", before.median, during.median, median_noise),
        ("one of ten", before.slow, during.slow, slow_noise),
    ] {
        let most = before.mul_f64(SLOWER_MAX * noise) + NOISE;
        assert!(
            during <= most,
            "{what} of the calls took more than {during:?}, before {before:?}; past the router all \
             was {noise:.1} times slower"
        );
    }
    let fewer = alone_before.calls_per_window as f64 / alone.calls_per_window.max(1) as f64;
    let noise = fewer.max(median_noise);
    let least = before.calls_per_window as f64 / (SLOWER_MAX * noise);
    assert!(
        during.calls_per_window as f64 >= least,
        "{} calls in a window, before {}; past the router all was {noise:.1} times slower",
        during.calls_per_window,
        before.calls_per_window
    );
}

fn judge_sick(fault: Fault, endings: &[Ended]) {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let (mut wrong, mut impatient, mut too_late) = (Vec::new(), 0, 0);
    for ended in endings {
        let Verdict {
            code, reason, took, ..
        } = &ended.verdict;
        *kinds.entry(format!("{code:?} {reason}")).or_default() += 1;
        if ended.deadline == IMPATIENT && *code != Code::Ok {
            impatient += 1;
            // The caller's own clock was first: the router answers 50 ms before the deadline, and
            // that is not enough for every answer's way.
            if *code == Code::Cancelled {
                too_late += 1;
                continue;
            }
        }
        if !ended.is_truthful() || *took > ROUTER_LIMIT + TOLERANCE {
            wrong.push(format!("{ended:?}"));
        }
    }
    println!("{fault:?}: {kinds:?}; {too_late} of {impatient} came too late for the impatient");
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        endings.len()
    );
    assert!(
        too_late * 2 <= impatient,
        "{too_late} of {impatient} answers came too late"
    );
    let seen = |kind: &str| kinds.keys().any(|seen| seen.starts_with(kind));
    assert!(seen("Unavailable"), "{kinds:?}");
    if fault == Fault::Frozen {
        assert!(seen("Unknown") && seen("DeadlineExceeded"), "{kinds:?}");
    }
}

fn judge_stream(streamed: &wire::Streamed) {
    assert_eq!(streamed.end.code, Code::Ok, "{:?}", streamed.end);
    assert_eq!(streamed.answers.len(), 64, "every request is answered");
    for (id, answers) in &streamed.answers {
        assert_eq!(
            answers.len(),
            1,
            "request {id} is answered once: {answers:?}"
        );
        let answer = &answers[0];
        assert_ne!(answer.code, Code::Ok, "{answer:?}");
        assert_ne!(answer.reason, "", "{answer:?}");
        assert!(answer.took <= ROUTER_LIMIT + TOLERANCE, "{answer:?}");
    }
}
