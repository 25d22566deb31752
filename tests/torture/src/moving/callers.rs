//! Callers that know what every answer must be, and note how long it took.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_client::Client;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Result;
use crate::moving::rows::{Known, Own, Rows};

/// A time to live that no run outlasts.
const TTL: Duration = Duration::from_secs(24 * 3_600);

/// How late a caller may be with its next request: what it could have asked before is left out.
const LATE_MAX: Duration = Duration::from_secs(1);

/// What a caller does, with how many of a hundred requests.
type Mix = &'static [(Operation, u32)];

/// More rows are put than are deleted.
const MIX: Mix = &[
    (Operation::Get, 50),
    (Operation::Put, 20),
    (Operation::Delete, 10),
    (Operation::Expire, 10),
    (Operation::Ttl, 10),
];

const WRITES: Mix = &[
    (Operation::Put, 60),
    (Operation::Delete, 20),
    (Operation::Expire, 20),
];

/// How callers go about it.
#[derive(Debug, Clone, Copy)]
pub enum Manner {
    /// All operations, with so many requests of all callers in a second.
    Steady(u32),
    /// Writes, one after another without a pause.
    Writing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Get,
    Put,
    Delete,
    Expire,
    Ttl,
}

/// One answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// When it was asked for: at the latest when it was due.
    pub asked: Instant,
    /// How long it took from then on.
    pub took: Duration,
    /// Whether it was a write.
    pub writes: bool,
}

/// Callers that are asking.
pub struct Callers {
    tasks: JoinSet<Result<Own>>,
    shared: Arc<Shared>,
}

struct Shared {
    stopping: AtomicBool,
    noted: Mutex<Noted>,
}

struct Noted {
    answers: Vec<Answer>,
    /// When each caller asked for what it waits for.
    under_way: Vec<Option<Instant>>,
}

impl Shared {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Callers {
    /// One for each part of the rows.
    #[must_use]
    pub fn start(
        client: &Client,
        rows: &Arc<Rows>,
        own: Vec<Own>,
        manner: Manner,
        seed: u64,
    ) -> Self {
        let count = u32::try_from(own.len()).unwrap_or(u32::MAX);
        let (mix, period) = match manner {
            Manner::Steady(rate) => (MIX, Some(Duration::from_secs(1) * count / rate.max(1))),
            Manner::Writing => (WRITES, None),
        };
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            noted: Mutex::new(Noted {
                answers: Vec::new(),
                under_way: vec![None; own.len()],
            }),
        });
        let begin = Instant::now();
        let mut tasks = JoinSet::new();
        for (index, own) in own.into_iter().enumerate() {
            let caller = Caller {
                index,
                client: client.clone(),
                rows: rows.clone(),
                own,
                mix,
                random: StdRng::seed_from_u64(seed.wrapping_add(index as u64)),
                shared: shared.clone(),
            };
            // Evenly, not all at once.
            let place = u32::try_from(index).unwrap_or(0);
            let first = begin + period.unwrap_or_default() * place / count;
            tasks.spawn(caller.run(first, period));
        }
        Self { tasks, shared }
    }

    /// Does something, and answers what callers saw meanwhile: all that was asked for in that time.
    /// What was seen before is forgotten.
    ///
    /// # Errors
    /// Of what is done, or of a caller.
    pub async fn during<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<(T, Seen)> {
        let from = Instant::now();
        self.shared.noted().answers.retain(|one| one.asked >= from);
        let done = tokio::select! {
            done = work => done?,
            Some(ended) = self.tasks.join_next() => {
                ended??;
                return Err("a caller stopped by itself".into());
            }
        };
        let to = Instant::now();
        let is_under_way = |asked: &Option<Instant>| asked.is_some_and(|asked| asked < to);
        while self.shared.noted().under_way.iter().any(is_under_way) {
            if let Some(ended) = self.tasks.try_join_next() {
                ended??;
            }
            sleep(Duration::from_millis(5)).await;
        }
        let mut answers = std::mem::take(&mut self.shared.noted().answers);
        answers.retain(|one| one.asked < to);
        let lasted = to - from;
        Ok((done, Seen { answers, lasted }))
    }

    /// Ends them; answers what must be in their rows.
    ///
    /// # Errors
    /// Of a caller.
    pub async fn stop(mut self) -> Result<Vec<Own>> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let mut own = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            own.push(ended??);
        }
        Ok(own)
    }
}

