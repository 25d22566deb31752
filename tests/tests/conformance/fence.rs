//! The fence: a write is applied only if the database shows what the router believes.

use std::collections::BTreeSet;

use freehold_core::{Fence, Key};
use freehold_storage::{Columns, ExpireRow, Outcome, PutRow, Refusal, ScanRange, StorageError};

use crate::{
    lane::{Lane, WHOLE, keys_of_one_slot, row, row_with_ttl},
    store::{Result, Store},
};

on_every_engine!(
    a_write_with_another_fence_changes_no_row,
    a_router_with_an_old_stamp_changes_nothing_ever,
    no_write_lands_behind_a_change_of_epoch,
    reads_tell_the_fence_of_their_snapshot,
    reads_under_a_fence_bring_something_only_where_it_holds,
    where_init_never_ran_every_request_is_refused_as_schema,
);

fn disagrees<T: PartialEq>(outcomes: &[Outcome<T>], rows: usize) -> bool {
    outcomes.len() == rows && outcomes.iter().all(|one| *one == Outcome::FenceDisagrees)
}

/// Tries every kind of write of these keys with a fence that must not pass.
async fn try_all(store: &Store, lane: &mut Lane, fence: &Fence, keys: &[Key]) -> Result<()> {
    let puts: Vec<PutRow> = keys
        .iter()
        .map(|key| row_with_ttl(key, "wrong", 60_000))
        .collect();
    let expires: Vec<ExpireRow> = keys
        .iter()
        .map(|key| ExpireRow {
            key: key.clone(),
            ttl_ms: None,
        })
        .collect();
    assert!(
        disagrees(&lane.data.put(fence, &puts).await, keys.len()),
        "put"
    );
    assert!(
        disagrees(&lane.data.delete(fence, keys).await, keys.len()),
        "delete"
    );
    assert!(
        disagrees(&lane.data.expire(fence, &expires).await, keys.len()),
        "expire"
    );
    let mut sweep = store.sweep().await?;
    assert_eq!(sweep.delete_due(fence, keys).await, Outcome::FenceDisagrees);
    Ok(())
}

/// Live, expired and deleted rows, and keys that have none: 32 of each, in turns.
async fn mixture(store: &Store, lane: &mut Lane) -> Result<Vec<Key>> {
    let keys = keys_of_one_slot("mixture", 128);
    lane.put(
        keys.iter()
            .filter(|key| quarter(key) == 1)
            .map(|key| row_with_ttl(key, "expired", 60_000)),
    )
    .await?;
    store
        .audit()
        .await?
        .run("UPDATE store SET expires_at = 1000")
        .await?;
    lane.put(
        keys.iter()
            .filter(|key| quarter(key) > 1)
            .map(|key| row(key, "live")),
    )
    .await?;
    let dead: Vec<Key> = keys
        .iter()
        .filter(|key| quarter(key) == 2)
        .cloned()
        .collect();
    lane.delete(&dead).await?;
    Ok(keys)
}

fn quarter(key: &Key) -> u8 {
    key.bytes().last().map_or(0, |last| last % 4)
}

pub(crate) async fn a_write_with_another_fence_changes_no_row(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let keys = mixture(store, &mut lane).await?;
    let mut audit = store.audit().await?;
    let before = audit.all_rows().await?;
    let right = lane.fence;
    let wrong = [
        Fence {
            stamp: right.stamp ^ 1,
            ..right
        },
        Fence {
            stamp: right.stamp ^ 1 << 63,
            ..right
        },
        Fence { stamp: 0, ..right },
        Fence {
            server_id: right.server_id ^ 1,
            ..right
        },
        Fence {
            server_id: 0,
            ..right
        },
        Fence {
            server_id: right.server_id ^ 1,
            stamp: right.stamp ^ 1,
            ..right
        },
    ];
    for fence in wrong {
        for size in [1, 2, 3, 4, 64, 128] {
            try_all(store, &mut lane, &fence, &keys[..size]).await?;
        }
    }
    assert!(audit.all_rows().await? == before, "a row changed");
    Ok(())
}

