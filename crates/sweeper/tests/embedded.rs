//! Sweeping of a real embedded shard.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use freehold_core::{Fence, Key, ShardIdentity};
use freehold_storage::{
    Columns, ConnectOptions, DataConnection, Dsn, Outcome, PutRow, Server, sweep::Holder,
};
use freehold_sweeper::{Sweeper, SweeperHandle, SweeperMetrics, SweeperSettings, Waiting};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A shard in a file that goes away.
struct Shard {
    folder: tempfile::TempDir,
}

impl Shard {
    async fn new() -> Result<Self> {
        let shard = Self {
            folder: tempfile::tempdir()?,
        };
        let mut schema = shard.server().connect_schema().await?;
        let identity = ShardIdentity {
            name: "a".to_owned(),
            cluster_id: 1,
            schema_version: 0,
        };
        schema.create(&identity).await?;
        schema.take_slots(0..=u16::MAX).await?;
        Ok(shard)
    }

    /// As another process would see it.
    fn server(&self) -> Server {
        let options = ConnectOptions {
            connect_timeout: Duration::from_secs(5),
            seed: 1,
        };
        Server::new(&Dsn::sqlite(self.folder.path().join("a.sqlite")), options)
    }

    /// Starts a sweeper as a router of its own would.
    fn sweeper(&self, id: u64) -> (SweeperHandle, CancellationToken) {
        let settings = SweeperSettings {
            idle_interval: Duration::from_millis(50),
            standby_interval: Duration::from_millis(200),
            renew_interval: Duration::from_millis(500),
            ..SweeperSettings::default()
        };
        let sweeper = Sweeper {
            shard: "a".to_owned(),
            servers: vec![self.server()],
            leader: Arc::new(|| 0),
            settings,
            holder: Holder {
                id,
                name: format!("router-{id}"),
            },
        };
        let shutdown = CancellationToken::new();
        let handle = sweeper.spawn(&SweeperMetrics::default(), id, shutdown.clone());
        (handle, shutdown)
    }

    async fn connect(&self) -> Result<(Box<dyn DataConnection>, Fence)> {
        let mut connection = self.server().connect().await?;
        let fence = connection.claims(u64::MAX).await?.fence;
        Ok((connection, fence))
    }
}

fn keys(prefix: &str, count: usize) -> Vec<Key> {
    let mut keys: Vec<Key> = (0..count)
        .filter_map(|number| Key::new(format!("{prefix}-{number}")).ok())
        .collect();
    keys.sort_unstable();
    keys
}

async fn put(
    connection: &mut dyn DataConnection,
    fence: &Fence,
    keys: &[Key],
    ttl_ms: Option<u64>,
) {
    for keys in keys.chunks(128) {
        let row = |key: &Key| PutRow {
            key: key.clone(),
            value: Bytes::from_static(b"value"),
            version: 1,
            ttl_ms,
        };
        let rows: Vec<PutRow> = keys.iter().map(row).collect();
        for outcome in connection.put(fence, &rows).await {
            assert_eq!(outcome, Outcome::Applied(()));
        }
    }
}

