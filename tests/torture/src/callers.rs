//! Many callers at once, and how their requests ended.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_checker::record::Outcome;
use freehold_client::Consistency;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Endpoint;

use crate::Result;
use crate::calls::{Question, Stub, Way, single};
use crate::workload::{Ask, Level};

/// Callers that share a connection.
const PER_CONNECTION: usize = 128;

/// What a caller waits for one answer.
const WITHIN: Duration = Duration::from_millis(1_000);

/// Keys of a load.
const KEYS: u32 = 10_000;

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
pub async fn load(router: SocketAddr, callers: usize, lasts: Duration) -> Result<Went> {
    let began = Instant::now();
    let went = Arc::new(Mutex::new(Went::default()));
    let mut asking = JoinSet::new();
    let mut stubs = Vec::new();
    for _ in 0..callers.div_ceil(PER_CONNECTION) {
        let endpoint = Endpoint::from_shared(format!("http://{router}"))?;
        stubs.push(Stub::new(endpoint.connect_lazy()));
    }
    for number in 0..callers {
        let way = Way::Unary(stubs[number % stubs.len()].clone());
        let went = went.clone();
        asking.spawn(async move {
            let own = ask(way, number as u64, began + lasts).await;
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

async fn ask(mut way: Way, seed: u64, end: Instant) -> Went {
    let mut random = StdRng::seed_from_u64(seed);
    let mut went = Went::default();
    while Instant::now() < end {
        let key = format!("load:{}", random.random_range(0..KEYS));
        let level = Level::Strong;
        let ask = match random.random_range(0..4) {
            // Some expire, so that the sweeper has something to do.
            0 => Ask::Put {
                key,
                ttl_ms: Some(500),
                padding_bytes: 100,
            },
            1 => Ask::Put {
                key,
                ttl_ms: None,
                padding_bytes: 100,
            },
            _ => Ask::Get { key, level },
        };
        let question = Question {
            ask,
            name: "load".to_owned(),
            read: Consistency::Strong,
            within: WITHIN,
        };
        let asked = Instant::now();
        let ended = single(&mut way, &question).await;
        if ended.outcome == Outcome::Applied {
            went.served += 1;
            went.took.push(asked.elapsed());
        } else {
            *went.failed.entry(ended.status).or_default() += 1;
        }
    }
    went
}