pub(crate) async fn a_router_with_an_old_stamp_changes_nothing_ever(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let keys = mixture(store, &mut lane).await?;
    let mut audit = store.audit().await?;
    let old = lane.fence;
    let before = audit.all_rows().await?;
    // Term and epoch may come again after a failover that lost a tail; the stamp does not.
    for (term, epoch, stamp) in [(1, 2, 20), (2, 3, 30), (1, 1, 40), (9, 9, 50)] {
        let change = format!("UPDATE shard SET term = {term}, epoch = {epoch}, stamp = {stamp}");
        audit.run(&change).await?;
        for size in [1, 2, 128] {
            try_all(store, &mut lane, &old, &keys[..size]).await?;
        }
    }
    assert!(audit.all_rows().await? == before, "a row changed");
    // A lane that reloads goes on.
    let mut reloaded = store.lane().await?;
    reloaded.put([row(&keys[0], "new")]).await?;
    assert_eq!(reloaded.value(&keys[0]).await?, Some("new".into()));
    Ok(())
}

/// Puts its keys over and over, each with the stamp it believes in as the row's version, until
/// the stop sign is there.
async fn writer(
    mut lane: Lane,
    keys: Vec<Key>,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Result<Lane> {
    let mut round = 0_u64;
    while matches!(stop.has_changed(), Ok(false)) {
        round += 1;
        let rows: Vec<PutRow> = keys
            .iter()
            .map(|key| PutRow {
                version: lane.fence.stamp,
                ..row(key, round.to_string())
            })
            .collect();
        let outcomes = lane.data.put(&lane.fence, &rows).await;
        match &outcomes[0] {
            Outcome::Applied(()) => {}
            Outcome::FenceDisagrees => lane = Lane::open(lane.data).await?,
            Outcome::Failed(error) => return Err(format!("put failed: {error}").into()),
        }
        assert!(
            outcomes.iter().all(|outcome| *outcome == outcomes[0]),
            "one fate for all rows"
        );
    }
    Ok(lane)
}

pub(crate) async fn no_write_lands_behind_a_change_of_epoch(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let keys = keys_of_one_slot("t", 60);
    lane.put(
        keys.iter()
            .map(|key| PutRow {
                version: lane.fence.stamp,
                ..row(key, "0")
            })
            .collect::<Vec<_>>(),
    )
    .await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut writers = Vec::new();
    for keys in keys.chunks(20) {
        let writer = writer(store.lane().await?, keys.to_vec(), stopped.clone());
        writers.push(tokio::spawn(writer));
    }

    let mut audit = store.audit().await?;
    // All rows that were there when an epoch ended. What has an older stamp is one of these, or it
    // was written afterwards.
    let mut settled: BTreeSet<Vec<String>> = BTreeSet::new();
    for stamp in 1..=100 {
        let ended = audit.rows("SELECT stamp FROM shard").await?.concat();
        audit.run("BEGIN").await?;
        audit
            .run(&format!(
                "UPDATE shard SET epoch = epoch + 1, stamp = {stamp}"
            ))
            .await?;
        let rows = audit
            .rows("SELECT version, HEX(`key`), HEX(value) FROM store")
            .await?;
        audit.run("COMMIT").await?;
        let late = rows
            .iter()
            .find(|row| row[..1] != ended && !settled.contains(*row));
        assert_eq!(
            late, None,
            "written behind its epoch, seen when {ended:?} ended"
        );
        settled.extend(rows);
    }
    stop.send(true)?;
    for writer in writers {
        writer.await??;
    }
    Ok(())
}

pub(crate) async fn reads_tell_the_fence_of_their_snapshot(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let keys = keys_of_one_slot("t", 3);
    lane.put(keys.iter().map(|key| row(key, "value"))).await?;
    let range = ScanRange {
        slots: vec![keys[0].slot()],
        prefix: "".into(),
        after: None,
        rows_max: 10,
        columns: Columns::Expiry,
    };
    for (term, epoch, stamp) in [(1, 2, 20), (3, 4, u64::MAX >> 1)] {
        let change = format!("UPDATE shard SET term = {term}, epoch = {epoch}, stamp = {stamp}");
        store.audit().await?.run(&change).await?;
        let expected = Fence {
            server_id: lane.fence.server_id,
            stamp,
            term,
            epoch,
        };
        assert_eq!(lane.data.claims(0).await?.fence, expected);
        assert_eq!(lane.data.read(&keys, WHOLE).await?.fence, expected);
        assert_eq!(lane.data.read(&keys[..1], WHOLE).await?.fence, expected);
        assert_eq!(lane.data.scan(&range).await?.fence, expected);
        // The server that the fence names is the one that answers.
        let read = lane.data.read(&keys, WHOLE).await?;
        let page = lane.data.scan(&range).await?;
        assert_eq!(read.answered_by, expected.server_id);
        assert_eq!(page.answered_by, expected.server_id);
        // No row is found, and still the fence is told.
        let nowhere = keys_of_one_slot("nowhere", 2);
        assert_eq!(
            lane.data.read(&nowhere, Columns::Expiry).await?.fence,
            expected
        );
        let empty = ScanRange {
            slots: vec![nowhere[0].slot()],
            ..range.clone()
        };
        assert_eq!(lane.data.scan(&empty).await?.fence, expected);
    }
    Ok(())
}

pub(crate) async fn reads_under_a_fence_bring_something_only_where_it_holds(
    store: &Store,
) -> Result<()> {
    let mut lane = store.ready().await?;
    let keys = mixture(store, &mut lane).await?;
    let right = lane.fence;
    let others = [
        Fence {
            stamp: right.stamp ^ 1,
            ..right
        },
        Fence {
            server_id: right.server_id + 1,
            ..right
        },
    ];
    let nowhere = keys_of_one_slot("nowhere", 2);
    // Prepared, as text, and without any row.
    for (keys, columns) in [
        (&keys[..], WHOLE),
        (&keys[..1], WHOLE),
        (&keys[..], Columns::Expiry),
        (&nowhere[..], WHOLE),
    ] {
        let expected = lane.data.read(keys, columns).await?.rows;
        let found = lane.data.read_under(&right, keys, columns).await?;
        assert_eq!(found, Some(expected));
        for other in &others {
            assert_eq!(lane.data.read_under(other, keys, columns).await?, None);
        }
    }
    let range = |key: &Key, prefix: &'static str, after: Option<&Key>, columns| ScanRange {
        slots: vec![key.slot()],
        prefix: prefix.into(),
        after: after.map(|key| key.bytes().clone()),
        rows_max: 10,
        columns,
    };
    // Of one slot with a prefix, behind a key, without a prefix, without values, and without rows.
    for range in [
        range(&keys[0], "{mixture}", None, WHOLE),
        range(&keys[0], "{mixture}", Some(&keys[20]), WHOLE),
        range(&keys[0], "", None, WHOLE),
        range(&keys[0], "{mixture}", None, Columns::Expiry),
        range(&nowhere[0], "{nowhere}", None, WHOLE),
        range(&nowhere[0], "", None, WHOLE),
    ] {
        let expected = lane.data.scan(&range).await?;
        let found = lane.data.scan_under(&right, &range).await?;
        let found = found.expect("the fence holds");
        assert!(found.fence.agrees_with(&right) && found.answered_by == right.server_id);
        assert_eq!(
            (found.rows, found.complete),
            (expected.rows, expected.complete)
        );
        for other in &others {
            assert!(lane.data.scan_under(other, &range).await?.is_none());
        }
    }
    Ok(())
}

pub(crate) async fn where_init_never_ran_every_request_is_refused_as_schema(
    store: &Store,
) -> Result<()> {
    let is_schema = |error: &StorageError| {
        matches!(
            error,
            StorageError::Refused {
                refusal: Refusal::Schema,
                ..
            }
        )
    };
    let mut data = store.data().await?;
    let fence = Fence {
        server_id: 1,
        stamp: 1,
        term: 1,
        epoch: 1,
    };
    let keys = keys_of_one_slot("t", 2);
    assert!(data.claims(0).await.is_err_and(|error| is_schema(&error)));
    assert!(
        data.read(&keys, WHOLE)
            .await
            .is_err_and(|error| is_schema(&error))
    );
    let rows: Vec<PutRow> = keys.iter().map(|key| row(key, "value")).collect();
    for outcome in data.put(&fence, &rows).await {
        assert!(
            matches!(&outcome, Outcome::Failed(error) if is_schema(error)),
            "{outcome:?}"
        );
    }
    for outcome in data.delete(&fence, &keys).await {
        assert!(
            matches!(&outcome, Outcome::Failed(error) if is_schema(error)),
            "{outcome:?}"
        );
    }
    data.ping().await?;
    Ok(())
}
