//! What many shards cost a router: over storage that answers at once, without gRPC, on one thread.
//!
//! Everything that depends on the number of shards is in it: the map, the queues, the lanes and
//! their statements. (gRPC would only add the same to both sides of each comparison.)

mod instant;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use clap::Args;
use freehold_core::{Key, Route, Slot};
use freehold_router::{
    Router, RouterSettings,
    request::{AnswerBudget, Answers, Level, Numbered, Operation, Reply, Request},
};
use prometheus_client::registry::Registry;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use crate::{cpu, error::Error};

/// Requests in flight while CPU time is measured, and the most that one lane's queue takes.
const IN_FLIGHT: usize = 16_384;

/// Requests that are put into queues before lanes have their turn.
const ENQUEUED: usize = 8_192;

/// Keys that requests are for, in turns.
const KEYS: usize = 1 << 17;

/// Longer than any measurement.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What `shards` can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct ShardsArgs {
    /// How often each is measured, in turns.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(3..))]
    repetitions: u32,
    /// Operations that CPU time is measured over, each time.
    #[arg(long, default_value_t = 2_000_000)]
    operations: u64,
    /// Rounds of 8,192 requests that the cost of one is measured over.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..))]
    rounds: u32,
}

/// Measures all of it and prints what came of it.
pub(crate) async fn run(args: ShardsArgs) -> Result<(), Error> {
    // One thread, and nobody else on it.
    let measuring = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io(std::path::Path::new("a thread")))?;
        runtime.block_on(measure(&args))
    });
    measuring.await?
}

async fn measure(args: &ShardsArgs) -> Result<(), Error> {
    println!("{}", cpu::machine());
    let mut starts = Vec::new();
    for _ in 0..args.repetitions {
        let begun = Instant::now();
        let many = World::start(1_000).await;
        starts.push(begun.elapsed().as_secs_f64());
        many.stop().await;
    }
    let (least, most) = ends(&starts);
    let start = median(&mut starts);
    println!("start with 65,536 slots on 1,000 shards: {start:.3} s ({least:.3} to {most:.3})");
    let (mut one, mut ten, mut many, mut idle) = (
        World::start(1).await,
        World::start(10).await,
        World::start(1_000).await,
        World::start_asking(1_000, 1).await,
    );
    println!("hash, look-up and enqueue of one request:");
    let enqueued = compare_enqueuing(&mut one, &mut idle, args.rounds).await;
    println!("  of 1,000 shards one is asked: {enqueued}");
    let enqueued = compare_enqueuing(&mut one, &mut many, args.rounds).await;
    println!("  all 1,000 are: {enqueued}");
    let (mut of_ten, mut of_many) = (Vec::new(), Vec::new());
    for _ in 0..args.repetitions {
        of_ten.push(ten.cpu_us(args.operations).await?);
        of_many.push(many.cpu_us(args.operations).await?);
    }
    let (ten_us, many_us) = (median(&mut of_ten), median(&mut of_many));
    println!(
        "router CPU per operation, {IN_FLIGHT} in flight: {ten_us:.2} us with 10 shards, \
         {many_us:.2} us with 1,000: {:.2} ×",
        many_us / ten_us
    );
    for world in [one, ten, many, idle] {
        world.stop().await;
    }
    Ok(())
}

/// A router, and where its answers come.
struct World {
    router: Router,
    keys: Vec<Bytes>,
    next: usize,
    answers: Arc<Answers>,
    answered: mpsc::Receiver<Numbered>,
    taken: Vec<Numbered>,
}

impl World {
    /// A router that serves every slot, and is asked for keys of all shards.
    async fn start(shards: usize) -> Self {
        Self::start_asking(shards, shards).await
    }

    /// The same, where all keys are of the first shards, so many of them.
    async fn start_asking(shards: usize, asked: usize) -> Self {
        let mut registry = Registry::default();
        let specs = instant::specs(shards);
        let router = Router::start(RouterSettings::default(), specs, &mut registry, 7);
        let shared = router.calls.shards.clone();
        let is_ready = || {
            let map = shared.map.load();
            let owned = |slot| matches!(map.route(slot), Route::Owner { .. });
            Slot::all().all(owned)
        };
        while !is_ready() {
            sleep(Duration::from_millis(1)).await;
        }
        let mut random = StdRng::seed_from_u64(11);
        let any = || {
            let number = random.random_range(0..1_000_000_000);
            Bytes::from(format!("user:{number:012}"))
        };
        let map = shared.map.load_full();
        let is_asked = |key: &Bytes| {
            let slot = Key::new(key.clone()).expect("made to be a key").slot();
            matches!(map.route(slot), Route::Owner { shard, .. } if shard.index() < asked)
        };
        let keys = std::iter::repeat_with(any).filter(is_asked);
        let (channel, answered) = mpsc::channel(IN_FLIGHT);
        let budget = Arc::new(AnswerBudget::new(usize::MAX >> 1));
        Self {
            router,
            keys: keys.take(KEYS).collect(),
            next: 0,
            answers: Arc::new(Answers { channel, budget }),
            answered,
            taken: Vec::with_capacity(IN_FLIGHT),
        }
    }

