use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;
use crate::{
    failure::Failure,
    request::{Answer, Ending, Level, Reply},
};

const LIMITS: BatchLimits = BatchLimits {
    rows_max: 4,
    bytes_max: 40,
    fetch_bytes_max: 100,
    looks_max: 16,
};

fn key(name: u8) -> Key {
    Key::new(vec![name]).unwrap()
}

fn put(name: u8, version: u64, value_bytes: usize) -> Operation {
    let value = Bytes::from(vec![0; value_bytes]);
    Operation::Put(PutRow {
        key: key(name),
        value,
        version,
        ttl_ms: None,
    })
}

fn expire(name: u8) -> Operation {
    Operation::Expire(ExpireRow {
        key: key(name),
        ttl_ms: None,
    })
}

/// Requests that wait, with the ends their callers hold.
fn waiting(
    operations: impl IntoIterator<Item = Operation>,
    now: Instant,
) -> (VecDeque<Request>, Vec<oneshot::Receiver<Ending>>) {
    let deadline = now + Duration::from_secs(1);
    operations
        .into_iter()
        .map(|operation| {
            let (sender, receiver) = oneshot::channel();
            let reply = Reply::One(sender);
            (
                Request::new(operation, Level::Strong, now, deadline, reply),
                receiver,
            )
        })
        .unzip()
}

fn kinds(backlog: &VecDeque<Request>) -> Vec<Kind> {
    backlog
        .iter()
        .map(|request| request.operation.kind())
        .collect()
}

#[tokio::test]
async fn one_caller_gets_a_statement_of_one_row() {
    let now = Instant::now();
    let (mut backlog, _callers) = waiting([Operation::Get(key(1))], now);
    let batch = cut(&mut backlog, LIMITS, now, |_| false, |_, _| Place::Here)
        .batch
        .unwrap();
    assert_eq!(
        (batch.kind, batch.rows.len(), batch.row_of),
        (Kind::Get, 1, vec![0])
    );
}

#[tokio::test]
async fn values_of_known_size_are_read_within_the_budget() {
    let now = Instant::now();
    let sizes = |sizes: &[usize]| {
        let names = (1..).take(sizes.len());
        let (mut backlog, _callers) = waiting(names.map(|name| Operation::Get(key(name))), now);
        for (request, bytes) in backlog.iter_mut().zip(sizes) {
            request.value_bytes = *bytes;
        }
        let mut rows = Vec::new();
        while let Some(batch) = cut(&mut backlog, LIMITS, now, |_| false, |_, _| Place::Here).batch
        {
            rows.push(batch.rows.len());
        }
        rows
    };
    assert_eq!(sizes(&[0, 0, 0, 0, 0]), [4, 1]);
    assert_eq!(sizes(&[50, 50, 50, 0]), [2, 2], "each has an even share");
    assert_eq!(sizes(&[25, 25, 25, 25]), [4]);
    assert_eq!(sizes(&[99, 99, 400, 0]), [1, 1, 1, 1]);
}

#[tokio::test]
async fn equal_gets_read_the_row_once() {
    let now = Instant::now();
    let (mut backlog, _callers) = waiting((0..10).map(|_| Operation::Get(key(1))), now);
    let batch = cut(&mut backlog, LIMITS, now, |_| false, |_, _| Place::Here)
        .batch
        .unwrap();
    assert_eq!((batch.rows.len(), batch.requests.len()), (1, 10));
}

#[tokio::test]
async fn of_several_puts_to_one_key_the_last_is_stored() {
    let now = Instant::now();
    let (mut backlog, _callers) = waiting([put(1, 10, 1), put(2, 20, 1), put(1, 30, 1)], now);
    let batch = cut(&mut backlog, LIMITS, now, |_| false, |_, _| Place::Here)
        .batch
        .unwrap();
    let Rows::Put(rows) = &batch.rows else {
        panic!("{:?}", batch.rows)
    };
    for (request, row) in batch.requests.iter().zip(&batch.row_of) {
        assert_eq!(request.operation.key(), Some(&rows[*row].key));
    }
    let stored = rows.iter().find(|row| row.key == key(1)).unwrap();
    assert_eq!(stored.version, 30);
}

#[tokio::test]
async fn a_second_delete_of_a_key_waits_for_the_first() {
    let now = Instant::now();
    let (mut backlog, _callers) =
        waiting([Operation::Delete(key(1)), Operation::Delete(key(1))], now);
    let batch = cut(&mut backlog, LIMITS, now, |_| false, |_, _| Place::Here)
        .batch
        .unwrap();
    assert_eq!((batch.requests.len(), backlog.len()), (1, 1));
}

