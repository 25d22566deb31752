//! Many callers at once, and how their requests ended.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_checker::record::Outcome;
use freehold_client::Consistency;
use freehold_proto::v1;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Endpoint;

use crate::Result;
use crate::calls::{Ended, Question, Stub, Way, single, unary};
use crate::workload::{Ask, Level};

/// Callers that share a connection.
const PER_CONNECTION: usize = 128;

/// What a caller waits for one answer.
const WITHIN: Duration = Duration::from_millis(1_000);

/// Tags of a load's keys, and keys of each.
const TAGS: u32 = 1_000;
const KEYS: u32 = 10;

/// Items of a batch.
const ITEMS: u32 = 20;

/// What callers ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// `Put`s, half of them short-lived, and as many `Get`s.
    PutAndGet,
    /// These, and `Delete`, `Expire`, batches and walks.
    Everything,
}

/// How a load went.
#[derive(Debug, Clone, Default)]
pub struct Went {
    /// Requests that were answered well.
    pub served: u64,
    /// The others by code and reason.
    pub failed: BTreeMap<String, u64>,
    /// How long answers that ended well took, in the order in which they came.
    pub took: Vec<Duration>,
    /// How long the load lasted.
    pub lasted: Duration,
}

impl Went {
    /// Requests answered well in a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.served as f64 / self.lasted.as_secs_f64().max(0.001)
    }

    /// The time that 99 of 100 answers took at most.
    #[must_use]
    pub fn p99(&self) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let place = (took.len() * 99 / 100).min(took.len().saturating_sub(1));
        took.get(place).copied().unwrap_or_default()
    }
}

/// Lets so many callers ask one after another, without a pause, also after a refusal.
///
/// # Errors
/// Of an address that is none.
pub async fn load(router: SocketAddr, callers: usize, lasts: Duration, mix: Mix) -> Result<Went> {
    let began = Instant::now();
    let went = Arc::new(Mutex::new(Went::default()));
    let mut asking = JoinSet::new();
    let mut stubs = Vec::new();
    for _ in 0..callers.div_ceil(PER_CONNECTION) {
        let endpoint = Endpoint::from_shared(format!("http://{router}"))?;
        stubs.push(Stub::new(endpoint.connect_lazy()));
    }
    for number in 0..callers {
        let stub = stubs[number % stubs.len()].clone();
        let went = went.clone();
        asking.spawn(async move {
            let own = ask(stub, mix, number as u64, began + lasts).await;
            let mut all = went.lock().unwrap_or_else(PoisonError::into_inner);
            all.served += own.served;
            all.took.extend(own.took);
            for (status, count) in own.failed {
                *all.failed.entry(status).or_default() += count;
            }
        });
    }
    while let Some(ended) = asking.join_next().await {
        ended?;
    }
    let mut went = went.lock().unwrap_or_else(PoisonError::into_inner);
    went.lasted = began.elapsed();
    Ok(std::mem::take(&mut *went))
}

async fn ask(mut stub: Stub, mix: Mix, seed: u64, end: Instant) -> Went {
    let mut random = StdRng::seed_from_u64(seed);
    let mut went = Went::default();
    while Instant::now() < end {
        let asked = Instant::now();
        match one(&mut stub, &mut random, mix).await {
            None => {
                went.served += 1;
                went.took.push(asked.elapsed());
            }
            Some(status) => *went.failed.entry(status).or_default() += 1,
        }
    }
    went
}

/// One call; how it failed.
async fn one(stub: &mut Stub, random: &mut StdRng, mix: Mix) -> Option<String> {
    let tag = format!("{{load:{}}}:", random.random_range(0..TAGS));
    let key = format!("{tag}{}", random.random_range(0..KEYS));
    let kind = match mix {
        Mix::PutAndGet => random.random_range(20..100),
        Mix::Everything => random.random_range(0..100),
    };
    let ask = match kind {
        0..2 => {
            let walk = unary::Walk {
                prefix: tag,
                read: Consistency::Strong,
                page_size: 5,
                within: WITHIN,
            };
            let walked = unary::scan(stub, &walk).await;
            return Some(walked.status).filter(|status| !status.is_empty());
        }
        2..4 => return failure(unary::batch_write(stub, writes(random), WITHIN).await),
        4..8 => {
            let keys: Vec<String> = (0..ITEMS).map(|item| format!("{tag}{item}")).collect();
            let read = Consistency::Strong;
            return failure(unary::batch_get(stub, &keys, &read, WITHIN).await);
        }
        8..14 => Ask::Delete { key },
        14..20 => Ask::Expire {
            key,
            ttl_ms: Some(500),
        },
        // Some expire, so that the sweeper has something to do.
        20..40 => put(key, Some(500)),
        40..60 => put(key, None),
        _ => Ask::Get {
            key,
            level: Level::Strong,
        },
    };
    let question = Question {
        ask,
        name: "load".to_owned(),
        read: Consistency::Strong,
        within: WITHIN,
    };
    let ended = single(&mut Way::Unary(stub.clone()), &question).await;
    failure(vec![ended])
}

fn put(key: String, ttl_ms: Option<u64>) -> Ask {
    Ask::Put {
        key,
        ttl_ms,
        padding_bytes: 100,
    }
}

/// Puts to different slots.
fn writes(random: &mut StdRng) -> Vec<v1::Write> {
    let first = random.random_range(0..TAGS);
    let write = |item: u32| {
        let key = format!("{{load:{}}}:0", (first + item) % TAGS);
        let put = unary::wire_put(&key, "load", None, 100);
        v1::Write {
            write: Some(v1::write::Write::Put(put)),
        }
    };
    (0..ITEMS).map(write).collect()
}

/// The first that failed.
fn failure(all: Vec<Ended>) -> Option<String> {
    let failed = all.into_iter().find(|one| one.outcome != Outcome::Applied);
    failed.map(|one| one.status)
}
