//! The fence is a lock: while a write is not committed, a change of ownership waits for it.
//!
//! The storage crate commits within each call, so its statements are taken from the server's own
//! log and run again, word for word, in a transaction that stays open.

use freehold_core::Key;
use freehold_storage::{Outcome, Refusal, StorageError};
use tokio::time::timeout;

use crate::{
    fence_scene::{Change, Watch, Write, Writer},
    lane::key,
    store::{Result, Store, WITHIN},
};

on_servers!(
    an_epoch_change_waits_for_a_put,
    an_epoch_change_waits_for_a_delete,
    an_epoch_change_waits_for_an_expire,
    an_epoch_change_waits_for_a_sweep,
    a_replace_that_selects_the_fence_locks_it_by_the_clause_alone,
    no_epoch_change_overtakes_a_write_that_waits_for_a_row,
    no_write_keeps_the_fence_locked_once_it_answered,
    a_server_that_did_not_write_the_fence_takes_no_write,
);

async fn an_epoch_change_waits_for_a_put(store: &Store) -> Result<()> {
    waits_for(store, Write::Put).await
}

async fn an_epoch_change_waits_for_a_delete(store: &Store) -> Result<()> {
    waits_for(store, Write::Delete).await
}

async fn an_epoch_change_waits_for_an_expire(store: &Store) -> Result<()> {
    waits_for(store, Write::Expire).await
}

async fn an_epoch_change_waits_for_a_sweep(store: &Store) -> Result<()> {
    waits_for(store, Write::Sweep).await
}

const LOCK_CLAUSE: &str = "LOCK IN SHARE MODE";

/// Under both isolation levels; and under READ COMMITTED without the lock clause, to see that it is the clause that makes the change wait.
async fn waits_for(store: &Store, write: Write) -> Result<()> {
    store.ready().await?;
    let k = key("k");
    let locking = statements_of(store, write, &k).await?;
    let carries = |text: &String| text.contains(LOCK_CLAUSE);
    assert!(
        locking.iter().any(carries),
        "no statement carries the clause: {locking:?}"
    );
    for isolation in ["READ COMMITTED", "REPEATABLE READ"] {
        let writer = write.prepare(store, &k).await?;
        let change = change_during(store, isolation, &with_stamp(&locking, &writer)).await?;
        assert_eq!(change, Change::Waited, "{write:?} under {isolation}");
    }
    // The statements of a PUT and a sweep would lock what they read without the clause too: of
    // those, both servers spare only UPDATE and what selects into a table. See the test below.
    if matches!(write, Write::Delete | Write::Expire) {
        let writer = write.prepare(store, &k).await?;
        let bare: Vec<String> = with_stamp(&locking, &writer)
            .iter()
            .map(|text| text.replace(LOCK_CLAUSE, ""))
            .collect();
        let change = change_during(store, "READ COMMITTED", &bare).await?;
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
            let fence = Write::Put.prepare(store, &k).await?.lane.fence;
            let text = format!(
                "{verb} INTO store (slot, `key`, value, version, expires_at) \
                 SELECT 1, 'another key {clause} {verb}', 'new', 1, 9223372036854775807 \
                 FROM shard f WHERE f.id = 1 AND f.stamp = {} AND f.server_id = @@server_id {clause}",
                fence.stamp
            );
            let change = change_during(store, "READ COMMITTED", &[text]).await?;
            assert_eq!(change, expected, "{verb} with '{clause}'");
        }
    }
    Ok(())
}

/// The stamp in logged statements, where the one that is in force now belongs.
const STAMP: u64 = 4_242_424_242;

fn with_stamp(statements: &[String], writer: &Writer) -> Vec<String> {
    let (logged, current) = (STAMP.to_string(), writer.lane.fence.stamp.to_string());
    statements
        .iter()
        .map(|text| text.replace(&logged, &current))
        .collect()
}

