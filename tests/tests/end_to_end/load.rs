//! Writers that never stop, and remember how each of their writes ended. They put, delete, let keys
//! expire, and look at what they wrote and how long it has to live.

mod caller;

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

use freehold_client::{Client, ClientOptions, RetryOptions};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::caller::of_error;
use self::caller::{Caller, Failed};
use crate::{
    history::{Effect, Ending, History},
    scene::{Result, slot_of, until},
    table,
    wire::Stub,
};

/// Keys that one writer writes in turn. A key of unknown outcome is replaced by a new one.
const KEYS_AT_ONCE: usize = 8;

/// The pause after a failure, so that a dead router is not asked a million times.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// After which a key has expired that was given a millisecond, on any server whose clock is right.
const EXPIRED_AFTER: Duration = Duration::from_millis(5);

/// The pause of a writer that nobody wants more of. Without any, the writers of one test take both
/// cores from servers that start, movers and audits, and from the test beside it.
const PAUSE: Duration = Duration::from_millis(5);

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
    /// Eight unary and eight pipelined writers on all slots, up to 3,200 calls in a second.
    pub(crate) fn new(prefix: &str, seed: u64) -> Self {
        Self {
            prefix: prefix.to_owned(),
            slots: 0..=u16::MAX,
            unary: 8,
            pipelined: 8,
            timeout: Duration::from_secs(5),
            pause: PAUSE,
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
    /// The longest call of each writer that ended well.
    pub(crate) longest_of_each: Vec<Duration>,
    /// When each call that ended well began, and what it took.
    pub(crate) took: Vec<(Instant, Duration)>,
    /// Why calls failed, and how often.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Reads that did not show what was written before.
    pub(crate) violations: Vec<String>,
}

impl Outcome {
    /// Nothing failed, everything is known, and every read showed what was written.
    pub(crate) fn is_undisturbed(&self) {
        assert_eq!(self.failures, [].into(), "nothing fails");
        assert_eq!(self.violations, [""; 0]);
        assert_eq!(self.history.count(Ending::Unknown), 0);
    }
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
                caller: Caller {
                    client: client.clone(),
                    stub: (number < plan.unary).then(|| stub.clone()),
                    timeout: plan.timeout,
                },
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

    /// Ends it, after some more calls. Nobody was disturbed, and what was written is what can be read.
    pub(crate) async fn end_undisturbed(self, client: &Client) -> Result<()> {
        self.until_done(200).await?;
        let outcome = self.stop().await?;
        outcome.is_undisturbed();
        table::audit(client, &outcome.history).await
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> Result<Outcome> {
        self.stop.cancel();
        let mut all = Outcome::default();
        while let Some(outcome) = self.writers.join_next().await {
            let outcome = outcome?;
            all.done += outcome.done;
            all.longest = all.longest.max(outcome.longest);
            all.longest_of_each.push(outcome.longest);
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
    caller: Caller,
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
            match self.random.random_range(0..16_u8) {
                0 | 1 => self.get(place).await,
                2 => self.ttl(place).await,
                3 => self.delete(place).await,
                4 => self.expire_soon(place).await,
                5 => self.expire(place).await,
                _ => self.put(place).await,
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

    async fn put(&mut self, place: usize) {
        self.next += 1;
        let padding = self.random.random_range(0..200);
        let value = format!("{}{}", self.next, "x".repeat(padding));
        let began = Instant::now();
        let ended = self.caller.put(&self.keys[place], &value).await;
        self.wrote(place, Some(value), began, ended).await;
    }

    async fn delete(&mut self, place: usize) {
        let began = Instant::now();
        let ended = self.caller.delete(&self.keys[place]).await;
        self.wrote(place, None, began, ended).await;
    }

    /// To its writer it is a delete that takes its time.
    async fn expire_soon(&mut self, place: usize) {
        let began = Instant::now();
        let ttl = Some(Duration::from_millis(1));
        let ended = self.caller.expire(&self.keys[place], ttl).await;
        self.saw_whether_it_existed(place, &ended);
        self.wrote(place, None, began, ended.map(drop)).await;
        sleep(EXPIRED_AFTER).await;
    }

    /// Some time from now that the run will not see, or never.
    async fn expire(&mut self, place: usize) {
        let hours = self.random.random_range(0..10);
        let ttl = (hours > 0).then(|| Duration::from_secs(hours * 3_600));
        let began = Instant::now();
        let ended = self.caller.expire(&self.keys[place], ttl).await;
        self.saw_whether_it_existed(place, &ended);
        let ending = ending(&ended);
        self.count(began, ended).await;
        let key = &self.keys[place];
        self.outcome.history.note_expiry(key, ttl, began, ending);
        if ending == Ending::Unknown {
            self.keys.swap_remove(place);
        }
    }

    fn saw_whether_it_existed(&mut self, place: usize, ended: &Result<bool, Failed>) {
        let key = &self.keys[place];
        let expected = self.outcome.history.expected(key).map(Option::is_some);
        if let (Ok(existed), Some(expected)) = (ended, expected)
            && *existed != expected
        {
            let words = format!("{key}: expire says existed={existed} instead of {expected}");
            self.outcome.violations.push(words);
        }
    }

    /// Notes a write that ended.
    async fn wrote(
        &mut self,
        place: usize,
        effect: Effect,
        began: Instant,
        ended: Result<(), Failed>,
    ) {
        let ending = ending(&ended);
        self.count(began, ended).await;
        self.outcome.history.note(&self.keys[place], effect, ending);
        if ending == Ending::Unknown {
            self.keys.swap_remove(place);
        }
    }

    async fn get(&mut self, place: usize) {
        let began = Instant::now();
        let read = self.caller.get(&self.keys[place]).await;
        let key = &self.keys[place];
        let expected = self.outcome.history.expected(key);
        if let (Ok(shown), Some(expected)) = (&read, expected)
            && shown != expected
        {
            let words = format!("{key}: read {shown:?} instead of {expected:?}");
            self.outcome.violations.push(words);
        }
        self.count(began, read).await;
    }

    async fn ttl(&mut self, place: usize) {
        let began = Instant::now();
        let read = self.caller.ttl(&self.keys[place]).await;
        let key = &self.keys[place];
        let history = &self.outcome.history;
        let expected = history.expected(key).map(Option::is_some);
        let wrong = match (&read, expected) {
            (Ok(shown), Some(expected)) if shown.is_some() != expected => Some(format!(
                "{key}: its ttl is {shown:?}, and it is there: {expected}"
            )),
            (Ok(Some(ttl)), Some(true)) => history.wrong_ttl(key, *ttl, began..Instant::now()),
            _ => None,
        };
        self.outcome.violations.extend(wrong);
        self.count(began, read).await;
    }

    /// Counts how a call ended.
    async fn count<T>(&mut self, began: Instant, ended: Result<T, Failed>) {
        match ended {
            Ok(_) => {
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

fn ending<T>(ended: &Result<T, Failed>) -> Ending {
    match ended {
        Ok(_) => Ending::Applied,
        Err((ending, _)) => *ending,
    }
}
