//! Sweeping: what is due goes, and nothing else ever does.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use freehold_core::{Fence, Key, Slot};
use freehold_storage::{Outcome, SweepConnection};

use crate::{
    lane::{Lane, WHOLE, applied, key, keys_of_one_slot, row, row_with_ttl},
    store::{Result, Store},
};

on_every_engine!(
    deleted_and_expired_rows_are_due_and_live_ones_are_not,
    the_oldest_rows_are_due_first,
    rows_of_slots_that_are_not_owned_are_left_alone,
    a_revived_row_is_never_deleted,
    rows_past_their_expiry_go_and_the_count_is_right,
    four_writers_never_fail_while_the_sweeper_deletes,
);

/// Rows with these expiries, one key each, in the order of the keys.
async fn rows_expiring_at(store: &Store, lane: &mut Lane, times: &[i64]) -> Result<Vec<Key>> {
    let keys = keys_of_one_slot("t", times.len());
    lane.put(keys.iter().map(|key| row(key, "value"))).await?;
    let mut audit = store.audit().await?;
    for (place, expires_at) in times.iter().enumerate() {
        // A key's last three digits are its place.
        let change = format!("UPDATE store SET expires_at = {expires_at} WHERE HEX(`key`) LIKE ");
        let digits: String = format!("{place:03}")
            .bytes()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        audit.run(&format!("{change} '%{digits}'")).await?;
    }
    Ok(keys)
}

pub(crate) async fn deleted_and_expired_rows_are_due_and_live_ones_are_not(
    store: &Store,
) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut audit = store.audit().await?;
    let mut sweep = store.sweep().await?;
    let nothing = sweep.due(10).await?;
    assert!(nothing.keys.is_empty() && !nothing.more && nothing.oldest_ms.is_none());
    assert!(
        nothing
            .fence
            .is_some_and(|fence| fence.agrees_with(&lane.fence))
    );

    let now = audit.now_ms().await?;
    let keys = rows_expiring_at(
        store,
        &mut lane,
        &[-1, i64::MAX, now - 5_000, now + 3_600_000],
    )
    .await?;
    let due = sweep.due(10).await?;
    assert_eq!(due.keys, [keys[0].clone(), keys[2].clone()]);
    assert!(!due.more);
    let age = due
        .oldest_ms
        .ok_or("an expired row has an age")?
        .cast_signed();
    assert!(
        (5_000..=5_000 + audit.now_ms().await? - now).contains(&age),
        "{age}"
    );

    audit
        .run("UPDATE store SET expires_at = -1 WHERE expires_at > 0")
        .await?;
    let due = sweep.due(10).await?;
    assert_eq!(
        (due.keys.len(), due.oldest_ms),
        (4, None),
        "deleted rows have no age"
    );
    Ok(())
}

pub(crate) async fn the_oldest_rows_are_due_first(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut sweep = store.sweep().await?;
    let keys = rows_expiring_at(store, &mut lane, &[5_000, 3_000, -1, 1_000, 4_000, 2_000]).await?;
    let pick = |places: &[usize]| {
        places
            .iter()
            .map(|at| keys[*at].clone())
            .collect::<Vec<Key>>()
    };
    for (rows_max, expected, more) in [
        (1, pick(&[2]), true),
        (3, pick(&[2, 3, 5]), true),
        (5, pick(&[1, 2, 3, 4, 5]), true),
        (6, keys.clone(), false),
    ] {
        let due = sweep.due(rows_max).await?;
        assert_eq!((due.keys, due.more), (expected, more), "{rows_max} rows");
    }
    Ok(())
}

pub(crate) async fn rows_of_slots_that_are_not_owned_are_left_alone(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut sweep = store.sweep().await?;
    let mut audit = store.audit().await?;
    let keys: Vec<Key> = ["a", "b", "c", "d", "e"].map(key).to_vec();
    lane.put(keys.iter().map(|key| row(key, "value"))).await?;
    audit.run("UPDATE store SET expires_at = 1000").await?;
    for (key, state) in keys.iter().zip(["outgoing", "fenced", "incoming", "gone"]) {
        let Slot(slot) = key.slot();
        audit
            .run(&format!(
                "UPDATE slots SET state = '{state}' WHERE slot = {slot}"
            ))
            .await?;
    }
    assert_eq!(sweep.due(10).await?.keys, keys[4..]);
    Ok(())
}

