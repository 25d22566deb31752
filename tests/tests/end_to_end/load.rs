//! Writers that never stop, and remember how each of their writes ended.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use freehold_client::{Client, ClientOptions, Error, RetryOptions};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    history::{Effect, Ending, History},
    scene::{Result, slot_of, until},
    wire::{self, Stub, Verdict},
};

/// Keys that one writer writes in turn. A key of unknown outcome is replaced by a new one.
const KEYS_AT_ONCE: usize = 8;

/// The pause after a failure, so that a dead router is not asked a million times.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// How to write.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What every key begins with.
    pub(crate) prefix: String,
    /// The slots that keys are taken from.
    pub(crate) slots: RangeInclusive<u16>,
    /// Writers that use single methods.
    pub(crate) unary: usize,
    /// Writers that share the client's Pipeline streams.
    pub(crate) pipelined: usize,
    /// What a call may take.
    pub(crate) timeout: Duration,
    /// Between two calls of one writer.
    pub(crate) pause: Duration,
    /// Of the writers' choices.
    pub(crate) seed: u64,
}

impl Plan {
    /// Eight unary and eight pipelined writers on all slots, without pauses.
    pub(crate) fn new(prefix: &str, seed: u64) -> Self {
        Self {
            prefix: prefix.to_owned(),
            slots: 0..=u16::MAX,
            unary: 8,
            pipelined: 8,
            timeout: Duration::from_secs(5),
            pause: Duration::ZERO,
            seed,
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) history: History,
    /// Calls that ended well.
    pub(crate) done: u64,
    /// The longest call that ended well.
    pub(crate) longest: Duration,
    /// When each call that ended well began, and what it took.
    pub(crate) took: Vec<(Instant, Duration)>,
    /// Why calls failed, and how often.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Reads that did not show what was written before.
    pub(crate) violations: Vec<String>,
}

/// Writers under way.
pub(crate) struct Load {
    stop: CancellationToken,
    done: Arc<AtomicU64>,
    writers: JoinSet<Outcome>,
}

impl Load {
    /// Starts writing to the router at this address.
    pub(crate) async fn start(address: SocketAddr, plan: &Plan) -> Result<Self> {
        let options = ClientOptions {
            timeout: plan.timeout,
            retry: RetryOptions::never(),
            ..ClientOptions::default()
        };
        let client = Client::connect(&address.to_string(), &options).await?;
        let (stop, done) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let stub = Stub::connect(format!("http://{address}")).await?;
        let mut writers = JoinSet::new();
        for number in 0..plan.unary + plan.pipelined {
            let writer = Writer {
                prefix: format!("{}:{number}", plan.prefix),
                plan: plan.clone(),
                client: client.clone(),
                stub: (number < plan.unary).then(|| stub.clone()),
                random: StdRng::seed_from_u64(plan.seed.wrapping_add(number as u64)),
                next: 0,
                keys: Vec::new(),
                count: done.clone(),
                outcome: Outcome::default(),
            };
            writers.spawn(writer.run(stop.clone()));
        }
        Ok(Self {
            stop,
            done,
            writers,
        })
    }

    /// Calls that ended well so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until so many more calls have ended well.
    pub(crate) async fn until_done(&self, more: u64) -> Result<()> {
        let target = self.done() + more;
        until("calls to end well", async || Ok(self.done() >= target)).await
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> Result<Outcome> {
        self.stop.cancel();
        let mut all = Outcome::default();
        while let Some(outcome) = self.writers.join_next().await {
            let outcome = outcome?;
            all.done += outcome.done;
            all.longest = all.longest.max(outcome.longest);
            all.took.extend(outcome.took);
            all.violations.extend(outcome.violations);
            all.history.merge(outcome.history);
            for (reason, count) in outcome.failures {
                *all.failures.entry(reason).or_default() += count;
            }
        }
        Ok(all)
    }
}

struct Writer {
    prefix: String,
    plan: Plan,
    client: Client,
    /// Of a writer that uses single methods.
    stub: Option<Stub>,
    random: StdRng,
    next: u64,
    keys: Vec<String>,
    count: Arc<AtomicU64>,
    outcome: Outcome,
}

impl Writer {
    async fn run(mut self, stop: CancellationToken) -> Outcome {
        while !stop.is_cancelled() {
            while self.keys.len() < KEYS_AT_ONCE {
                self.add_key();
            }
            let place = self.random.random_range(0..KEYS_AT_ONCE);
            match self.random.random_range(0..8_u8) {
                0 => self.read(place).await,
                1 => self.write(place, None).await,
                _ => {
                    self.next += 1;
                    let padding = self.random.random_range(0..200);
                    let value = format!("{}{}", self.next, "x".repeat(padding));
                    self.write(place, Some(value)).await;
                }
            }
            if !self.plan.pause.is_zero() {
                sleep(self.plan.pause).await;
            }
        }
        self.outcome
    }

