//! How much a statement reads: its keys, the fence and the heartbeat, and not a row besides. (A read
//! of many keys reads a row of the table `numbers` for each, and the ends of its range.)
//!
//! A statement that reads the whole table is fast in every test with few rows, and locks all of
//! them. So the table is full of other rows, and the server itself counts what it reads.

use freehold_core::{Key, limits::STATEMENT_KEYS_MAX};
use freehold_storage::{Columns, ExpireRow, Outcome, PutRow, ScanRange};
use freehold_tests::Engine;

use crate::{
    audit::Audit,
    lane::{Lane, WHOLE, applied, key, keys_of_one_slot, row, row_with_ttl},
    store::{Result, Store},
};

on_servers!(
    a_request_reads_no_more_rows_than_its_keys_and_the_fence,
    nor_does_it_in_a_table_that_is_hardly_larger,
    nor_does_a_read_of_long_keys,
    a_look_at_the_map_reads_the_slots_that_changed,
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

    /// Checks what a request of so many keys read since the last call.
    async fn check(&mut self, what: &str, size: usize) -> Result<()> {
        self.check_most(what, size, i64::try_from(size)? + BESIDES)
            .await
    }

    /// The same for a read of keys whose values are wanted.
    async fn check_read(&mut self, what: &str, size: usize) -> Result<()> {
        let numbers = match size {
            0..=16 => 0,
            _ => size + 2,
        };
        self.check_most(what, size, i64::try_from(size + numbers)? + BESIDES)
            .await
    }

    async fn check_most(&mut self, what: &str, size: usize, most: i64) -> Result<()> {
        let reads = self.reads().await?;
        println!("{what} of {size} keys: {reads} rows read");
        assert!(
            reads <= most,
            "{what} of {size} keys read {reads} rows, not {most}"
        );
        Ok(())
    }

    /// Rows read since the last call.
    async fn reads(&mut self) -> Result<i64> {
        let now = self.audit.number(self.query).await?;
        let reads = now - self.last - self.own;
        self.last = now;
        Ok(reads)
    }
}