pub(crate) async fn a_revived_row_is_never_deleted(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut sweep = store.sweep().await?;
    let keys = keys_of_one_slot("t", 8);
    lane.put(keys.iter().map(|key| row_with_ttl(key, "old", 60_000)))
        .await?;
    store
        .audit()
        .await?
        .run("UPDATE store SET expires_at = 1000")
        .await?;
    lane.put(keys[..2].iter().map(|key| row(key, "old")))
        .await?;
    lane.delete(&keys[..2]).await?;
    let due = sweep.due(100).await?;
    assert_eq!(due.keys, keys);

    // Between the look and the deletion half of them come back.
    let revived: Vec<Key> = keys.iter().step_by(2).cloned().collect();
    lane.put(
        revived
            .iter()
            .map(|key| row_with_ttl(key, "new", 3_600_000)),
    )
    .await?;
    assert_eq!(
        sweep.delete_due(&lane.fence, &due.keys).await,
        Outcome::Applied(4)
    );
    for (place, found) in lane.read(&keys, WHOLE).await?.iter().enumerate() {
        assert_eq!(found.is_some(), place % 2 == 0, "{place}");
    }
    assert_eq!(store.audit().await?.all_rows().await?.len(), 4);
    Ok(())
}

pub(crate) async fn rows_past_their_expiry_go_and_the_count_is_right(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut sweep = store.sweep().await?;
    let keys: Vec<Key> = (0..300)
        .map(|number| key(format!("key:{number}")))
        .collect();
    lane.put(keys.iter().map(|key| row_with_ttl(key, "value", 60_000)))
        .await?;
    let mut audit = store.audit().await?;
    audit.run("UPDATE store SET expires_at = 1000").await?;
    lane.put([row(&key("stays"), "value")]).await?;
    // Keys that are not there, or not due, may be among them.
    let mut strangers = vec![key("stays"), key("nowhere")];
    strangers.sort();
    assert_eq!(
        sweep.delete_due(&lane.fence, &strangers).await,
        Outcome::Applied(0)
    );
    let mut deleted = 0;
    loop {
        let due = sweep.due(100).await?;
        for size in [1, 2, 3, 128] {
            let batch = &due.keys[..due.keys.len().min(size)];
            if let Outcome::Applied(count) = sweep.delete_due(&lane.fence, batch).await {
                deleted += count;
            }
        }
        if !due.more {
            break;
        }
    }
    assert_eq!(deleted, 300);
    assert_eq!(audit.all_rows().await?.len(), 1);
    Ok(())
}

/// Batches that each writer puts. Every one of its keys lives a millisecond, or for ever.
const BATCHES: u64 = 150;

async fn put_batches(mut lane: Lane, writer: u64, keys: Arc<Vec<Key>>) -> Result<()> {
    for batch in 0..BATCHES {
        // Neighbouring writers share half of their keys, and each starts elsewhere every time.
        let first = (writer * 32 + batch * 7) as usize % (keys.len() - 64);
        let rows: Vec<_> = keys[first..first + 64]
            .iter()
            .map(|key| row_with_ttl(key, format!("{writer}/{batch}"), 1))
            .collect();
        applied(lane.data.put(&lane.fence, &rows).await)?;
        if batch % 8 == 0 {
            applied(
                lane.data
                    .delete(&lane.fence, &keys[first..first + 32])
                    .await,
            )?;
        }
    }
    Ok(())
}

async fn sweep_until(
    mut sweep: Box<dyn SweepConnection>,
    fence: Fence,
    stop: Arc<AtomicBool>,
) -> Result<u64> {
    let mut deleted = 0;
    loop {
        let stopping = stop.load(Ordering::SeqCst);
        let due = sweep.due(1_000).await?;
        for batch in due.keys.chunks(128) {
            match sweep.delete_due(&fence, batch).await {
                Outcome::Applied(count) => deleted += count,
                other => return Err(format!("sweeping: {other:?}").into()),
            }
        }
        if stopping && due.keys.is_empty() {
            return Ok(deleted);
        }
    }
}

pub(crate) async fn four_writers_never_fail_while_the_sweeper_deletes(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let keys = [keys_of_one_slot("a", 300), keys_of_one_slot("b", 300)].concat();
    let keys = Arc::new({
        let mut keys = keys;
        keys.sort();
        keys
    });
    let stop = Arc::new(AtomicBool::new(false));
    let sweeper = tokio::spawn(sweep_until(
        store.sweep().await?,
        lane.fence,
        Arc::clone(&stop),
    ));
    let mut writers = Vec::new();
    for writer in 0..4 {
        writers.push(tokio::spawn(put_batches(
            store.lane().await?,
            writer,
            Arc::clone(&keys),
        )));
    }
    for writer in writers {
        writer.await??;
    }
    // Now all of them live for ever, while the sweeper is still at it.
    lane.put(keys.iter().map(|key| row(key, "stays"))).await?;
    stop.store(true, Ordering::SeqCst);
    let deleted = sweeper.await??;
    assert!(deleted > 0, "the sweeper never got to delete anything");
    assert!(
        lane.read(&keys, WHOLE).await?.iter().all(Option::is_some),
        "a live row is gone"
    );
    Ok(())
}
