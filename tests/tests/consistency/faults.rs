//! Session and bounded reads while every replica lags in one way after the other.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use freehold_client::{Client, Consistency, Error};
use freehold_tests::Engine;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    figures::Figures,
    lags::make_lag,
    scene::{Cluster, Result, seed, setting},
};

/// Session reads of a run in CI.
const READS: u64 = 6_000;

/// Readers of each kind.
const READERS: u64 = 16;

/// What readers ask for.
const BOUNDS: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// A counter that one writer advances, and when each number was acknowledged.
struct Counter {
    key: String,
    acknowledged: Mutex<Vec<Instant>>,
}

impl Counter {
    /// The next number was acknowledged now.
    fn acknowledge(&self) {
        let mut times = self.acknowledged.lock().expect("no reader panics");
        times.push(Instant::now());
    }

    /// The last number that was acknowledged by then; 0 if none was.
    fn by(&self, time: Instant) -> u64 {
        let times = self.acknowledged.lock().expect("no writer panics");
        times.partition_point(|acknowledged| *acknowledged <= time) as u64
    }
}

async fn no_read_is_older_than_it_asked_for(engine: Engine) -> Result<()> {
    let seed = seed();
    let reads = setting("FREEHOLD_TEST_READS", READS);
    let cluster = Cluster::with_clocks_apart(engine).await?;
    let (stop_faults, stop_bounded) = (CancellationToken::new(), CancellationToken::new());
    let lagging = async {
        let replicas = cluster.shards.iter().flat_map(|servers| &servers.replicas);
        let lag = |(number, replica)| {
            let random = StdRng::seed_from_u64(seed ^ number);
            make_lag(replica, random, stop_faults.clone())
        };
        futures::future::try_join_all((0..).zip(replicas).map(lag)).await
    };
    let reading = async {
        let bounded = bounded_readers(&cluster, seed, &stop_bounded);
        let session = session_readers(&cluster, seed, reads).await;
        stop_bounded.cancel();
        let bounded = bounded.join_all().await;
        stop_faults.cancel();
        (session, bounded)
    };
    let (faults, (session, bounded)) = tokio::join!(lagging, reading);
    let faults = faults?;
    println!("{engine}, seed {seed}, 2 routers, clocks 5 minutes off, {READERS} session readers");
    for (number, faults) in faults.iter().enumerate() {
        let kinds: Vec<String> = faults
            .iter()
            .map(|(kind, count)| format!("{count} x {kind}"))
            .collect();
        println!("replica {number}: {}", kinds.join(", "));
    }
    let session = session?;
    println!("SESSION: {session}");
    let mut of_bound = BOUNDS.map(|_| Figures::default());
    for (place, figures) in bounded {
        of_bound[place].merge(figures);
    }
    for (bound, figures) in BOUNDS.iter().zip(&of_bound) {
        println!("BOUNDED {bound:?}: {figures}");
        assert!(figures.wrong.is_empty(), "{bound:?}: {:?}", figures.wrong);
        assert!(figures.count() > 0, "nothing was read with {bound:?}");
        assert_eq!(figures.unanswered, 0, "{bound:?}");
    }
    assert!(session.wrong.is_empty(), "{:?}", session.wrong);
    assert_eq!(session.unanswered, 0);
    assert!(session.count() as u64 >= reads);
    // A test in which no replica answers shows nothing.
    assert!(session.share_of_replicas() > 0.05, "{session}");
    assert!(of_bound[2].share_of_replicas() > 0.05, "{}", of_bound[2]);
    Ok(())
}

/// Each reader has a key of its own, writes it through one router and reads it through any.
async fn session_readers(cluster: &Cluster, seed: u64, reads: u64) -> Result<Figures> {
    let left = Arc::new(AtomicU64::new(reads));
    let mut readers = JoinSet::new();
    for number in 0..READERS {
        let reader = Reader {
            clients: cluster.clients.clone(),
            key: format!("session:{number}"),
            random: StdRng::seed_from_u64(seed.wrapping_add(number)),
            left: left.clone(),
        };
        readers.spawn(reader.run());
    }
    let mut all = Figures::default();
    while let Some(figures) = readers.join_next().await {
        all.merge(figures??);
    }
    Ok(all)
}

struct Reader {
    clients: [Client; 2],
    key: String,
    random: StdRng,
    left: Arc<AtomicU64>,
}

impl Reader {
    async fn run(mut self) -> Result<Figures> {
        let mut figures = Figures::default();
        let mut version = 0_u64;
        while self.left.load(Ordering::Relaxed) > 0 {
            version += 1;
            let (expected, token) = self.write(version).await?;
            // Right behind the write, and a while later.
            for _ in 0..self.random.random_range(1..6) {
                let take = |left: u64| left.checked_sub(1);
                let _ = self
                    .left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
                self.read(&expected, &token, &mut figures).await;
                let pause = Duration::from_millis(self.random.random_range(0..20));
                tokio::time::sleep(pause).await;
            }
        }
        Ok(figures)
    }

