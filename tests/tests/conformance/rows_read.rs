//! How much a statement reads: its keys, the fence and the heartbeat, and not a row besides.
//!
//! A statement that reads the whole table is fast in every test with few rows, and locks all of
//! them. So the table is full of other rows, and the server itself counts what it reads.

use freehold_core::{Key, limits::STATEMENT_KEYS_MAX};
use freehold_storage::{Columns, ExpireRow, Outcome, PutRow, ScanRange};
use freehold_tests::Engine;

use crate::{
    audit::Audit,
    lane::{Lane, WHOLE, applied, keys_of_one_slot, row, row_with_ttl},
    store::{Result, Store},
};

on_servers!(
    a_request_reads_no_more_rows_than_its_keys_and_the_fence,
    a_page_reads_no_more_rows_than_it_brings,
    a_sweep_reads_no_more_rows_than_it_deletes,
);

/// The fence and the heartbeat.
const BESIDES: i64 = 2;

/// Counts what the server reads, on a server that does nothing else.
struct Meter {
    audit: Audit,
    query: &'static str,
    last: i64,
    /// What the counting itself reads.
    own: i64,
}

impl Meter {
    async fn new(store: &Store) -> Result<Self> {
        let query = match store.engine() {
            Some(Engine::MariaDb) => {
                "SELECT CAST(SUM(variable_value) AS SIGNED) FROM information_schema.global_status \
                 WHERE variable_name LIKE 'Handler_read%'"
            }
            _ => {
                "SELECT CAST(SUM(variable_value) AS SIGNED) FROM performance_schema.global_status \
                 WHERE variable_name LIKE 'Handler_read%'"
            }
        };
        let mut meter = Self {
            audit: store.audit().await?,
            query,
            last: 0,
            own: 0,
        };
        meter.reads().await?;
        meter.own = meter.reads().await?;
        assert_eq!(
            meter.reads().await?,
            0,
            "something else reads, or the counting is uneven"
        );
        Ok(meter)
    }

    /// Rows read since the last call.
    async fn reads(&mut self) -> Result<i64> {
        let now = self.audit.number(self.query).await?;
        let reads = now - self.last - self.own;
        self.last = now;
        Ok(reads)
    }
}

/// 5,000 rows beside the keys of the test: live, expired and deleted, in the same slot and others.
async fn neighbours(store: &Store, lane: &mut Lane) -> Result<()> {
    let tags = ["t", "u", "v", "w", "x"];
    for tag in tags {
        let keys = keys_of_one_slot(tag, 1_000);
        let others: Vec<PutRow> = keys
            .iter()
            .map(|key| PutRow {
                key: Key::new([key.bytes(), &b"other"[..]].concat()).unwrap_or(key.clone()),
                ..row(key, "value")
            })
            .collect();
        lane.put(others).await?;
    }
    let mut audit = store.audit().await?;
    audit
        .run("UPDATE store SET expires_at = -1 WHERE `key` LIKE '%1other'")
        .await?;
    audit
        .run("UPDATE store SET expires_at = 1000 WHERE `key` LIKE '%2other'")
        .await?;
    audit.run("ANALYZE TABLE store").await
}

