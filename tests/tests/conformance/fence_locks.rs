//! The fence is a lock: while a write is not committed, a change of ownership waits for it.
//!
//! The storage crate commits within each call, so its statements are taken from the server's own
//! log and run again, word for word, in a transaction that stays open.

use std::time::Duration;

use freehold_core::Key;
use freehold_storage::{ExpireRow, Outcome, Refusal, StorageError};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    audit::Audit,
    lane::{Lane, key, row},
    store::{Result, Store, WITHIN},
};

on_servers!(
    an_epoch_change_waits_for_a_put,
    an_epoch_change_waits_for_a_delete,
    an_epoch_change_waits_for_an_expire,
    a_replace_that_selects_the_fence_locks_it_by_the_clause_alone,
    an_epoch_change_waits_for_writes_that_wait_for_a_row,
    no_write_keeps_the_fence_locked_once_it_answered,
    a_server_that_did_not_write_the_fence_takes_no_write,
);

/// The three fenced writes of a lane.
#[derive(Debug, Clone, Copy)]
enum Write {
    Put,
    Delete,
    Expire,
}

impl Write {
    const ALL: [Self; 3] = [Self::Put, Self::Delete, Self::Expire];

    async fn run(self, lane: &mut Lane, key: &Key) -> Outcome<()> {
        let fence = lane.fence;
        let keys = std::slice::from_ref(key);
        let changed = match self {
            Self::Put => return lane.data.put(&fence, &[row(key, "new")]).await.remove(0),
            Self::Delete => lane.data.delete(&fence, keys).await.remove(0),
            Self::Expire => {
                let rows = [ExpireRow {
                    key: key.clone(),
                    ttl_ms: Some(3_600_000),
                }];
                lane.data.expire(&fence, &rows).await.remove(0)
            }
        };
        match changed {
            Outcome::Applied(existed) => {
                assert!(existed, "the row was there");
                Outcome::Applied(())
            }
            Outcome::FenceDisagrees => Outcome::FenceDisagrees,
            Outcome::Failed(error) => Outcome::Failed(error),
        }
    }
}

async fn an_epoch_change_waits_for_a_put(store: &Store) -> Result<()> {
    waits_for(store, Write::Put).await
}

async fn an_epoch_change_waits_for_a_delete(store: &Store) -> Result<()> {
    waits_for(store, Write::Delete).await
}

async fn an_epoch_change_waits_for_an_expire(store: &Store) -> Result<()> {
    waits_for(store, Write::Expire).await
}

const LOCK_CLAUSE: &str = "LOCK IN SHARE MODE";

/// Under both isolation levels, with a row that is there and one that is not; and under READ
/// COMMITTED without the lock clause, to see that it is the clause that makes the change wait.
async fn waits_for(store: &Store, write: Write) -> Result<()> {
    let mut lane = store.ready().await?;
    let k = key("k");
    lane.put([row(&k, "old")]).await?;
    let locking = statements_of(store, &mut lane, write, &k).await?;
    let carries = |text: &String| text.contains(LOCK_CLAUSE);
    assert!(
        locking.iter().any(carries),
        "no statement carries the clause: {locking:?}"
    );
    for isolation in ["READ COMMITTED", "REPEATABLE READ"] {
        lane = reset(store, &k).await?;
        let current = with_stamp(&locking, &lane);
        let change = change_during(store, isolation, &current, &k).await?;
        assert_eq!(change, Change::Waited, "{write:?} under {isolation}");
    }
    // A PUT's own form locks what its VALUES read, whatever the level; see the test below.
    if !matches!(write, Write::Put) {
        lane = reset(store, &k).await?;
        let bare: Vec<String> = with_stamp(&locking, &lane)
            .iter()
            .map(|text| text.replace(LOCK_CLAUSE, ""))
            .collect();
        let change = change_during(store, "READ COMMITTED", &bare, &k).await?;
        assert_eq!(
            change,
            Change::Overtook,
            "{write:?} without the lock clause"
        );
    }
    Ok(())
}

/// What makes the clause the fence: a REPLACE or INSERT that selects the fence without it sees the
/// fence and locks nothing, and a change of ownership overtakes it.
async fn a_replace_that_selects_the_fence_locks_it_by_the_clause_alone(
    store: &Store,
) -> Result<()> {
    let k = key("k");
    store.ready().await?;
    for (clause, expected) in [(LOCK_CLAUSE, Change::Waited), ("", Change::Overtook)] {
        for verb in ["REPLACE", "INSERT IGNORE"] {
            let lane = reset(store, &k).await?;
            let text = format!(
                "{verb} INTO store (slot, `key`, value, version, expires_at) \
                 SELECT 1, 'another key {clause} {verb}', 'new', 1, 9223372036854775807 \
                 FROM shard f WHERE f.id = 1 AND f.stamp = {} AND f.server_id = @@server_id {clause}",
                lane.fence.stamp
            );
            let change = change_during(store, "READ COMMITTED", &[text], &k).await?;
            assert_eq!(change, expected, "{verb} with '{clause}'");
        }
    }
    Ok(())
}

