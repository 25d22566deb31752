use freehold_core::Key;
use freehold_proto::v1;

use crate::fixture::{Fixture, delete, put};

/// All rows of a scan's stream and the token of its last message.
async fn collect(fixture: &mut Fixture, request: v1::ScanRequest) -> (Vec<String>, bytes::Bytes) {
    let mut stream = fixture.client.scan(request).await.unwrap().into_inner();
    let (mut keys, mut token) = (Vec::new(), None);
    while let Some(message) = stream.message().await.unwrap() {
        token = message.entry.is_none().then_some(message.page_token);
        if message.entry.is_some() {
            keys.push(String::from_utf8(message.key.to_vec()).unwrap());
        }
    }
    (keys, token.expect("the last message has no row"))
}

fn scan(prefix: &str, page_size: u32, page_token: bytes::Bytes) -> v1::ScanRequest {
    let prefix = prefix.to_owned().into();
    v1::ScanRequest {
        prefix,
        page_token,
        page_size,
        read: None,
        slots: None,
    }
}

fn in_table_order(keys: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut keys: Vec<_> = keys.into_iter().map(|key| Key::new(key).unwrap()).collect();
    keys.sort();
    keys.iter()
        .map(|key| String::from_utf8(key.bytes().to_vec()).unwrap())
        .collect()
}

#[tokio::test]
async fn a_scan_sees_every_live_key_once_in_slot_order_whole_or_in_pages() {
    let mut fixture = Fixture::start().await;
    for number in 0..300 {
        fixture
            .client
            .put(put(&format!("k{number}"), "v"))
            .await
            .unwrap();
        fixture
            .client
            .put(put(&format!("other{number}"), "v"))
            .await
            .unwrap();
    }
    fixture.client.delete(delete("k5")).await.unwrap();
    let expected = in_table_order(
        (0..300)
            .filter(|number| *number != 5)
            .map(|number| format!("k{number}")),
    );
    let (keys, token) = collect(&mut fixture, scan("k", 0, bytes::Bytes::new())).await;
    assert_eq!((&keys, token.len()), (&expected, 0));

    let (mut paged, mut token) = (Vec::new(), bytes::Bytes::new());
    loop {
        let (keys, next) = collect(&mut fixture, scan("k", 7, token)).await;
        assert!(keys.len() <= 7);
        paged.extend(keys);
        token = next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, expected);
}

#[tokio::test]
async fn scans_over_ranges_see_every_key_once_each_in_its_own_range() {
    let mut fixture = Fixture::start().await;
    let keys: Vec<String> = (0..400).map(|number| format!("k{number}")).collect();
    for key in &keys {
        fixture.client.put(put(key, "v")).await.unwrap();
    }
    // Ends inside of a shard, at its end, and ranges of one slot.
    let first_of_key = Key::new(keys[0].clone()).unwrap().slot().0;
    let mut ends: Vec<u16> = vec![0, 9_999, 16_383, 32_767, first_of_key - 1, first_of_key];
    ends.extend([40_000, u16::MAX]);
    ends.sort_unstable();
    let (mut first, mut seen) = (0, Vec::new());
    for last in ends {
        let range = Some(v1::SlotRange {
            first,
            last: last.into(),
        });
        let (mut found, mut token) = (Vec::new(), bytes::Bytes::new());
        loop {
            let request = v1::ScanRequest {
                slots: range,
                ..scan("k", 7, token)
            };
            let (rows, next) = collect(&mut fixture, request).await;
            found.extend(rows);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        for key in &found {
            let slot = u32::from(Key::new(key.clone()).unwrap().slot().0);
            assert!((first..=last.into()).contains(&slot), "{key} of {slot}");
        }
        seen.extend(found);
        first = u32::from(last) + 1;
    }
    assert_eq!(seen, in_table_order(keys), "and in the ranges' order");
}

#[tokio::test]
async fn a_tag_is_walked_by_a_range_with_its_slot_and_by_no_other() {
    let mut fixture = Fixture::start().await;
    fixture.client.put(put("{user:1}:cart", "v")).await.unwrap();
    for (first, last, rows) in [(0, 15_190, 0), (15_191, 15_191, 1), (15_192, 65_535, 0)] {
        let request = v1::ScanRequest {
            slots: Some(v1::SlotRange { first, last }),
            ..scan("{user:1}", 0, bytes::Bytes::new())
        };
        let (keys, token) = collect(&mut fixture, request).await;
        assert_eq!((keys.len(), token.len()), (rows, 0), "{first} to {last}");
    }
}

#[tokio::test]
async fn a_prefix_with_a_whole_tag_reads_one_slot() {
    let mut fixture = Fixture::start().await;
    for number in 0..20 {
        fixture
            .client
            .put(put(&format!("{{user:1}}:{number}"), "v"))
            .await
            .unwrap();
    }
    let (keys, _) = collect(&mut fixture, scan("{user:1}:1", 0, bytes::Bytes::new())).await;
    assert_eq!(keys.len(), 11, "1 and 10 to 19");
}

#[tokio::test]
async fn values_larger_than_a_page_are_read_whole() {
    let mut fixture = Fixture::start().await;
    for number in 0..10 {
        fixture
            .client
            .put(put(&format!("{{t}}{number}"), &"x".repeat(1 << 20)))
            .await
            .unwrap();
    }
    let request = scan("{t}", 0, bytes::Bytes::new());
    let mut stream = fixture.client.scan(request).await.unwrap().into_inner();
    let (mut rows, mut places) = (0, 0);
    while let Some(message) = stream.message().await.unwrap() {
        places += usize::from(!message.page_token.is_empty());
        if let Some(entry) = message.entry {
            assert_eq!(entry.value.len(), 1 << 20);
            rows += 1;
        }
    }
    assert_eq!((rows, places), (10, 3), "a place to go on from every 3 MiB");
}

#[tokio::test]
async fn a_walk_that_finds_nothing_shows_how_far_it_is() {
    let mut fixture = Fixture::start().await;
    let request = scan("nosuch", 0, bytes::Bytes::new());
    let mut stream = fixture.client.scan(request).await.unwrap().into_inner();
    let mut places = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        assert_eq!(message.entry, None);
        places.push(message.page_token);
    }
    assert_eq!(places.pop().unwrap(), "", "nothing is left");
    assert!(places.len() > 100 && places.iter().all(|place| !place.is_empty()));
    let half = places[places.len() / 2].clone();
    let (keys, token) = collect(&mut fixture, scan("nosuch", 0, half)).await;
    assert_eq!((keys.len(), token.len()), (0, 0));
}
