//! Scans: live rows in the order of slots and bytes, each once, page after page.

use bytes::Bytes;
use freehold_core::{
    Key, SLOTS, Slot,
    limits::{KEY_BYTES_MAX, SCAN_SLOTS_MAX},
};
use freehold_storage::{Columns, ScanRange, Value};

use crate::{
    lane::{Lane, WHOLE, key, keys_of_one_slot, row, row_with_ttl},
    store::{Result, Store},
};

on_every_engine!(
    keys_come_in_the_order_of_slots_and_bytes,
    pages_of_any_size_list_each_live_row_once,
    a_prefix_finds_what_begins_with_it_and_nothing_else,
    a_cursor_may_be_the_longest_key,
    a_page_says_whether_anything_is_left,
    a_scan_brings_what_was_asked_for_of_each_row,
    a_scan_stays_within_its_slots,
);

/// Scans the slots in pages, each behind the last row of the page before.
async fn walk(lane: &mut Lane, slots: &[Slot], prefix: &[u8], rows_max: usize) -> Result<Vec<Key>> {
    let mut listed = Vec::new();
    for chunk in slots.chunks(SCAN_SLOTS_MAX) {
        let mut cursor: Option<Key> = None;
        loop {
            let from = cursor.as_ref().map_or(chunk[0], Key::slot);
            let range = ScanRange {
                slots: chunk.iter().copied().filter(|slot| *slot >= from).collect(),
                prefix: Bytes::copy_from_slice(prefix),
                after: cursor.take().map(|key| key.bytes().clone()),
                rows_max,
                columns: Columns::Expiry,
            };
            let page = lane.data.scan(&range).await?;
            assert!(page.fence.agrees_with(&lane.fence));
            assert!(page.rows.len() <= rows_max, "{} rows", page.rows.len());
            let first = page.rows.first().map(|(key, _)| key);
            assert!(
                first.is_none() || first > listed.last(),
                "a row twice, or out of order"
            );
            listed.extend(page.rows.into_iter().map(|(key, _)| key));
            if page.complete {
                break;
            }
            assert!(
                !listed.is_empty(),
                "an empty page that is not complete leads nowhere"
            );
            cursor = listed.last().cloned();
        }
    }
    Ok(listed)
}

fn slots_of(keys: &[Key]) -> Vec<Slot> {
    let mut slots: Vec<Slot> = keys.iter().map(Key::slot).collect();
    slots.sort();
    slots.dedup();
    slots
}

pub(crate) async fn keys_come_in_the_order_of_slots_and_bytes(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let ends: [&[u8]; 12] = [
        b"", b"\0", b"\0\0", b"\0\xff", b" ", b"A", b"a", b"a\0", b"a ", b"\x7f", b"\x80", b"\xff",
    ];
    let mut keys: Vec<Key> = ["a", "b"]
        .iter()
        .flat_map(|tag| ends.map(|end| key([b"{", tag.as_bytes(), b"}", end].concat())))
        .collect();
    lane.put(keys.iter().rev().map(|key| row(key, "value")))
        .await?;
    keys.sort();
    let slots = slots_of(&keys);
    assert_eq!(slots.len(), 2);
    assert_eq!(walk(&mut lane, &slots, b"", 1_000).await?, keys);
    Ok(())
}