/// The stamp in logged statements, where the one that is in force now belongs.
const STAMP: u64 = 4_242_424_242;

fn with_stamp(statements: &[String], lane: &Lane) -> Vec<String> {
    let (logged, current) = (STAMP.to_string(), lane.fence.stamp.to_string());
    statements
        .iter()
        .map(|text| text.replace(&logged, &current))
        .collect()
}

/// The key is there and live, and the fence shows a stamp that its statements can carry.
async fn reset(store: &Store, key: &Key) -> Result<Lane> {
    let mut lane = store.lane().await?;
    lane.put([row(key, "old")]).await?;
    Ok(lane)
}

/// What a lane sends for a write, as the server's general log has it; without what commits it.
async fn statements_of(
    store: &Store,
    lane: &mut Lane,
    write: Write,
    key: &Key,
) -> Result<Vec<String>> {
    let mut audit = store.audit().await?;
    audit
        .run(&format!("UPDATE shard SET stamp = {STAMP}"))
        .await?;
    lane.fence = lane.data.claims(0).await?.fence;
    audit
        .run(
            "SET GLOBAL log_output = 'TABLE'; TRUNCATE mysql.general_log; \
             SET GLOBAL general_log = ON",
        )
        .await?;
    assert_eq!(write.run(lane, key).await, Outcome::Applied(()));
    audit.run("SET GLOBAL general_log = OFF").await?;
    let query = "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log \
                 WHERE command_type IN ('Query', 'Execute') AND thread_id <> CONNECTION_ID()";
    let logged: Vec<String> = audit.rows(query).await?.concat();
    let ends = |text: &str| {
        let text = text.trim().to_ascii_uppercase();
        text.starts_with("COMMIT") || text.starts_with("BEGIN") || text.starts_with("START")
    };
    Ok(logged.into_iter().filter(|text| !ends(text)).collect())
}

/// What became of a change of epoch that met an open transaction.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Waited,
    Overtook,
}

/// Runs the statements in a transaction, then a change of epoch beside it.
async fn change_during(
    store: &Store,
    isolation: &str,
    statements: &[String],
    key: &Key,
) -> Result<Change> {
    let mut watch = Watch::new(store).await?;
    let mut writer = store.audit().await?;
    writer
        .run(&format!(
            "SET SESSION TRANSACTION ISOLATION LEVEL {isolation}"
        ))
        .await?;
    let before = store.audit().await?.all_rows().await?;
    writer.run("BEGIN").await?;
    for text in statements {
        writer.run(text).await?;
    }
    assert_eq!(
        store.audit().await?.all_rows().await?,
        before,
        "it was committed"
    );
    assert_ne!(
        writer.all_rows().await?,
        before,
        "it changed nothing: {statements:?}"
    );

    let change = change_epoch(watch.changer).await?;
    let seen = change.outcome(&mut watch.watcher).await?;
    writer.run("COMMIT").await?;
    change.finish().await?;
    assert!(store.lane().await?.inspect(key).await?.is_some());
    Ok(seen)
}

/// A change of epoch that was sent.
struct Sent {
    task: JoinHandle<Result<()>>,
    thread: i64,
}

/// Two connections that are open before the clock of a lock wait starts to run.
struct Watch {
    changer: Audit,
    watcher: Audit,
}

impl Watch {
    async fn new(store: &Store) -> Result<Self> {
        Ok(Self {
            changer: store.audit().await?,
            watcher: store.audit().await?,
        })
    }
}

async fn change_epoch(mut audit: Audit) -> Result<Sent> {
    let thread = audit.number("SELECT CONNECTION_ID()").await?;
    let task = tokio::spawn(async move {
        audit
            .run("UPDATE shard SET epoch = epoch + 1, stamp = stamp + 1 WHERE id = 1")
            .await
    });
    Ok(Sent { task, thread })
}

impl Sent {
    /// Whether it is done, or waits for a lock: one of both comes.
    async fn outcome(&self, audit: &mut Audit) -> Result<Change> {
        let deadline = Instant::now() + WITHIN;
        while Instant::now() < deadline {
            if self.task.is_finished() {
                return Ok(Change::Overtook);
            }
            if waiting(audit).await?.contains(&self.thread) {
                return Ok(Change::Waited);
            }
            sleep(POLL_PAUSE).await;
        }
        Err("the change of epoch neither ended nor waited for a lock".into())
    }

