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

use bytes::Bytes;
use freehold_client::{Client, ClientOptions, Consistency, Error, Pipeline, Request, Response};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    history::{Effect, Ending, History},
    scene::{Result, slot_of, until},
};

/// Keys that one writer writes in turn. A key of unknown outcome is replaced by a new one.
const KEYS_AT_ONCE: usize = 8;

/// The pause after a failure, so that a dead router is not asked a million times.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Room on the shared stream.
const IN_FLIGHT_MAX: usize = 64;

/// How to write.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What every key begins with.
    pub(crate) prefix: String,
    /// The slots that keys are taken from.
    pub(crate) slots: RangeInclusive<u16>,
    /// Writers that use single methods.
    pub(crate) unary: usize,
    /// Writers that share one Pipeline stream.
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
            ..ClientOptions::default()
        };
        let client = Client::connect(&address.to_string(), &options).await?;
        let (stop, done) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let pipeline = SharedPipeline::default();
        let mut writers = JoinSet::new();
        for number in 0..plan.unary + plan.pipelined {
            let writer = Writer {
                prefix: format!("{}:{number}", plan.prefix),
                plan: plan.clone(),
                client: client.clone(),
                pipeline: (number >= plan.unary).then(|| pipeline.clone()),
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
            all.violations.extend(outcome.violations);
            all.history.merge(outcome.history);
            for (reason, count) in outcome.failures {
                *all.failures.entry(reason).or_default() += count;
            }
        }
        Ok(all)
    }
}

/// Opened anew after each failure.
type SharedPipeline = Arc<Mutex<Option<Pipeline>>>;

struct Writer {
    prefix: String,
    plan: Plan,
    client: Client,
    /// Absent for a writer that uses single methods.
    pipeline: Option<SharedPipeline>,
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
        let bytes = Bytes::from(key.clone());
        let request = match &effect {
            Some(value) => Request::Put {
                key: bytes,
                value: value.clone().into(),
                ttl: None,
            },
            None => Request::Delete { key: bytes },
        };
        let ending = match self.call(request).await {
            Ok(_) => Ending::Applied,
            Err(Error::OutcomeUnknown { .. }) => Ending::Unknown,
            Err(_) => Ending::NotApplied,
        };
        self.outcome.history.note(&key, effect, ending);
        if ending == Ending::Unknown {
            self.keys.swap_remove(place);
        }
    }

    async fn read(&mut self, place: usize) {
        let key = self.keys[place].clone();
        let consistency = Consistency::Strong;
        let request = Request::Get {
            key: key.clone().into(),
            consistency,
        };
        let Ok(Response::Get(reply)) = self.call(request).await else {
            return;
        };
        let shown = reply
            .entry
            .map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        let expected = self.outcome.history.expected(&key);
        if expected.is_some_and(|expected| *expected != shown) {
            let words = format!("{key}: read {shown:?} instead of {expected:?}");
            self.outcome.violations.push(words);
        }
    }

    /// Sends a request, and counts how it ended.
    async fn call(&mut self, request: Request) -> Result<Response, Error> {
        let began = Instant::now();
        let ended = self.send(request).await;
        match &ended {
            Ok(_) => {
                self.outcome.done += 1;
                self.outcome.longest = self.outcome.longest.max(began.elapsed());
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                if let Some(pipeline) = &self.pipeline {
                    *pipeline.lock().await = None;
                }
                *self.outcome.failures.entry(words(error)).or_default() += 1;
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
        ended
    }

    async fn send(&mut self, request: Request) -> Result<Response, Error> {
        if let Some(shared) = &self.pipeline {
            let mut open = shared.lock().await;
            let pipeline = match open.take() {
                Some(pipeline) => pipeline,
                None => self.client.pipeline(IN_FLIGHT_MAX).await?,
            };
            *open = Some(pipeline.clone());
            drop(open);
            return pipeline.call(request).await;
        }
        match request {
            Request::Put { key, value, ttl } => {
                self.client.put(key, value, ttl).await.map(Response::Put)
            }
            Request::Delete { key } => self.client.delete(key).await.map(Response::Delete),
            Request::Get { key, consistency } => {
                self.client.get(key, &consistency).await.map(Response::Get)
            }
            other => unreachable!("no writer asks {other:?}"),
        }
    }
}

fn words(error: &Error) -> String {
    match error {
        Error::NotApplied {
            reason, message, ..
        } => format!("not applied, {reason}: {message}"),
        Error::OutcomeUnknown { message } => format!("unknown: {message}"),
        other => format!("{other:?}"),
    }
}
