//! Writes to slots on their way: they log their keys, in the same transaction or not at all.

use freehold_core::{
    Fence, Key,
    limits::{LOCK_WAIT_MAX, VALUE_BYTES_MAX},
};
use freehold_storage::{ExpireRow, Outcome, PutRow, Refusal, StorageError, Write};
use tokio::time::timeout;

use crate::{
    audit::Audit,
    fence_scene::{Change, Watch},
    lane::{Lane, key, keys_of_one_slot, row, row_with_ttl},
    store::{Result, Store, WITHIN},
};

on_every_engine!(
    logged_writes_answer_as_others_do_and_count_their_keys,
    other_writes_count_no_keys,
    a_logged_write_with_another_fence_changes_and_counts_nothing,
    logged_values_of_every_size_are_stored_as_they_are,
);

/// `HEX(key)` and `n` of every entry.
async fn log(audit: &mut Audit) -> Result<Vec<Vec<String>>> {
    audit
        .rows("SELECT slot, HEX(`key`), n FROM moved_keys ORDER BY slot, `key`")
        .await
}

/// The entries of keys that were all written so often.
fn entries(keys: &[Key], n: u64) -> Vec<Vec<String>> {
    let hex = |key: &Key| -> String {
        let digits = key.bytes().iter().map(|byte| format!("{byte:02X}"));
        digits.collect()
    };
    let entry = |key: &Key| vec![key.slot().to_string(), hex(key), n.to_string()];
    keys.iter().map(entry).collect()
}

fn expiries(keys: &[Key], ttl_ms: Option<u64>) -> Vec<ExpireRow> {
    let row = |key: &Key| ExpireRow {
        key: key.clone(),
        ttl_ms,
    };
    keys.iter().map(row).collect()
}

async fn logged(lane: &mut Lane, rows: Write<'_>) -> Result<Vec<bool>> {
    let outcomes = lane.data.write_logged(&lane.fence, rows).await;
    let applied = outcomes.into_iter().map(|outcome| match outcome {
        Outcome::Applied(existed) => Ok(existed),
        other => Err(format!("not applied: {other:?}").into()),
    });
    applied.collect()
}

pub(crate) async fn logged_writes_answer_as_others_do_and_count_their_keys(
    store: &Store,
) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut audit = store.audit().await?;
    for size in [1, 2, 3, 64, 128] {
        let keys = keys_of_one_slot("k", size);
        let puts: Vec<PutRow> = keys
            .iter()
            .map(|key| row_with_ttl(key, "new", 60_000))
            .collect();
        assert_eq!(
            logged(&mut lane, Write::Put(&puts)).await?,
            vec![true; size]
        );
        assert_eq!(log(&mut audit).await?, entries(&keys, 1), "{size} keys");
        assert_eq!(lane.value(&keys[size - 1]).await?, Some("new".into()));

        let longer = expiries(&keys, Some(3_600_000));
        assert_eq!(
            logged(&mut lane, Write::Expire(&longer)).await?,
            vec![true; size]
        );
        assert_eq!(log(&mut audit).await?, entries(&keys, 2));
        let least = audit.number("SELECT MIN(expires_at) FROM store").await?;
        assert!(least > audit.now_ms().await? + 60_000);

        assert_eq!(
            logged(&mut lane, Write::Delete(&keys)).await?,
            vec![true; size]
        );
        // What is not there is counted, too: the copy may still have it.
        assert_eq!(
            logged(&mut lane, Write::Delete(&keys)).await?,
            vec![false; size]
        );
        let forever = expiries(&keys, None);
        assert_eq!(
            logged(&mut lane, Write::Expire(&forever)).await?,
            vec![false; size]
        );
        assert_eq!(log(&mut audit).await?, entries(&keys, 5));
        assert_eq!(lane.value(&keys[0]).await?, None);
        audit
            .run("DELETE FROM moved_keys; DELETE FROM store")
            .await?;
    }
    Ok(())
}

pub(crate) async fn other_writes_count_no_keys(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let keys = keys_of_one_slot("k", 3);
    lane.put(keys.iter().map(|key| row(key, "value"))).await?;
    lane.expire(&expiries(&keys, Some(60_000))).await?;
    lane.delete(&keys).await?;
    assert!(log(&mut store.audit().await?).await?.is_empty());
    Ok(())
}

