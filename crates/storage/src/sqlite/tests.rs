//! What is SQLite's own; the promises that all engines share are the conformance suite's.

use freehold_core::{Fence, Key, ShardIdentity, Slot, limits::SCAN_SLOTS_MAX};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{
    data::DataConnection,
    row::{Columns, PutRow, ScanRange, Value},
    schema::{SchemaConnection, SchemaState},
};

fn server(folder: &TempDir, seed: u64) -> SqliteServer {
    let options = ConnectOptions {
        connect_timeout: LOCK_WAIT_MAX,
        seed,
    };
    SqliteServer::new(folder.path().join("shard"), options)
}

async fn initialised(server: &SqliteServer) -> (SqliteConnection, Fence) {
    let mut connection = server.connect().await.unwrap();
    let identity = ShardIdentity {
        name: "a".into(),
        cluster_id: u64::MAX,
        schema_version: 0,
    };
    connection.create(&identity).await.unwrap();
    connection.take_slots(0..=u16::MAX).await.unwrap();
    let fence = connection.claims(u64::MAX >> 1).await.unwrap().fence;
    (connection, fence)
}

fn row(key: &'static str, value: &'static [u8]) -> PutRow {
    PutRow {
        key: Key::new(key).unwrap(),
        value: value.into(),
        version: u64::MAX,
        ttl_ms: None,
    }
}

#[tokio::test]
async fn a_row_comes_back_from_a_new_connection() {
    let folder = TempDir::new().unwrap();
    let server = server(&folder, 1);
    let (mut connection, fence) = initialised(&server).await;
    assert_eq!(
        connection.put(&fence, &[row("k", b"v")]).await,
        [Outcome::Applied(())]
    );
    drop(connection);
    let mut connection = server.connect().await.unwrap();
    let keys = [Key::new("k").unwrap()];
    let read = connection
        .read(&keys, Columns::Value { bytes_max: 1 })
        .await
        .unwrap();
    let found = read.rows[0].as_ref().unwrap();
    assert_eq!((found.version, found.ttl_ms), (u64::MAX, None));
    assert_eq!(found.value, Value::Bytes("v".into()));
    assert_eq!(read.fence, fence);
    let mut state = server.connect().await.unwrap();
    let SchemaState::Ready { slots_claimed, .. } = state.state().await.unwrap() else {
        panic!()
    };
    assert_eq!(slots_claimed, 65_536);
}

#[tokio::test]
async fn every_statement_finds_its_rows_by_an_index() {
    let folder = TempDir::new().unwrap();
    let server = server(&folder, 1);
    drop(initialised(&server).await);
    let file = Connection::open(&server.path).unwrap();
    let by_key = "SEARCH store USING INDEX sqlite_autoindex_store_1 (slot=? AND key";
    let by_expiry = "SEARCH store USING COVERING INDEX store_due";
    for (sql, expected) in [
        (data::DELETE, by_key),
        (data::EXPIRE, by_key),
        (data::READ, by_key),
        (data::INSPECT, by_key),
        (
            scan::SCAN,
            "SEARCH store USING INDEX sqlite_autoindex_store_1 (slot=? AND key>? AND key<?)",
        ),
        (
            scan::SCAN_SLOTS,
            "SEARCH store USING INDEX sqlite_autoindex_store_1 (slot>? AND slot<?)",
        ),
        (
            scan::NEXT_SLOT,
            "SEARCH store USING COVERING INDEX sqlite_autoindex_store_1 (slot>? AND slot<?)",
        ),
        (sweep::DELETE_DUE, by_key),
        (sweep::DUE, by_expiry),
        (sweep::OLDEST, by_expiry),
    ] {
        let mut statement = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> = statement
            .raw_query()
            .mapped(|row| row.get(3))
            .map(Result::unwrap)
            .collect();
        assert!(plan[0].starts_with(expected), "{sql}: {plan:?}");
        assert!(
            !plan.iter().any(|step| step.contains("TEMP B-TREE")),
            "{sql}: {plan:?}"
        );
    }
}

/// How often a statement has run on this connection.
async fn runs(connection: &SqliteConnection, sql: &'static str) -> i32 {
    let runs = move |session: &mut Session| {
        let statement = session.connection().prepare_cached(sql).unwrap();
        statement.get_status(rusqlite::StatementStatus::Run)
    };
    connection.worker.call(runs).await.unwrap()
}

#[tokio::test]
async fn a_walk_over_empty_slots_asks_once_for_each_stretch() {
    let folder = TempDir::new().unwrap();
    let server = server(&folder, 1);
    let (mut connection, fence) = initialised(&server).await;
    let rows = [row("a", b"v"), row("user:1", b"v")];
    for row in &rows {
        let put = connection.put(&fence, std::slice::from_ref(row)).await;
        assert_eq!(put, [Outcome::Applied(())]);
    }
    let slots: Vec<Slot> = (0..=u16::MAX).map(Slot).collect();
    let stretches = slots.chunks(SCAN_SLOTS_MAX);
    let count = i32::try_from(stretches.len()).unwrap();
    for (prefix, found_wanted) in [("", 2), ("us", 1), ("v", 0)] {
        let statements = [scan::SCAN, scan::SCAN_SLOTS, scan::NEXT_SLOT];
        let mut before = 0;
        for sql in statements {
            before += runs(&connection, sql).await;
        }
        let mut found = 0;
        for slots in stretches.clone() {
            let range = ScanRange {
                slots: slots.to_vec(),
                prefix: prefix.into(),
                after: None,
                rows_max: 100,
                columns: Columns::Expiry,
            };
            let page = connection.scan(&range).await.unwrap();
            assert!(page.complete);
            found += page.rows.len();
        }
        let mut after = 0;
        for sql in statements {
            after += runs(&connection, sql).await;
        }
        assert_eq!(found, found_wanted, "{prefix}");
        // With a prefix, each slot that has rows is looked into, and what is behind it besides.
        let most = count + 2 * 2;
        assert!(after - before >= count, "not counted: {before}, {after}");
        assert!(after - before <= most, "{prefix}: {}", after - before);
    }
}