#[tokio::test]
async fn a_put_does_not_overtake_an_older_write_to_its_key_but_others_go_along() {
    let now = Instant::now();
    let (mut backlog, _callers) = waiting(
        [
            put(1, 1, 1),
            Operation::Delete(key(2)),
            put(2, 2, 1),
            put(3, 3, 1),
        ],
        now,
    );
    let batch = cut(&mut backlog, LIMITS, now, |_| false, |_, _| Place::Here)
        .batch
        .unwrap();
    let versions: Vec<_> = batch
        .requests
        .iter()
        .map(|request| match &request.operation {
            Operation::Put(row) => row.version,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(versions, [1, 3]);
    assert_eq!(kinds(&backlog), [Kind::Delete, Kind::Put]);
}

#[tokio::test]
async fn late_over_and_moved_requests_are_not_sent() {
    let now = Instant::now();
    let operations = (1..=4).map(|name| Operation::Get(key(name)));
    let (mut backlog, mut callers) = waiting(operations, now);
    backlog[0].deadline = now;
    drop(callers.remove(1));
    let moved = key(3).slot();
    let mut cut = cut(
        &mut backlog,
        LIMITS,
        now,
        |_| false,
        |slot, _| {
            if slot == moved {
                Place::Elsewhere
            } else {
                Place::Here
            }
        },
    );
    assert_eq!(
        (cut.late.len(), cut.elsewhere.len(), cut.freed_keys),
        (1, 1, 4)
    );
    assert_eq!(cut.batch.take().unwrap().requests.len(), 1);
    cut.late[0].end_late(&"a".into());
    let ending = callers.remove(0).await.unwrap();
    assert!(matches!(ending, Err(Failure::DeadlineBeforeSending { .. })));
}

#[tokio::test]
async fn a_row_larger_than_the_bound_goes_alone() {
    let now = Instant::now();
    let (mut backlog, _callers) = waiting([put(1, 1, 1_000), put(2, 2, 1)], now);
    let batch = cut(&mut backlog, LIMITS, now, |_| false, |_, _| Place::Here)
        .batch
        .unwrap();
    assert_eq!((batch.requests.len(), backlog.len()), (1, 1));
}

#[tokio::test]
async fn a_dropped_batch_tells_each_caller_the_truth() {
    let now = Instant::now();
    let (mut backlog, mut callers) = waiting([put(1, 1, 1), put(2, 2, 1)], now);
    let mut batch = cut(&mut backlog, LIMITS, now, |_| false, |_, _| Place::Here)
        .batch
        .unwrap();
    batch.requests[0].stage = crate::request::Stage::Sent;
    drop(batch);
    let unsent = callers.pop().unwrap().await.unwrap();
    let sent = callers.pop().unwrap().await.unwrap();
    assert!(matches!(unsent, Err(Failure::ShuttingDown)), "{unsent:?}");
    assert!(
        matches!(sent, Err(Failure::OutcomeUnknown { .. })),
        "{sent:?}"
    );
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let one = (0_u8..5, 0_u8..6, 0_usize..30).prop_map(|(kind, name, bytes)| match kind {
        0 => Operation::Get(key(name)),
        1 => Operation::Ttl(key(name)),
        2 => Operation::Delete(key(name)),
        3 => expire(name),
        _ => put(name, 0, bytes),
    });
    prop::collection::vec(one, 0..60)
}

proptest! {
    /// Cutting until nothing is left: bounds hold, writes to one key keep their order, the last of
    /// joined PUTs is the one stored, and every caller is answered exactly once.
    #[test]
    fn cutting_keeps_order_and_bounds_and_answers_everyone(mut operations in operations()) {
        for (version, operation) in (0..).zip(&mut operations) {
            if let Operation::Put(row) = operation {
                row.version = version;
            }
        }
        let total = operations.len();
        let now = Instant::now();
        let order: Vec<_> = operations
            .iter()
            .map(|operation| (operation.key().cloned(), operation.kind()))
            .collect();
        let (mut backlog, callers) = waiting(operations, now);
        // The received time tells requests apart and does not take part in cutting.
        for (number, request) in (0_u64..).zip(backlog.iter_mut()) {
            request.received = now + Duration::from_nanos(number);
        }
        let mut sent = Vec::new();
        while !backlog.is_empty() {
            let before = backlog.len();
            let cut = cut(&mut backlog, LIMITS, now, |_| false, |_, _| Place::Here);
            let batch = cut.batch.expect("something waits and everything is served");
            prop_assert!(batch.rows.len() <= LIMITS.rows_max && !batch.rows.is_empty());
            prop_assert_eq!(before - backlog.len(), batch.requests.len());
            prop_assert_eq!(cut.freed_keys, batch.requests.len());
            if let Rows::Put(rows) = &batch.rows {
                let bytes: usize = rows.iter().map(|row| row.key.bytes().len() + row.value.len()).sum();
                prop_assert!(bytes <= LIMITS.bytes_max || rows.len() == 1);
                prop_assert!(rows.is_sorted_by(|a, b| a.key < b.key));
                for (index, row) in rows.iter().enumerate() {
                    let last = batch.requests.iter().zip(&batch.row_of).rfind(|(_, of)| **of == index);
                    let Some((Request { operation: Operation::Put(put), .. }, _)) = last else {
                        return Err(TestCaseError::fail("a row without its put"));
                    };
                    prop_assert_eq!(put.version, row.version);
                }
            }
            for mut request in batch.requests {
                sent.push((request.received - now).as_nanos() as usize);
                request.end(Ok(Answer::Existed(true, bytes::Bytes::new())));
            }
        }
        prop_assert_eq!(sent.len(), total);
        for mut caller in callers {
            prop_assert!(caller.try_recv().is_ok());
        }
        for (at, number) in sent.iter().enumerate() {
            for earlier in &sent[..at] {
                let same_key = order[*earlier].0 == order[*number].0;
                let writes = order[*earlier].1.is_write() && order[*number].1.is_write();
                prop_assert!(!(same_key && writes && earlier > number), "{earlier} before {number}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_held_back_keeps_its_place_and_others_pass_it() {
    let now = Instant::now();
    let held = key(1).slot();
    let operations = [put(1, 11, 1), put(2, 12, 1), put(1, 13, 1), put(3, 14, 1)];
    let (mut backlog, _callers) = waiting(operations, now);
    let limits = BatchLimits {
        looks_max: 2,
        ..LIMITS
    };
    let hold = |slot, _| {
        if slot == held {
            Place::HereLater
        } else {
            Place::Here
        }
    };
    let first = cut(&mut backlog, limits, now, |_| false, hold);
    assert_eq!(
        (versions(&first.batch.unwrap()), first.freed_keys),
        (vec![12, 14], 2)
    );
    let second = cut(&mut backlog, limits, now, |_| false, hold);
    assert!(second.batch.is_none() && second.freed_keys == 0);
    let last = cut(&mut backlog, limits, now, |_| false, |_, _| Place::Here)
        .batch
        .unwrap();
    assert_eq!((versions(&last), last.requests.len()), (vec![13], 2));
}

#[tokio::test]
async fn writes_that_log_their_keys_and_others_are_two_statements() {
    let now = Instant::now();
    let moving = key(1).slot();
    let operations = [put(2, 11, 1), put(1, 12, 1), put(3, 13, 1), put(1, 14, 1)];
    let (mut backlog, _callers) = waiting(operations, now);
    let place = |slot, _| {
        if slot == moving {
            Place::HereLogged
        } else {
            Place::Here
        }
    };
    let mut next = || {
        cut(&mut backlog, LIMITS, now, |_| false, place)
            .batch
            .unwrap()
    };
    let (first, second) = (next(), next());
    assert_eq!((first.logs, versions(&first)), (false, vec![11, 13]));
    assert_eq!((second.logs, versions(&second)), (true, vec![14]));
    assert_eq!(second.requests.len(), 2);
}

#[tokio::test]
async fn a_key_whose_write_is_out_waits_with_everything_for_it() {
    let now = Instant::now();
    let operations = [
        put(1, 11, 1),
        put(2, 12, 1),
        Operation::Delete(key(1)),
        put(1, 13, 1),
    ];
    let (mut backlog, _callers) = waiting(operations, now);
    let is_out = |out: &Key| *out == key(1);
    let first = cut(&mut backlog, LIMITS, now, is_out, |_, _| Place::Here);
    assert_eq!(versions(&first.batch.unwrap()), [12]);
    let none = cut(&mut backlog, LIMITS, now, is_out, |_, _| Place::Here);
    assert!(none.batch.is_none() && none.freed_keys == 0);
    assert_eq!(kinds(&backlog), [Kind::Put, Kind::Delete, Kind::Put]);
}

fn versions(batch: &Batch) -> Vec<u64> {
    let Rows::Put(rows) = &batch.rows else {
        panic!("{:?}", batch.rows)
    };
    let mut versions: Vec<u64> = rows.iter().map(|row| row.version).collect();
    versions.sort_unstable();
    versions
}