    fn add_key(&mut self) {
        loop {
            self.next += 1;
            let key = format!("{}:{}", self.prefix, self.next);
            if self.plan.slots.contains(&slot_of(&key)) {
                self.keys.push(key);
                return;
            }
        }
    }

    async fn write(&mut self, place: usize, effect: Effect) {
        let key = self.keys[place].clone();
        let began = Instant::now();
        let ended = match (&self.stub, &effect) {
            (Some(stub), effect) => {
                let effect = effect.as_deref();
                let verdict = wire::write(stub, &key, effect, self.plan.timeout).await;
                of_verdict(&verdict)
            }
            (None, Some(value)) => {
                let put = self.client.put(key.clone(), value.clone());
                put.await.map(drop).map_err(|error| of_error(&error))
            }
            (None, None) => {
                let delete = self.client.delete(key.clone());
                delete.await.map(drop).map_err(|error| of_error(&error))
            }
        };
        let ending = match &ended {
            Ok(()) => Ending::Applied,
            Err((ending, _)) => *ending,
        };
        self.count(began, ended).await;
        self.outcome.history.note(&key, effect, ending);
        if ending == Ending::Unknown {
            self.keys.swap_remove(place);
        }
    }

    async fn read(&mut self, place: usize) {
        let key = self.keys[place].clone();
        let began = Instant::now();
        let (ended, shown) = match &self.stub {
            Some(stub) => {
                let (verdict, shown) = wire::read(stub, &key, self.plan.timeout).await;
                (of_verdict(&verdict), shown)
            }
            None => match self.client.get(key.clone()).await {
                Ok(reply) => {
                    let text = |value| String::from_utf8_lossy(value).into_owned();
                    (Ok(()), reply.value().map(|value| text(value)))
                }
                Err(error) => (Err(of_error(&error)), None),
            },
        };
        let is_answered = ended.is_ok();
        self.count(began, ended).await;
        let expected = self.outcome.history.expected(&key);
        if is_answered && expected.is_some_and(|expected| *expected != shown) {
            let words = format!("{key}: read {shown:?} instead of {expected:?}");
            self.outcome.violations.push(words);
        }
    }

    /// Counts how a call ended.
    async fn count(&mut self, began: Instant, ended: Result<(), (Ending, String)>) {
        match ended {
            Ok(()) => {
                self.outcome.done += 1;
                let took = began.elapsed();
                self.outcome.longest = self.outcome.longest.max(took);
                self.outcome.took.push((began, took));
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            Err((_, words)) => {
                *self.outcome.failures.entry(words).or_default() += 1;
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

fn of_verdict(verdict: &Verdict) -> Result<(), (Ending, String)> {
    let Verdict {
        reason, message, ..
    } = verdict;
    match verdict.of_write() {
        Ending::Applied => Ok(()),
        Ending::NotApplied => Err((
            Ending::NotApplied,
            format!("not applied, {reason}: {message}"),
        )),
        Ending::Unknown => Err((Ending::Unknown, format!("unknown: {message}"))),
    }
}

fn of_error(error: &Error) -> (Ending, String) {
    match error {
        Error::NotApplied {
            reason, message, ..
        } => (
            Ending::NotApplied,
            format!("not applied, {reason}: {message}"),
        ),
        Error::OutcomeUnknown { message } => (Ending::Unknown, format!("unknown: {message}")),
        other => (Ending::NotApplied, format!("{other:?}")),
    }
}