/// What a lane sends for a write, as the server's general log has it; without what commits it.
async fn statements_of(store: &Store, write: Write, key: &Key) -> Result<Vec<String>> {
    write.prepare(store, key).await?;
    let mut audit = store.audit().await?;
    audit
        .run(&format!("UPDATE shard SET stamp = {STAMP}"))
        .await?;
    let mut writer = Writer::open(store).await?;
    audit
        .run(
            "SET GLOBAL log_output = 'TABLE'; TRUNCATE mysql.general_log; \
             SET GLOBAL general_log = ON",
        )
        .await?;
    assert_eq!(write.run(&mut writer, key).await, Outcome::Applied(()));
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

/// Runs the statements in a transaction, then a change of epoch beside it.
async fn change_during(store: &Store, isolation: &str, statements: &[String]) -> Result<Change> {
    let watch = Watch::new(store).await?;
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

    let (seen, change) = watch.change_epoch().await?;
    writer.run("COMMIT").await?;
    change.finish().await?;
    Ok(seen)
}

/// The storage crate's own statements, caught while they wait for a row that somebody else holds.
async fn no_epoch_change_overtakes_a_write_that_waits_for_a_row(store: &Store) -> Result<()> {
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
    let mut writer = write.prepare(store, key).await?;
    let mut watch = Watch::new(store).await?;
    let mut holder = store.audit().await?;
    holder.lock_all_rows().await?;
    let task = {
        let key = key.clone();
        tokio::spawn(async move { write.run(&mut writer, &key).await })
    };
    watch.until_waiting(&task).await?;
    let (seen, change) = watch.change_epoch().await?;
    let gave_up = task.is_finished();
    holder.run("ROLLBACK").await?;
    let outcome = timeout(WITHIN, task).await??;
    change.finish().await?;
    match outcome {
        Outcome::Applied(()) if !gave_up => {
            assert_eq!(seen, Change::Waited, "{write:?}");
            Ok(true)
        }
        // A statement may look at the fence once it has its row: then it finds the new one.
        Outcome::FenceDisagrees if seen == Change::Overtook => Ok(true),
        Outcome::Failed(StorageError::Refused {
            refusal: Refusal::Busy,
            ..
        }) => Ok(false),
        other => Err(format!("{write:?}: {other:?}").into()),
    }
}

async fn no_write_keeps_the_fence_locked_once_it_answered(store: &Store) -> Result<()> {
    store.ready().await?;
    let mut audit = store.audit().await?;
    let k = key("k");
    let try_lock = "BEGIN; SELECT id FROM shard WHERE id = 1 FOR UPDATE NOWAIT; ROLLBACK";
    for write in Write::ALL {
        let mut writer = write.prepare(store, &k).await?;
        let right = writer.lane.fence;
        writer.lane.fence.stamp ^= 1;
        assert_eq!(write.run(&mut writer, &k).await, Outcome::FenceDisagrees);
        audit.run(try_lock).await?;
        writer.lane.fence = right;
        assert_eq!(write.run(&mut writer, &k).await, Outcome::Applied(()));
        audit.run(try_lock).await?;
    }
    Ok(())
}

/// A promoted replica has its master's fence, until it is adopted.
async fn a_server_that_did_not_write_the_fence_takes_no_write(store: &Store) -> Result<()> {
    store.ready().await?;
    let k = key("k");
    let mut audit = store.audit().await?;
    for write in Write::ALL {
        let mut writer = write.prepare(store, &k).await?;
        audit
            .run("UPDATE shard SET server_id = server_id + 1")
            .await?;
        let before = audit.all_rows().await?;
        let claims = writer.lane.data.claims(0).await?;
        assert_ne!(claims.answered_by, claims.fence.server_id);
        // Whichever of both a router takes for the truth.
        for believed in [writer.lane.fence, claims.fence] {
            writer.lane.fence = believed;
            let outcome = write.run(&mut writer, &k).await;
            assert_eq!(outcome, Outcome::FenceDisagrees, "{write:?}");
        }
        assert_eq!(audit.all_rows().await?, before);
        audit
            .run("UPDATE shard SET server_id = @@server_id")
            .await?;
    }
    Ok(())
}