/// 400 live keys all over the slots and 100 in one, with deleted and expired ones in between.
async fn crowd(store: &Store, lane: &mut Lane) -> Result<Vec<Key>> {
    let scattered = (0..600).map(|number| key(format!("key:{number}")));
    let mut keys: Vec<Key> = scattered.chain(keys_of_one_slot("crowd", 150)).collect();
    keys.sort();
    let (third, live): (Vec<_>, Vec<_>) = keys
        .into_iter()
        .enumerate()
        .partition(|(at, _)| at % 3 == 0);
    let strip = |keys: Vec<(usize, Key)>| keys.into_iter().map(|(_, key)| key).collect::<Vec<_>>();
    let (dead, live) = (strip(third), strip(live));
    let (expired, deleted) = dead.split_at(dead.len() / 2);
    lane.put(
        expired
            .iter()
            .map(|key| row_with_ttl(key, "expired", 3_600_000)),
    )
    .await?;
    store
        .audit()
        .await?
        .run("UPDATE store SET expires_at = 1000")
        .await?;
    lane.put(deleted.iter().map(|key| row(key, "deleted")))
        .await?;
    for batch in deleted.chunks(100) {
        lane.delete(batch).await?;
    }
    lane.put(live.iter().map(|key| row(key, "live"))).await?;
    Ok(live)
}

pub(crate) async fn pages_of_any_size_list_each_live_row_once(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let live = crowd(store, &mut lane).await?;
    let slots = slots_of(&live);
    for rows_max in [1, 2, 3, 99, 100, 101, 1_000] {
        let listed = walk(&mut lane, &slots, b"", rows_max).await?;
        assert!(
            listed == live,
            "{} of {} rows in pages of {rows_max}",
            listed.len(),
            live.len()
        );
    }
    // All slots of the shard, empty ones included, as a scan without a tag walks them.
    let all: Vec<Slot> = Slot::all().collect();
    assert_eq!(all.len(), SLOTS);
    assert!(walk(&mut lane, &all, b"", 100).await? == live);
    Ok(())
}

pub(crate) async fn a_prefix_finds_what_begins_with_it_and_nothing_else(
    store: &Store,
) -> Result<()> {
    let mut lane = store.ready().await?;
    let ends: [&[u8]; 14] = [
        b"",
        b"a",
        b"ab",
        b"aB",
        b"ab\0",
        b"ab\xff",
        b"ab\xff\xff",
        b"abc",
        b"ac",
        b"b",
        b"\xfe\xff",
        b"\xff",
        b"\xff\xff",
        b"\xff\xff\xff",
    ];
    let keys: Vec<Key> = ends
        .iter()
        .map(|end| key([b"{t}", *end].concat()))
        .collect();
    let whole_ff = (1..4).map(|count| key(vec![0xff; count]));
    let mut keys: Vec<Key> = keys
        .into_iter()
        .chain(whole_ff)
        .chain([key(vec![0xff; KEY_BYTES_MAX])])
        .collect();
    lane.put(keys.iter().map(|key| row(key, "value"))).await?;
    keys.sort();
    let slots = slots_of(&keys);
    let tagged = ends.iter().map(|end| [b"{t}", *end].concat());
    let bare = [
        &b""[..],
        b"{",
        b"{t",
        b"{u",
        b"\xff",
        b"\xff\xff",
        b"\xff\xff\xff\xff",
        b"x",
    ]
    .map(<[u8]>::to_vec);
    let longest = [vec![0xff; KEY_BYTES_MAX - 1], vec![0xff; KEY_BYTES_MAX]];
    for prefix in tagged.chain(bare).chain(longest) {
        let expected: Vec<Key> = keys
            .iter()
            .filter(|key| key.bytes().starts_with(&prefix))
            .cloned()
            .collect();
        for rows_max in [1, 1_000] {
            let listed = walk(&mut lane, &slots, &prefix, rows_max).await?;
            assert!(
                listed == expected,
                "prefix {}: {} rows",
                prefix.escape_ascii(),
                listed.len()
            );
        }
    }
    Ok(())
}

pub(crate) async fn a_cursor_may_be_the_longest_key(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let long = |last: u8| key([b"{t}", &[last; KEY_BYTES_MAX - 3][..]].concat());
    let keys = [key("{t}a"), long(b'b'), key("{t}c"), long(0xff)];
    lane.put(keys.iter().map(|key| row(key, "value"))).await?;
    let slots = [keys[0].slot()];
    for prefix in [&b""[..], b"{t}", b"{t}b", b"{t}\xff\xff"] {
        let expected: Vec<Key> = keys
            .iter()
            .filter(|key| key.bytes().starts_with(prefix))
            .cloned()
            .collect();
        assert_eq!(walk(&mut lane, &slots, prefix, 1).await?, expected);
    }
    Ok(())
}

