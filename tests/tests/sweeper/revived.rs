//! A key that was revived while the sweeper ran is never deleted.
//!
//! Workers let keys expire and revive them, by PUT and by EXPIRE, around the very moment. Whatever
//! the store said was revived must be there, right then and a little later. The auditor reads keys
//! alone; that it would see a loss is shown with a sweeper that forgets to look again.

use std::time::Duration;

use freehold_core::{Fence, Key};
use freehold_storage::{Columns, DataConnection, ExpireRow, Outcome};
use freehold_tests::{Engine, Sql, mysql_async::prelude::Queryable};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use tokio::{task::JoinSet, time::sleep};

use crate::shard::{Result, Shard, full_speed, keys, rows};

const WORKERS: u64 = 4;
const KEYS_PER_WORKER: usize = 200;
const BATCH: usize = 32;
const ROUNDS: usize = 200;
/// A slow machine comes late for most expiries: it goes on until it has seen enough.
const ROUNDS_MAX: usize = 20 * ROUNDS;
/// Keys that each worker revives by EXPIRE, and keys that it comes too late for, at the least.
const SEEN_MIN: usize = 50;

/// What the workers saw.
#[derive(Debug, Default)]
struct Seen {
    revived_by_put: usize,
    revived_by_expire: usize,
    too_late_for_expire: usize,
    lost: usize,
}

struct Worker {
    keys: Vec<Key>,
    connection: Box<dyn DataConnection>,
    fence: Fence,
    rng: StdRng,
    version: u64,
    seen: Seen,
}

impl Worker {
    async fn run(mut self) -> Seen {
        for round in 0..ROUNDS_MAX {
            let seen = self
                .seen
                .revived_by_expire
                .min(self.seen.too_late_for_expire);
            if round >= ROUNDS && seen >= SEEN_MIN {
                break;
            }
            self.round().await;
        }
        self.seen
    }

    async fn round(&mut self) {
        let mut keys = self.keys.iter().cloned().sample(&mut self.rng, BATCH);
        keys.sort_unstable();
        self.version += 1;
        let ttl_ms = self.rng.random_range(1..20);
        self.put(&keys, Some(ttl_ms)).await;
        // Around the expiry, for each worker in its own way.
        sleep(Duration::from_micros(
            self.rng.random_range(0..2_000 * ttl_ms),
        ))
        .await;
        let revived = if self.rng.random() {
            self.version += 1;
            self.put(&keys, None).await;
            self.seen.revived_by_put += keys.len();
            keys
        } else {
            self.revive_by_expire(keys).await
        };
        self.audit(&revived).await;
        sleep(Duration::from_micros(self.rng.random_range(0..5_000))).await;
        self.audit(&revived).await;
    }

    async fn put(&mut self, keys: &[Key], ttl_ms: Option<u64>) {
        let outcomes = self
            .connection
            .put(&self.fence, &rows(keys, self.version, ttl_ms))
            .await;
        for outcome in outcomes {
            assert_eq!(
                outcome,
                Outcome::Applied(()),
                "a PUT beside the sweeper failed"
            );
        }
    }

    async fn revive_by_expire(&mut self, keys: Vec<Key>) -> Vec<Key> {
        let row = |key: &Key| ExpireRow {
            key: key.clone(),
            ttl_ms: None,
        };
        let asked: Vec<ExpireRow> = keys.iter().map(row).collect();
        let outcomes = self.connection.expire(&self.fence, &asked).await;
        let existed = |outcome| match outcome {
            Outcome::Applied(existed) => existed,
            other => panic!("an EXPIRE beside the sweeper failed: {other:?}"),
        };
        let existed: Vec<bool> = outcomes.into_iter().map(existed).collect();
        let all = keys.len();
        let live: Vec<Key> = keys
            .into_iter()
            .zip(existed)
            .filter_map(|(key, live)| live.then_some(key))
            .collect();
        self.seen.revived_by_expire += live.len();
        self.seen.too_late_for_expire += all - live.len();
        live
    }

    async fn audit(&mut self, revived: &[Key]) {
        if revived.is_empty() {
            return;
        }
        let read = self
            .connection
            .read(revived, Columns::Expiry)
            .await
            .expect("a read");
        let is_there = |row: &Option<freehold_storage::Row>| {
            row.as_ref()
                .is_some_and(|row| row.version == self.version && row.ttl_ms.is_none())
        };
        self.seen.lost += read.rows.iter().filter(|row| !is_there(row)).count();
    }
}

async fn hammer(shard: &Shard, seed: u64) -> Result<Seen> {
    println!("seed {seed}");
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        let (connection, fence) = shard.connect().await?;
        let worker = Worker {
            keys: keys(&format!("worker-{number}"), KEYS_PER_WORKER),
            connection,
            fence,
            rng: StdRng::seed_from_u64(seed + number),
            version: number << 32,
            seen: Seen::default(),
        };
        workers.spawn(worker.run());
    }
    let mut all = Seen::default();
    while let Some(seen) = workers.join_next().await {
        let seen = seen?;
        all.revived_by_put += seen.revived_by_put;
        all.revived_by_expire += seen.revived_by_expire;
        all.too_late_for_expire += seen.too_late_for_expire;
        all.lost += seen.lost;
    }
    println!("{all:?}");
    Ok(all)
}

async fn no_revived_key_is_lost(engine: Engine) -> Result {
    let shard = Shard::new(engine).await?;
    let sweeper = shard.sweeper(1, full_speed());
    let seen = hammer(&shard, 7).await?;
    let swept = sweeper.state().rows_deleted;
    assert_eq!(seen.lost, 0, "of {seen:?}, {swept} swept");
    // Without these the run has shown nothing.
    assert!(
        seen.revived_by_put > 1_000 && seen.revived_by_expire > 100,
        "{seen:?}"
    );
    assert!(
        seen.too_late_for_expire > 100 && swept > 100,
        "{seen:?}, {swept} swept"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_revived_key_is_lost_on_mariadb() -> Result {
    no_revived_key_is_lost(Engine::MariaDb).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_revived_key_is_lost_on_mysql() -> Result {
    no_revived_key_is_lost(Engine::MySql).await
}

/// Deletes what was due a moment ago.
async fn sweep_carelessly(shard: &Shard, mut sql: Sql) -> Result {
    let mut sweep = shard.store().connect_sweep().await?;
    loop {
        let due = sweep.due(128).await?;
        let keys = due
            .keys
            .iter()
            .map(|key| (key.slot().0, key.bytes().to_vec()));
        let delete = "DELETE FROM store WHERE slot = ? AND `key` = ?";
        sql.connection().exec_batch(delete, keys).await?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_auditor_finds_a_sweeper_that_does_not_look_again() -> Result {
    let shard = Shard::new(Engine::MariaDb).await?;
    let sql = shard.master.connect().await?;
    let seen = tokio::select! {
        seen = hammer(&shard, 7) => seen?,
        failed = sweep_carelessly(&shard, sql) => return failed,
    };
    assert!(seen.lost > 0, "{seen:?}");
    Ok(())
}