/// What callers saw in a while.
#[derive(Debug)]
pub struct Seen {
    /// In the order in which they came.
    pub answers: Vec<Answer>,
    /// How long the while was.
    pub lasted: Duration,
}

struct Caller {
    index: usize,
    client: Client,
    rows: Arc<Rows>,
    own: Own,
    mix: Mix,
    random: StdRng,
    shared: Arc<Shared>,
}

impl Caller {
    /// A request that is late, because the one before took long, counts from when it was due.
    async fn run(mut self, first: Instant, period: Option<Duration>) -> Result<Own> {
        let mut due = first;
        while !self.shared.stopping.load(Ordering::Relaxed) {
            let is_late = due < Instant::now();
            if !is_late {
                sleep_until(due).await;
            }
            let asked = if is_late { due } else { Instant::now() };
            self.shared.noted().under_way[self.index] = Some(asked);
            let writes = self.ask().await?;
            let mut noted = self.shared.noted();
            noted.under_way[self.index] = None;
            noted.answers.push(Answer {
                asked,
                took: asked.elapsed(),
                writes,
            });
            drop(noted);
            let now = Instant::now();
            due = match period {
                Some(period) => (due + period).max(now - LATE_MAX),
                None => now,
            };
        }
        Ok(self.own)
    }

    fn draw(&mut self) -> (Operation, usize) {
        let place = self.random.random_range(0..self.own.known.len());
        let mut drawn = self.random.random_range(0..100);
        for (operation, share) in self.mix.iter().copied() {
            if drawn < share {
                let deleted = (operation == Operation::Put).then(|| self.own.deleted.pop());
                return (operation, deleted.flatten().unwrap_or(place));
            }
            drawn -= share;
        }
        (Operation::Get, place)
    }

    /// Asks once, and checks the answer; says whether it was a write.
    async fn ask(&mut self) -> Result<bool> {
        let (operation, place) = self.draw();
        let number = self.own.number(place);
        self.does(operation, place, number)
            .await
            .map_err(|error| format!("{operation:?} of row {number}: {error}").into())
    }

    async fn does(&mut self, operation: Operation, place: usize, number: u32) -> Result<bool> {
        let (key, known) = (self.rows.key(number), self.own.known[place]);
        let is_there = known.salt.is_some();
        let same = |existed: bool| match existed == is_there {
            true => Ok(()),
            false => Err(format!("it says {existed}, and {is_there} is right")),
        };
        match operation {
            Operation::Get => {
                let reply = self.client.get(key).await?;
                self.rows.compare(number, known, reply.value())?;
            }
            Operation::Ttl => {
                let reply = self.client.ttl(key).await?;
                same(reply.found)?;
                let expires = known.expires && is_there;
                if reply.ttl.is_some() != expires || reply.ttl.is_some_and(|ttl| ttl > TTL) {
                    return Err(format!("{:?} to live, and expires: {expires}", reply.ttl).into());
                }
            }
            Operation::Put => {
                self.own.salt += 1;
                let salt = self.own.salt;
                self.client.put(key, self.rows.value(number, salt)).await?;
                self.own.known[place] = Known {
                    salt: Some(salt),
                    expires: false,
                };
            }
            Operation::Delete => {
                same(self.client.delete(key).await?.existed)?;
                if is_there {
                    self.own.deleted.push(place);
                }
                self.own.known[place].salt = None;
            }
            Operation::Expire => {
                same(self.client.expire(key, TTL).await?.existed)?;
                self.own.known[place].expires = is_there;
            }
        }
        Ok(!matches!(operation, Operation::Get | Operation::Ttl))
    }
}