/// Rows beside the keys of the test, in the same slot and four others: live, expired and deleted.
async fn neighbours(store: &Store, lane: &mut Lane, rows_per_slot: usize) -> Result<()> {
    for tag in ["t", "u", "v", "w", "x"] {
        let keys = keys_of_one_slot(tag, rows_per_slot);
        let others = keys
            .iter()
            .map(|beside| key([beside.bytes(), &b"other"[..]].concat()));
        lane.put(others.map(|other| row(&other, "value"))).await?;
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
    neighbours(store, &mut lane, 1_000).await?;
    // Among them every size above 32 for which a PUT is prepared.
    for size in [1, 2, 3, 8, 48, 64, 80, 96, 112, STATEMENT_KEYS_MAX] {
        measure_requests(store, &mut lane, size).await?;
    }
    Ok(())
}

/// A server that has to choose scans a small table, and locks all of it.
async fn nor_does_it_in_a_table_that_is_hardly_larger(store: &Store) -> Result<()> {
    for size in [1, 2, 3, 8, 16, 32] {
        let mut lane = store.ready().await?;
        neighbours(store, &mut lane, 4).await?;
        measure_requests(store, &mut lane, size).await?;
    }
    Ok(())
}

/// They go as a list, one by one, in every size above 32 that there is a statement for.
async fn nor_does_a_read_of_long_keys(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    neighbours(store, &mut lane, 1_000).await?;
    for size in [48, 64, 80, 96, 112, STATEMENT_KEYS_MAX] {
        let keys = keys_of_one_slot("t", size);
        let long = |key_: &Key| key([key_.bytes(), &[b'l'; 900][..]].concat());
        let keys: Vec<Key> = keys.iter().map(long).collect();
        lane.put(keys.iter().map(|key| row(key, "value"))).await?;
        lane.read(&keys, WHOLE).await?;
        lane.data.read_under(&lane.fence, &keys, WHOLE).await?;
        let mut meter = Meter::new(store).await?;
        let read = lane.data.read(&keys, WHOLE).await?;
        assert!(read.rows.iter().all(Option::is_some));
        meter.check("read of long keys", size).await?;
        lane.data.read_under(&lane.fence, &keys, WHOLE).await?;
        meter.check("read of long keys under a fence", size).await?;
    }
    Ok(())
}

/// Every kind of request, each with as many keys.
async fn measure_requests(store: &Store, lane: &mut Lane, size: usize) -> Result<()> {
    let keys = keys_of_one_slot("t", size);
    let puts: Vec<PutRow> = keys.iter().map(|key| row(key, "value")).collect();
    let fresh: Vec<PutRow> = keys_of_one_slot(&format!("fresh {size}"), size)
        .iter()
        .map(|key| row_with_ttl(key, "value", 3_600_000))
        .collect();
    let expiry = |ttl_ms: fn(u64) -> Option<u64>| -> Vec<ExpireRow> {
        let rows = keys.iter().zip(1_000_000..);
        rows.map(|(key, ttl)| ExpireRow {
            key: key.clone(),
            ttl_ms: ttl_ms(ttl),
        })
        .collect()
    };
    // A first call prepares its statement, and what is not there yet is no row to read.
    lane.read(&keys, WHOLE).await?;
    lane.data.read_under(&lane.fence, &keys, WHOLE).await?;
    lane.put(puts.clone()).await?;
    let (data, fence) = (&mut lane.data, &lane.fence);
    let mut meter = Meter::new(store).await?;
    applied(data.put(fence, &puts).await)?;
    meter.check("put over rows", size).await?;
    data.read(&keys, WHOLE).await?;
    meter.check_read("read", size).await?;
    data.read_under(fence, &keys, WHOLE).await?;
    meter.check_read("read under a fence", size).await?;
    data.read(&keys, Columns::Expiry).await?;
    meter.check("ttl", size).await?;
    data.read_under(fence, &keys, Columns::Expiry).await?;
    meter.check("ttl under a fence", size).await?;
    applied(data.expire(fence, &expiry(Some)).await)?;
    meter.check("expire", size).await?;
    applied(data.expire(fence, &expiry(|_| None)).await)?;
    meter.check("persist", size).await?;
    applied(data.delete(fence, &keys).await)?;
    meter.check("delete", size).await?;
    applied(data.delete(fence, &keys).await)?;
    meter.check("delete of deleted rows", size).await?;
    data.read(&keys, WHOLE).await?;
    meter.check_read("read of deleted rows", size).await?;
    applied(data.put(fence, &fresh).await)?;
    meter.check("put of new rows", size).await
}

/// Each router looks once a second, on tables that nobody analyzed since `init` filled them.
async fn a_look_at_the_map_reads_the_slots_that_changed(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let epoch = lane.fence.epoch;
    lane.data.claims(epoch).await?;
    for changed in [0, 1, 10, 100] {
        let mut audit = store.audit().await?;
        audit
            .run(&format!(
                "UPDATE slots SET since_epoch = {} WHERE slot < {changed}",
                epoch + 1
            ))
            .await?;
        let mut meter = Meter::new(store).await?;
        let claims = lane.data.claims(epoch).await?;
        assert_eq!(claims.claims.len(), changed);
        meter.check("look at the map", changed).await?;
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
        let places = [
            (&slots[..1], ""),
            (&slots[..1], "{"),
            (&slots[..], ""),
            (&slots[..], "{"),
        ];
        for (slots, prefix) in places {
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
            // The heartbeat's time is looked up once more.
            assert!(reads <= most + 1, "{reads} rows read, not {most}");
            lane.data.scan_under(&lane.fence, &range).await?;
            let reads = meter.reads().await?;
            assert!(reads <= most, "{reads} rows read under a fence, not {most}");
        }
    }
    Ok(())
}

async fn a_sweep_reads_no_more_rows_than_it_deletes(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    neighbours(store, &mut lane, 1_000).await?;
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