    async fn finish(self) -> Result<()> {
        tokio::time::timeout(WITHIN, self.task).await??
    }
}

/// InnoDB shows its transactions from a copy, which it makes anew only if nobody looked at the old
/// one for 100 ms.
const POLL_PAUSE: Duration = Duration::from_millis(150);

/// The connections that wait for a row's lock.
async fn waiting(audit: &mut Audit) -> Result<Vec<i64>> {
    let query = "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx \
                 WHERE trx_state = 'LOCK WAIT'";
    let rows = audit.rows(query).await?.concat();
    Ok(rows
        .iter()
        .map(|thread| thread.parse())
        .collect::<Result<_, _>>()?)
}

/// The storage crate's own statements, caught while they wait for a row that somebody else holds.
async fn an_epoch_change_waits_for_writes_that_wait_for_a_row(store: &Store) -> Result<()> {
    store.ready().await?;
    let k = key("k");
    for write in Write::ALL {
        let mut tries = 0..10;
        // A write waits two seconds at most; a machine that is slower than that tries again.
        while !waits_behind_a_row(store, write, &k).await? {
            tries
                .next()
                .ok_or("the write never waited long enough to be looked at")?;
        }
    }
    Ok(())
}

/// False if the write gave up waiting before the change of epoch was seen to wait.
async fn waits_behind_a_row(store: &Store, write: Write, key: &Key) -> Result<bool> {
    let mut lane = reset(store, key).await?;
    let mut watch = Watch::new(store).await?;
    let mut holder = store.audit().await?;
    holder.run("BEGIN").await?;
    holder.rows("SELECT slot FROM store FOR UPDATE").await?;
    let task = {
        let key = key.clone();
        tokio::spawn(async move { write.run(&mut lane, &key).await })
    };
    while waiting(&mut watch.watcher).await?.is_empty() && !task.is_finished() {
        sleep(POLL_PAUSE).await;
    }
    let change = change_epoch(watch.changer).await?;
    let seen = change.outcome(&mut watch.watcher).await?;
    let gave_up = task.is_finished();
    holder.run("ROLLBACK").await?;
    let outcome = tokio::time::timeout(WITHIN, task).await??;
    change.finish().await?;
    match outcome {
        Outcome::Applied(()) if !gave_up => {
            assert_eq!(seen, Change::Waited, "{write:?}");
            Ok(true)
        }
        Outcome::Failed(StorageError::Refused {
            refusal: Refusal::Busy,
            ..
        }) => Ok(false),
        other => Err(format!("{write:?}: {other:?}").into()),
    }
}

async fn no_write_keeps_the_fence_locked_once_it_answered(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut audit = store.audit().await?;
    let k = key("k");
    let try_lock = "BEGIN; SELECT id FROM shard WHERE id = 1 FOR UPDATE NOWAIT; ROLLBACK";
    lane.put([row(&k, "value")]).await?;
    for write in [Write::Put, Write::Expire, Write::Delete] {
        assert_eq!(write.run(&mut lane, &k).await, Outcome::Applied(()));
        audit.run(try_lock).await?;
        // Neither does one whose fence disagrees.
        let right = lane.fence;
        lane.fence.stamp ^= 1;
        assert_eq!(write.run(&mut lane, &k).await, Outcome::FenceDisagrees);
        lane.fence = right;
        audit.run(try_lock).await?;
    }
    Ok(())
}

/// A promoted replica has its master's fence, until it is adopted.
async fn a_server_that_did_not_write_the_fence_takes_no_write(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let k = key("k");
    lane.put([row(&k, "value")]).await?;
    let mut audit = store.audit().await?;
    audit
        .run("UPDATE shard SET server_id = server_id + 1")
        .await?;
    let before = audit.all_rows().await?;
    let claims = lane.data.claims(0).await?;
    assert_ne!(claims.answered_by, claims.fence.server_id);
    // Whatever of both a router takes for the truth.
    let believed = [lane.fence, claims.fence];
    for fence in believed {
        lane.fence = fence;
        for write in Write::ALL {
            assert_eq!(
                write.run(&mut lane, &k).await,
                Outcome::FenceDisagrees,
                "{write:?}"
            );
        }
        let mut sweep = store.sweep().await?;
        let swept = sweep.delete_due(&fence, std::slice::from_ref(&k)).await;
        assert_eq!(swept, Outcome::FenceDisagrees);
    }
    assert_eq!(audit.all_rows().await?, before);
    Ok(())
}