pub(crate) async fn a_page_says_whether_anything_is_left(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut keys = [keys_of_one_slot("a", 3), keys_of_one_slot("b", 3)].concat();
    keys.sort();
    lane.put(keys.iter().map(|key| row(key, "value"))).await?;
    for (rows_max, complete) in [(5, false), (6, true), (7, true)] {
        let range = ScanRange {
            slots: slots_of(&keys),
            prefix: Bytes::new(),
            after: None,
            rows_max,
            columns: Columns::Expiry,
        };
        let page = lane.data.scan(&range).await?;
        assert_eq!(
            (page.rows.len(), page.complete),
            (rows_max.min(6), complete)
        );
        let behind_the_last = ScanRange {
            slots: vec![keys[5].slot()],
            after: Some(keys[5].bytes().clone()),
            ..range
        };
        let page = lane.data.scan(&behind_the_last).await?;
        assert!(page.rows.is_empty() && page.complete);
    }
    Ok(())
}

pub(crate) async fn a_scan_brings_what_was_asked_for_of_each_row(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let keys = keys_of_one_slot("t", 3);
    lane.put([
        row(&keys[0], vec![b'x'; 100]),
        row_with_ttl(&keys[1], "", 60_000),
        row(&keys[2], vec![b'x'; 101]),
    ])
    .await?;
    let range = |columns| ScanRange {
        slots: vec![keys[0].slot()],
        prefix: "{t}".into(),
        after: None,
        rows_max: 10,
        columns,
    };
    let page = lane
        .data
        .scan(&range(Columns::Value { bytes_max: 100 }))
        .await?;
    let values: Vec<Value> = page.rows.iter().map(|(_, row)| row.value.clone()).collect();
    assert_eq!(values[0], Value::Bytes(vec![b'x'; 100].into()));
    assert_eq!(values[1], Value::Bytes(Bytes::new()));
    assert_eq!(values[2], Value::TooLarge { bytes: 101 });
    let ttl_ms = page.rows[1].1.ttl_ms.ok_or("no ttl")?;
    assert!((1..=60_000).contains(&ttl_ms), "{ttl_ms}");
    assert_eq!((page.rows[0].1.ttl_ms, page.rows[0].1.version), (None, 1));
    let page = lane.data.scan(&range(Columns::Expiry)).await?;
    assert!(page.rows.iter().all(|(_, row)| row.value == Value::NotRead));
    assert_eq!(lane.data.scan(&range(WHOLE)).await?.rows.len(), 3);
    Ok(())
}

pub(crate) async fn a_scan_stays_within_its_slots(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut keys: Vec<Key> = (0..50).map(|number| key(format!("key:{number}"))).collect();
    lane.put(keys.iter().map(|key| row(key, "value"))).await?;
    keys.sort();
    // The cursor counts in the first slot alone: a later slot begins at its beginning.
    let greatest: Vec<u8> = vec![0xff; KEY_BYTES_MAX];
    let slots = slots_of(&keys);
    let every_other: Vec<Slot> = slots.iter().copied().step_by(2).collect();
    let range = ScanRange {
        slots: every_other.clone(),
        prefix: Bytes::new(),
        after: Some(greatest.into()),
        rows_max: 1_000,
        columns: Columns::Expiry,
    };
    let listed: Vec<Key> = lane
        .data
        .scan(&range)
        .await?
        .rows
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    let expected: Vec<Key> = keys
        .into_iter()
        .filter(|key| every_other[1..].contains(&key.slot()))
        .collect();
    assert_eq!(listed, expected);
    Ok(())
}
