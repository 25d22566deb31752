//! Callers that read and write.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use freehold_client::{Client, Error};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::figures::Second;

/// A caller whose call failed rests so long: what fails at once must not be asked in a loop.
const REST: Duration = Duration::from_millis(20);

/// The keys of a run.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// What all begin with, and no other key does.
    pub(super) prefix: String,
    pub(super) count: u32,
    /// 16 at least.
    pub(super) value_bytes: usize,
    pub(super) ttl: Duration,
}

impl Keys {
    pub(super) fn key(&self, number: u32) -> Bytes {
        format!("{}{number}", self.prefix).into()
    }

    /// A value that says whose it is; another salt makes another one, because databases notice a
    /// row that does not change.
    pub(super) fn value(&self, number: u32, salt: u64) -> Bytes {
        let mut value = BytesMut::with_capacity(self.value_bytes);
        value.put_u32(number);
        value.put_u64(salt);
        value.resize(self.value_bytes, b'.');
        value.freeze()
    }

    fn is_value(&self, number: u32, value: &[u8]) -> bool {
        value.len() == self.value_bytes && value.starts_with(&number.to_be_bytes())
    }
}

/// Callers at work.
pub(super) struct Load {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    client: Client,
    keys: Keys,
    reads_percent: u32,
    stop: AtomicBool,
    /// Reads that found nothing, or what nobody wrote there.
    wrong: AtomicU64,
    seen: Mutex<Second>,
}

impl Load {
    /// Sets so many callers to work.
    pub(super) fn start(
        client: &Client,
        keys: &Keys,
        callers: u32,
        reads_percent: u32,
        random: &mut StdRng,
    ) -> Self {
        let shared = Arc::new(Shared {
            client: client.clone(),
            keys: keys.clone(),
            reads_percent,
            stop: AtomicBool::new(false),
            wrong: AtomicU64::new(0),
            seen: Mutex::new(Second::default()),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let random = StdRng::seed_from_u64(random.random());
            tasks.spawn(caller(shared.clone(), random));
        }
        Self {
            shared,
            tasks: Mutex::new(tasks),
        }
    }

    /// What was seen since the last time.
    pub(super) fn take(&self) -> Second {
        std::mem::take(&mut *self.shared.seen())
    }

    /// Waits for the calls under way; returns how many reads were wrong.
    pub(super) async fn stop(&self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.join_all().await;
        self.shared.wrong.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Second> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn caller(shared: Arc<Shared>, mut random: StdRng) {
    while !shared.stop.load(Ordering::Relaxed) {
        let number = random.random_range(0..shared.keys.count);
        let is_read = random.random_range(0..100) < shared.reads_percent;
        let began = Instant::now();
        let called = if is_read {
            read(&shared, number).await
        } else {
            write(&shared, number, random.random()).await
        };
        shared.seen().record(is_read, began.elapsed(), &called);
        if called.is_err() {
            sleep(REST).await;
        }
    }
}

async fn read(shared: &Shared, number: u32) -> Result<(), Error> {
    let reply = shared.client.get(shared.keys.key(number)).await?;
    let is_right = reply
        .value()
        .is_some_and(|value| shared.keys.is_value(number, value));
    if !is_right {
        shared.wrong.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn write(shared: &Shared, number: u32, salt: u64) -> Result<(), Error> {
    let keys = &shared.keys;
    let put = shared
        .client
        .put(keys.key(number), keys.value(number, salt));
    put.ttl(keys.ttl).await.map(drop)
}