pub(crate) async fn a_logged_write_with_another_fence_changes_and_counts_nothing(
    store: &Store,
) -> Result<()> {
    let mut lane = store.ready().await?;
    let keys = keys_of_one_slot("k", 5);
    lane.put(keys.iter().map(|key| row(key, "old"))).await?;
    let mut audit = store.audit().await?;
    let before = audit.all_rows().await?;
    let right = lane.fence;
    for wrong in [
        Fence {
            stamp: right.stamp ^ 1,
            ..right
        },
        Fence {
            server_id: right.server_id ^ 1,
            ..right
        },
    ] {
        for size in [1, 5] {
            let keys = &keys[..size];
            let puts: Vec<PutRow> = keys.iter().map(|key| row(key, "wrong")).collect();
            for rows in [
                Write::Put(&puts),
                Write::Delete(keys),
                Write::Expire(&expiries(keys, Some(1))),
            ] {
                let outcomes = lane.data.write_logged(&wrong, rows).await;
                assert_eq!(outcomes, vec![Outcome::FenceDisagrees; size]);
            }
        }
    }
    assert_eq!(audit.all_rows().await?, before);
    assert!(log(&mut audit).await?.is_empty());
    // Nothing is left open on the connection: with the right fence it goes on.
    assert_eq!(
        logged(&mut lane, Write::Delete(&keys)).await?,
        vec![true; 5]
    );
    Ok(())
}

pub(crate) async fn logged_values_of_every_size_are_stored_as_they_are(
    store: &Store,
) -> Result<()> {
    let mut lane = store.ready().await?;
    for bytes in [0, 1, 65_535, 65_536, 1 << 20, 9 << 20, VALUE_BYTES_MAX] {
        let value: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
        let put = row(&key("large"), value.clone());
        assert_eq!(logged(&mut lane, Write::Put(&[put])).await?, [true]);
        let stored = lane.value(&key("large")).await?;
        assert!(
            stored.is_some_and(|stored| *stored == *value),
            "{bytes} bytes"
        );
    }
    let entry = log(&mut store.audit().await?).await?;
    assert_eq!(entry, entries(&[key("large")], 7));
    Ok(())
}

mod on_servers {
    use super::*;

    on_servers!(
        a_logged_write_that_fails_holds_nothing,
        a_change_of_epoch_waits_for_a_logged_write,
    );

    /// The row's lock is not had in time: that is an error inside the transaction.
    pub(crate) async fn a_logged_write_that_fails_holds_nothing(store: &Store) -> Result<()> {
        let mut lane = store.ready().await?;
        let keys = keys_of_one_slot("k", 1);
        lane.put([row(&keys[0], "old")]).await?;
        let mut audit = store.audit().await?;
        let puts = [row(&keys[0], "new")];
        for rows in [
            Write::Put(&puts),
            Write::Delete(&keys),
            Write::Expire(&expiries(&keys, Some(1))),
        ] {
            let mut holder = store.audit().await?;
            holder.lock_all_rows().await?;
            let fence = lane.fence;
            let outcomes = timeout(WITHIN, lane.data.write_logged(&fence, rows)).await?;
            let busy = |outcome: &Outcome<bool>| {
                matches!(
                    outcome,
                    Outcome::Failed(StorageError::Refused {
                        refusal: Refusal::Busy,
                        ..
                    })
                )
            };
            assert!(
                outcomes.iter().all(busy),
                "after {LOCK_WAIT_MAX:?}: {outcomes:?}"
            );
            // While the connection is still open, and before it says anything else.
            audit
                .run("BEGIN; SELECT id FROM shard WHERE id = 1 FOR UPDATE NOWAIT; ROLLBACK")
                .await?;
            audit
                .run("BEGIN; SELECT n FROM moved_keys FOR UPDATE NOWAIT; ROLLBACK")
                .await?;
            assert!(log(&mut audit).await?.is_empty());
            holder.run("ROLLBACK").await?;
        }
        assert_eq!(lane.value(&keys[0]).await?, Some("old".into()));
        assert_eq!(logged(&mut lane, Write::Delete(&keys)).await?, [true]);
        assert_eq!(log(&mut audit).await?, entries(&keys, 1));
        Ok(())
    }

    pub(crate) async fn a_change_of_epoch_waits_for_a_logged_write(store: &Store) -> Result<()> {
        let k = key("k");
        let mut tries = 0..10;
        loop {
            let mut lane = store.ready().await?;
            lane.put([row(&k, "old")]).await?;
            let mut watch = Watch::new(store).await?;
            let mut holder = store.audit().await?;
            holder.lock_all_rows().await?;
            let task = {
                let puts = [row(&k, "new")];
                tokio::spawn(async move {
                    let fence = lane.fence;
                    lane.data.write_logged(&fence, Write::Put(&puts)).await
                })
            };
            watch.until_waiting(&task).await?;
            let (seen, change) = watch.change_epoch().await?;
            let gave_up = task.is_finished();
            holder.run("ROLLBACK").await?;
            let outcome = timeout(WITHIN, task).await??.remove(0);
            change.finish().await?;
            // A write waits two seconds at most; a machine that is slower than that tries again.
            if outcome == Outcome::Applied(true) && !gave_up {
                assert_eq!(seen, Change::Waited);
                return Ok(());
            }
            tries
                .next()
                .ok_or("the write never waited long enough to be looked at")?;
        }
    }
}
