//! A read under a fence is one snapshot: what it brings belongs to the moment that the fence names.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use freehold_storage::{Columns, ScanRange};

use crate::{
    lane::{WHOLE, keys_of_one_slot, row},
    store::{Result, Store},
};

on_servers!(what_is_read_under_a_fence_was_there_while_it_held);

/// Reads that must have met the fence for the test to have shown anything.
const MET_MIN: usize = 200;

/// Somebody changes the fence and all rows together, again and again; each read that goes by a fence
/// must find the rows of that very change.
async fn what_is_read_under_a_fence_was_there_while_it_held(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let keys = keys_of_one_slot("t", 32);
    lane.put(keys.iter().map(|key| row(key, "value"))).await?;
    let stamp = lane.fence.stamp;
    let mut audit = store.audit().await?;
    audit
        .run(&format!("UPDATE store SET version = {stamp}"))
        .await?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let changes = tokio::spawn(async move {
        for stamp in 1_000_u64.. {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            let change = format!(
                "BEGIN; UPDATE shard SET stamp = {stamp}; UPDATE store SET version = {stamp}; COMMIT"
            );
            audit.run(&change).await?;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    });
    let range = |columns, prefix: &'static str| ScanRange {
        slots: vec![keys[0].slot()],
        prefix: prefix.into(),
        after: None,
        rows_max: 100,
        columns,
    };
    let ranges = [range(WHOLE, "{t}"), range(Columns::Expiry, "")];
    let (mut read, mut scanned) = (0, 0);
    while read < MET_MIN || scanned < MET_MIN {
        assert!(!changes.is_finished(), "the changes go on");
        let fence = lane.data.claims(u64::MAX >> 1).await?.fence;
        if let Some(rows) = lane.data.read_under(&fence, &keys, WHOLE).await? {
            let versions = rows.iter().flatten().map(|row| row.version);
            assert!(versions.eq(keys.iter().map(|_| fence.stamp)));
            read += 1;
        }
        let range = &ranges[scanned % ranges.len()];
        if let Some(page) = lane.data.scan_under(&fence, range).await? {
            let versions = page.rows.iter().map(|(_, row)| row.version);
            assert!(versions.eq(keys.iter().map(|_| fence.stamp)));
            scanned += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    changes.await??;
    Ok(())
}