    async fn stop(self) {
        self.router.stop(Duration::from_secs(10)).await;
    }

    /// Hash, look-up and enqueuing of so many requests.
    fn enqueue(&mut self, requests: usize) {
        let now = Instant::now();
        for _ in 0..requests {
            let bytes = self.keys[self.next % KEYS].clone();
            let key = Key::new(bytes).expect("made to be a key");
            let reply = Reply::Numbered {
                id: self.next as u64,
                answers: self.answers.clone(),
            };
            self.next += 1;
            let get = Operation::Get(key);
            let request = Request::new(get, Level::Strong, now, now + PATIENCE, reply);
            self.router.calls.shards.dispatch(request);
        }
    }

    /// Waits for answers, one at least; returns how many came.
    async fn take(&mut self) -> usize {
        self.answered.recv_many(&mut self.taken, IN_FLIGHT).await;
        let failed = self.taken.iter().find(|answer| answer.ending.is_err());
        assert!(failed.is_none(), "{failed:?}");
        let taken = self.taken.len();
        self.taken.clear();
        taken
    }

    /// Microseconds of this process for each of so many operations, with [`IN_FLIGHT`] of them under
    /// way at any time.
    #[allow(clippy::cast_precision_loss)]
    async fn cpu_us(&mut self, operations: u64) -> Result<f64, Error> {
        self.enqueue(IN_FLIGHT);
        let before = cpu::seconds(std::process::id())?;
        let mut done = 0;
        while done < operations {
            let taken = self.take().await;
            self.enqueue(taken);
            done += taken as u64;
        }
        let after = cpu::seconds(std::process::id())?;
        let mut left = IN_FLIGHT;
        while left > 0 {
            left -= self.take().await;
        }
        Ok((after - before) * 1e6 / done as f64)
    }

    /// Nanoseconds of one request in a round, and all answers of the round.
    #[allow(clippy::cast_precision_loss)]
    async fn enqueue_ns(&mut self) -> f64 {
        let begun = Instant::now();
        self.enqueue(ENQUEUED);
        let took = begun.elapsed();
        let mut left = ENQUEUED;
        while left > 0 {
            left -= self.take().await;
        }
        took.as_secs_f64() * 1e9 / ENQUEUED as f64
    }
}

/// What a request costs with one shard and with many, in rounds in turns.
#[allow(clippy::cast_precision_loss)]
async fn compare_enqueuing(one: &mut World, many: &mut World, rounds: u32) -> String {
    let (mut of_one, mut differences) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (ours, theirs) = if round % 2 == 0 {
            let ours = one.enqueue_ns().await;
            (ours, many.enqueue_ns().await)
        } else {
            let theirs = many.enqueue_ns().await;
            (one.enqueue_ns().await, theirs)
        };
        of_one.push(ours);
        differences.push(theirs - ours);
    }
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let squares = differences
        .iter()
        .map(|difference| (difference - mean).powi(2));
    let deviation = (squares.sum::<f64>() / (count - 1.0)).sqrt();
    // Of the mean, at 95 %.
    let half = 1.96 * deviation / count.sqrt();
    let base = median(&mut of_one);
    format!(
        "{mean:+.0} ns (95 % confidence: {:+.0} to {:+.0} ns) to the {base:.0} ns with 1 shard",
        mean - half,
        mean + half
    )
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ends(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    (least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_request_of_every_shard_is_answered() {
        let (mut one, mut many) = (World::start(1).await, World::start(50).await);
        let idle = World::start_asking(50, 2).await;
        let last = freehold_core::slot::even_share(1, 50).last().unwrap();
        let of_first = |key: &Bytes| Key::new(key.clone()).unwrap().slot().0 <= last;
        assert!(idle.keys.iter().all(of_first));
        let words = compare_enqueuing(&mut one, &mut many, 10).await;
        assert!(words.contains("95 % confidence"), "{words}");
        assert!(many.cpu_us(20_000).await.unwrap() > 0.0);
        assert_eq!(many.answered.len(), 0);
        for world in [one, many, idle] {
            world.stop().await;
        }
    }
}