/// How many of the keys have a row, live or not.
async fn rows(connection: &mut dyn DataConnection, keys: &[Key]) -> Result<usize> {
    let mut found = 0;
    for key in keys {
        found += usize::from(connection.inspect(key).await?.row.is_some());
    }
    Ok(found)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = timeout(Duration::from_secs(60), async {
        while !holds() {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "not within a minute: {what}");
}

#[tokio::test]
async fn expired_and_deleted_rows_go_and_live_ones_stay() -> Result {
    let shard = Shard::new().await?;
    let (mut connection, fence) = shard.connect().await?;
    let (short, long, forever, deleted) = (
        keys("short", 1_000),
        keys("long", 100),
        keys("forever", 100),
        keys("deleted", 300),
    );
    put(&mut *connection, &fence, &short, Some(1)).await;
    put(&mut *connection, &fence, &long, Some(3_600_000)).await;
    put(&mut *connection, &fence, &forever, None).await;
    put(&mut *connection, &fence, &deleted, None).await;
    for keys in deleted.chunks(128) {
        connection.delete(&fence, keys).await;
    }
    sleep(Duration::from_millis(2)).await;

    let (sweeper, shutdown) = shard.sweeper(1);
    until("1,300 rows deleted", || {
        sweeper.state().rows_deleted == 1_300
    })
    .await;
    assert_eq!(sweeper.count_due().await?.rows, 0);
    assert_eq!(rows(&mut *connection, &short).await?, 0);
    assert_eq!(rows(&mut *connection, &deleted).await?, 0);
    for kept in [&long, &forever] {
        let read = connection.read(kept, Columns::Expiry).await?;
        assert!(read.rows.iter().all(Option::is_some));
    }
    shutdown.cancel();
    timeout(Duration::from_secs(10), sweeper.stopped()).await?;
    assert_eq!(sweeper.state().rows_deleted, 1_300);
    Ok(())
}

#[tokio::test]
async fn a_pause_outlives_a_restart_and_a_dry_run_counts_what_waits() -> Result {
    let shard = Shard::new().await?;
    let (mut connection, fence) = shard.connect().await?;
    let (first, shutdown) = shard.sweeper(1);
    until("the first has the lease", || first.state().held_here).await;
    first.set_paused(true).await?;
    let state = first.state();
    assert_eq!(
        (state.paused, state.waiting_for),
        (true, Some(Waiting::Operator))
    );
    shutdown.cancel();
    timeout(Duration::from_secs(10), first.stopped()).await?;

    let expired = keys("expired", 200);
    put(&mut *connection, &fence, &expired, Some(1)).await;
    let stored = Instant::now();
    let (second, _shutdown) = shard.sweeper(2);
    // It has looked at what is due, and does not touch it.
    until("the second to wait for its operator", || {
        let state = second.state();
        state.held_here && state.waiting_for == Some(Waiting::Operator)
    })
    .await;
    let state = second.state();
    assert!(state.paused && state.rows_deleted == 0, "{state:?}");
    let why = state.waiting_for.unwrap().to_string();
    assert!(why.contains("freehold sweep --resume"), "{why}");
    // They expired a millisecond after they were stored; clocks are read in milliseconds.
    let expired_for = stored.elapsed().saturating_sub(Duration::from_millis(5));
    let due = second.count_due().await?;
    assert_eq!((due.rows, due.more), (200, false));
    assert!(
        due.oldest.unwrap() >= expired_for,
        "{due:?}, {expired_for:?}"
    );
    assert_eq!(rows(&mut *connection, &expired).await?, 200);

    second.set_paused(false).await?;
    let state = second.state();
    assert!(
        !state.paused && state.waiting_for != Some(Waiting::Operator),
        "{state:?}"
    );
    until("all are gone", || second.state().rows_deleted == 200).await;
    Ok(())
}

#[tokio::test]
async fn of_two_sweepers_only_one_deletes() -> Result {
    let shard = Shard::new().await?;
    let (mut connection, fence) = shard.connect().await?;
    let sweepers = [shard.sweeper(1), shard.sweeper(2)];
    until("one of them has the lease", || {
        sweepers
            .iter()
            .any(|(sweeper, _)| sweeper.state().held_here)
    })
    .await;
    for round in 0..20 {
        let expired = keys(&format!("round-{round}"), 100);
        put(&mut *connection, &fence, &expired, Some(1)).await;
        let held = sweepers
            .iter()
            .filter(|(sweeper, _)| sweeper.state().held_here);
        assert_eq!(held.count(), 1);
    }
    let deleted = |index: usize| sweepers[index].0.state().rows_deleted;
    until("all are gone", || deleted(0) + deleted(1) == 2_000).await;
    assert!(
        deleted(0) == 0 || deleted(1) == 0,
        "{} and {}",
        deleted(0),
        deleted(1)
    );
    Ok(())
}