async fn a_request_reads_no_more_rows_than_its_keys_and_the_fence(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    neighbours(store, &mut lane).await?;
    for size in [1, 2, 3, 8, 64, STATEMENT_KEYS_MAX] {
        let keys = keys_of_one_slot("t", size);
        let puts: Vec<PutRow> = keys.iter().map(|key| row(key, "value")).collect();
        let persists: Vec<ExpireRow> = keys
            .iter()
            .map(|key| ExpireRow {
                key: key.clone(),
                ttl_ms: None,
            })
            .collect();
        let expires: Vec<ExpireRow> = keys
            .iter()
            .zip(1_000_000..)
            .map(|(key, ttl_ms)| ExpireRow {
                key: key.clone(),
                ttl_ms: Some(ttl_ms),
            })
            .collect();
        // A first call may prepare its statement, and what is not there is read too.
        lane.read(&keys, WHOLE).await?;
        lane.put(puts.clone()).await?;
        let mut meter = Meter::new(store).await?;
        let most = i64::try_from(size)? + BESIDES;
        let check = async |what: &str, meter: &mut Meter| {
            let reads = meter.reads().await?;
            println!("{what} of {size} keys: {reads} rows read");
            assert!(
                reads <= most,
                "{what} of {size} keys read {reads} rows, not {most}"
            );
            Result::<()>::Ok(())
        };
        applied(lane.data.put(&lane.fence, &puts).await)?;
        check("put over rows", &mut meter).await?;
        lane.data.read(&keys, WHOLE).await?;
        check("read", &mut meter).await?;
        lane.data.read(&keys, Columns::Expiry).await?;
        check("ttl", &mut meter).await?;
        applied(lane.data.expire(&lane.fence, &expires).await)?;
        check("expire", &mut meter).await?;
        applied(lane.data.expire(&lane.fence, &persists).await)?;
        check("persist", &mut meter).await?;
        applied(lane.data.delete(&lane.fence, &keys).await)?;
        check("delete", &mut meter).await?;
        applied(lane.data.delete(&lane.fence, &keys).await)?;
        check("delete of deleted rows", &mut meter).await?;
        lane.data.read(&keys, WHOLE).await?;
        check("read of deleted rows", &mut meter).await?;
        let fresh: Vec<PutRow> = keys_of_one_slot(&format!("fresh {size}"), size)
            .iter()
            .map(|key| row_with_ttl(key, "value", 3_600_000))
            .collect();
        applied(lane.data.put(&lane.fence, &fresh).await)?;
        check("put of new rows", &mut meter).await?;
    }
    Ok(())
}

async fn a_page_reads_no_more_rows_than_it_brings(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    for tag in ["t", "u", "v"] {
        let keys = keys_of_one_slot(tag, 1_000);
        lane.put(keys.iter().map(|key| row(key, "value"))).await?;
    }
    store.audit().await?.run("ANALYZE TABLE store").await?;
    let mut slots: Vec<_> = ["t", "u", "v"]
        .map(|tag| keys_of_one_slot(tag, 1)[0].slot())
        .into();
    slots.sort();
    let mut meter = Meter::new(store).await?;
    for rows_max in [1, 10, 100] {
        for (slots, prefix) in [(&slots[..1], ""), (&slots[..], ""), (&slots[..], "{")] {
            let range = ScanRange {
                slots: slots.to_vec(),
                prefix: prefix.into(),
                after: None,
                rows_max,
                columns: WHOLE,
            };
            lane.data.scan(&range).await?;
            let reads = meter.reads().await?;
            println!(
                "page of {rows_max} rows from {} slots: {reads} rows read",
                slots.len()
            );
            // Each row; the first of each slot is found by its key; one more shows what is left.
            let most = i64::try_from(rows_max + slots.len() + 1)? + BESIDES;
            assert!(reads <= most, "{reads} rows read, not {most}");
        }
    }
    Ok(())
}

async fn a_sweep_reads_no_more_rows_than_it_deletes(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    neighbours(store, &mut lane).await?;
    let mut sweep = store.sweep().await?;
    sweep.due(1).await?;
    for size in [1, 2, 3, 8, 64, STATEMENT_KEYS_MAX] {
        let mut meter = Meter::new(store).await?;
        let due = sweep.due(size).await?;
        assert!(due.keys.len() == size && due.more);
        let reads = meter.reads().await?;
        println!("look for {size} due rows: {reads} rows read");
        let outcome = sweep.delete_due(&lane.fence, &due.keys).await;
        assert_eq!(outcome, Outcome::Applied(size as u64));
        let deleting = meter.reads().await?;
        println!("deletion of {size} due rows: {deleting} rows read");
        let most = i64::try_from(size)?;
        assert!(
            deleting <= most + BESIDES,
            "deleting {size} rows read {deleting}"
        );
        // Each due row and its slot; one more shows whether there are more; and the oldest.
        assert!(
            reads <= 2 * (most + 2) + BESIDES,
            "looking for {size} rows read {reads}"
        );
    }
    Ok(())
}