#[tokio::test]
async fn writers_of_another_process_are_waited_for_and_then_the_answer_is_busy() {
    let folder = TempDir::new().unwrap();
    let server = server(&folder, 1);
    let (mut connection, fence) = initialised(&server).await;
    let other = Connection::open(&server.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let outcome = connection.put(&fence, &[row("k", b"v")]).await;
    assert!(
        matches!(
            &outcome[..],
            [Outcome::Failed(StorageError::Refused {
                refusal: Refusal::Busy,
                ..
            })]
        ),
        "{outcome:?}"
    );
    // Reads do not wait for writers.
    connection
        .read(&[Key::new("k").unwrap()], Columns::Expiry)
        .await
        .unwrap();
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(
        connection.put(&fence, &[row("k", b"v")]).await,
        [Outcome::Applied(())]
    );
}

/// As a lane does that gives a statement up: the file is locked, so the earlier call is still under
/// way when the later one comes on a connection of its own.
#[tokio::test]
async fn a_call_that_was_dropped_is_done_before_a_later_one() {
    let folder = TempDir::new().unwrap();
    let server = server(&folder, 1);
    let (connection, fence) = initialised(&server).await;
    drop(connection);
    let other = Connection::open(&server.path).unwrap();
    for round in 0..8 {
        let mut earlier = server.connect().await.unwrap();
        let mut later = server.connect().await.unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let rows = [row("k", b"earlier"), row("l", b"earlier")];
        tokio::select! {
            biased;
            _ = earlier.put(&fence, &rows) => panic!("the file is locked"),
            () = std::future::ready(()) => {}
        }
        drop(earlier);
        let rows = [row("k", b"later")];
        let later = async {
            let outcome = later.put(&fence, &rows).await;
            assert_eq!(outcome, [Outcome::Applied(())], "round {round}");
        };
        tokio::join!(later, async { other.execute_batch("COMMIT").unwrap() });
        let stored = |key: &str| -> Vec<u8> {
            let sql = "SELECT value FROM store WHERE key = CAST(?1 AS BLOB)";
            other.query_row(sql, [key], |row| row.get(0)).unwrap()
        };
        assert_eq!(stored("k"), b"later", "round {round}");
        // It was not lost, either: dropped calls are done.
        assert_eq!(stored("l"), b"earlier", "round {round}");
        other.execute_batch("DELETE FROM store").unwrap();
    }
}

#[tokio::test]
async fn a_full_file_refuses_the_write_and_keeps_the_connection() {
    let folder = TempDir::new().unwrap();
    let server = server(&folder, 1);
    let (mut connection, fence) = initialised(&server).await;
    let limit = |pages: u32| {
        move |session: &mut Session| {
            session
                .connection()
                .pragma_update(None, "max_page_count", pages)
                .unwrap();
        }
    };
    connection.worker.call(limit(1)).await.unwrap();
    let large = row("k", &[0; 1 << 20]);
    let outcome = connection.put(&fence, std::slice::from_ref(&large)).await;
    assert!(
        matches!(
            &outcome[..],
            [Outcome::Failed(StorageError::Refused {
                refusal: Refusal::Full,
                ..
            })]
        ),
        "{outcome:?}"
    );
    connection.worker.call(limit(1 << 20)).await.unwrap();
    assert_eq!(
        connection.put(&fence, &[large]).await,
        [Outcome::Applied(())]
    );
}

#[tokio::test]
async fn a_file_that_was_never_initialised_says_so() {
    let folder = TempDir::new().unwrap();
    let server = server(&folder, 1);
    let mut connection = server.connect().await.unwrap();
    assert_eq!(connection.state().await.unwrap(), SchemaState::Absent);
    let fence = Fence {
        server_id: 0,
        stamp: 0,
        term: 0,
        epoch: 0,
    };
    let refused = connection.claims(0).await.unwrap_err();
    assert!(
        matches!(
            refused,
            StorageError::Refused {
                refusal: Refusal::Schema,
                ..
            }
        ),
        "{refused}"
    );
    let outcome = connection.put(&fence, &[row("k", b"v")]).await;
    assert_eq!(outcome, [Outcome::Failed(refused)]);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_unreachable_and_named() {
    let folder = TempDir::new().unwrap();
    let options = ConnectOptions {
        connect_timeout: LOCK_WAIT_MAX,
        seed: 1,
    };
    let path = folder.path().join("missing/shard");
    let refused = SqliteServer::new(path, options)
        .connect()
        .await
        .unwrap_err();
    assert!(matches!(refused, StorageError::Unreachable { .. }));
    assert!(refused.to_string().contains("missing/shard"), "{refused}");
}

/// Milliseconds are exact: multiplied and cut off, some of these would be one too early.
#[test]
fn sqlites_seconds_become_the_milliseconds_they_were() {
    let file = Connection::open_in_memory().unwrap();
    for ms in 1_763_840_000_000_i64..1_763_840_001_000 {
        let now = session::NOW.replace("'subsec'", "?1, 'unixepoch', 'subsec'");
        let sql = format!("SELECT {now}");
        let seconds = format!("{}.{:03}", ms / 1000, ms % 1000);
        let shown: i64 = file.query_row(&sql, [seconds], |row| row.get(0)).unwrap();
        assert_eq!(shown, ms);
    }
}