    fn client(&mut self) -> Client {
        self.clients[self.random.random_range(0..2)].clone()
    }

    /// What a reader finds from now on, and the token that proves it.
    async fn write(&mut self, version: u64) -> Result<(Option<String>, Bytes)> {
        let client = self.client();
        match self.random.random_range(0..6) {
            0 => {
                let deleted = client.delete(self.key.clone()).await?;
                Ok((None, deleted.session_token))
            }
            // The second one changes nothing, and still says what is there.
            1 => {
                let (key, other) = (self.key.clone(), self.client());
                client.delete(key.clone()).await?;
                let deleted = other.delete(key).await?;
                assert!(!deleted.existed);
                Ok((None, deleted.session_token))
            }
            2 => {
                let value = version.to_string();
                client.put(self.key.clone(), value.clone()).await?;
                let hour = Duration::from_secs(3_600);
                let kept = self.client().expire(self.key.clone(), hour).await?;
                assert!(kept.existed);
                Ok((Some(value), kept.session_token))
            }
            _ => {
                let value = version.to_string();
                let put = client.put(self.key.clone(), value.clone()).await?;
                Ok((Some(value), put.session_token))
            }
        }
    }

    async fn read(&mut self, expected: &Option<String>, token: &Bytes, figures: &mut Figures) {
        let (client, began) = (self.client(), Instant::now());
        let session = Consistency::Session(token.clone());
        match client.get(self.key.clone()).consistency(session).await {
            Ok(reply) => {
                figures.add(reply.served.source, began.elapsed());
                let found = reply
                    .value()
                    .map(|value| String::from_utf8_lossy(value).into_owned());
                if found != *expected {
                    let wrong = format!("{expected:?} expected, {found:?} from {:?}", reply.served);
                    figures.wrong.push(wrong);
                }
            }
            Err(refused @ Error::Refused { .. }) => figures.wrong.push(refused.to_string()),
            Err(_) => figures.unanswered += 1,
        }
    }
}

/// One counter in each shard, and readers of each bound.
fn bounded_readers(
    cluster: &Cluster,
    seed: u64,
    stop: &CancellationToken,
) -> JoinSet<(usize, Figures)> {
    let mut tasks = JoinSet::new();
    for number in 0..2_u64 {
        let counter = Arc::new(Counter {
            // Of the first shard, and of the second.
            key: ["{a}counter", "{user:1}counter"][number as usize].to_owned(),
            acknowledged: Mutex::default(),
        });
        let (writing, client) = (counter.clone(), cluster.clients[0].clone());
        let stopped = stop.clone();
        tokio::spawn(stopped.run_until_cancelled_owned(async move {
            for value in 1_u64.. {
                let put = client.put(writing.key.clone(), value.to_string());
                put.await.expect("the master answers");
                writing.acknowledge();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }));
        for (place, bound) in BOUNDS.into_iter().enumerate() {
            let reader = BoundedReader {
                counter: counter.clone(),
                client: cluster.clients[1].clone(),
                bound,
                random: StdRng::seed_from_u64(seed ^ number << 8 ^ place as u64),
            };
            let stop = stop.clone();
            tasks.spawn(async move { (place, reader.run(stop).await) });
        }
    }
    tasks
}

struct BoundedReader {
    counter: Arc<Counter>,
    client: Client,
    bound: Duration,
    random: StdRng,
}

impl BoundedReader {
    async fn run(mut self, stop: CancellationToken) -> Figures {
        let mut figures = Figures::default();
        while !stop.is_cancelled() {
            self.read(&mut figures).await;
            let pause = Duration::from_millis(self.random.random_range(0..10));
            tokio::time::sleep(pause).await;
        }
        figures
    }

    async fn read(&self, figures: &mut Figures) {
        let began = Instant::now();
        let level = Consistency::BoundedStaleness(self.bound);
        match self
            .client
            .get(self.counter.key.clone())
            .consistency(level)
            .await
        {
            Ok(reply) => {
                figures.add(reply.served.source, began.elapsed());
                let found = reply.value().and_then(|value| {
                    std::str::from_utf8(value)
                        .ok()
                        .and_then(|value| value.parse::<u64>().ok())
                });
                let at_least = began
                    .checked_sub(self.bound)
                    .map_or(0, |then| self.counter.by(then));
                if found.unwrap_or(0) < at_least {
                    let wrong = format!("{at_least} at least, {found:?} from {:?}", reply.served);
                    figures.wrong.push(wrong);
                }
                let claimed = reply.served.staleness.unwrap_or(Duration::MAX);
                // What the router says of it must be true as well, by the reader's clock.
                let then = began
                    .checked_sub(claimed)
                    .map_or(0, |then| self.counter.by(then));
                if found.unwrap_or(0) < then {
                    let wrong =
                        format!("{then} by what was claimed, {found:?}: {:?}", reply.served);
                    figures.wrong.push(wrong);
                }
            }
            Err(Error::Refused { message, .. }) => figures.wrong.push(message),
            Err(_) => figures.unanswered += 1,
        }
    }
}

on_servers!(no_read_is_older_than_it_asked_for);
