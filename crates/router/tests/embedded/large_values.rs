use freehold_core::{Key, limits::VALUE_BYTES_MAX};
use freehold_proto::v1::{self, batch_get_result::Result as Got};
use freehold_storage::{Outcome, PutRow};
use tonic::Code;

use crate::fixture::{Fixture, get, key_of_shard, put};

const MIB: usize = 1 << 20;

/// Stores a value as SQL can, past the router's limits.
async fn store(fixture: &Fixture, key: &str, bytes: usize) {
    let mut connection = fixture.server("a").connect().await.unwrap();
    let fence = connection.claims(u64::MAX).await.unwrap().fence;
    let row = PutRow {
        key: Key::new(key.to_owned()).unwrap(),
        value: vec![b'x'; bytes].into(),
        version: 1,
        ttl_ms: None,
    };
    let stored = connection.put(&fence, &[row]).await;
    assert_eq!(stored, [Outcome::Applied(())]);
}

#[tokio::test]
async fn a_value_too_large_to_be_read_fails_alone_and_says_the_way_out() {
    let mut fixture = Fixture::start().await;
    let keys: Vec<String> = (0..5).map(|number| key_of_shard(0, number)).collect();
    let sizes = [VALUE_BYTES_MAX + 1, 10, 700 << 10, VALUE_BYTES_MAX, MIB];
    for (key, bytes) in keys.iter().zip(sizes) {
        store(&fixture, key, bytes).await;
    }
    let status = fixture.client.get(get(&keys[0])).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    for words in ["15728641 bytes", "at most 15728640", "put a smaller value"] {
        assert!(status.message().contains(words), "{status:?}");
    }
    let client = fixture.client.clone();
    let mut client = client.max_decoding_message_size(2 * VALUE_BYTES_MAX);
    // What does not fit one response is to be asked for again.
    let mut left: Vec<usize> = (0..keys.len()).collect();
    let mut failed = Vec::new();
    while !left.is_empty() {
        let request = v1::BatchGetRequest {
            keys: left
                .iter()
                .map(|index| keys[*index].clone().into())
                .collect(),
            read: None,
        };
        let results = client
            .batch_get(request)
            .await
            .unwrap()
            .into_inner()
            .results;
        let asked = std::mem::take(&mut left);
        for (index, result) in asked.iter().zip(results) {
            match result.result.unwrap() {
                Got::Get(got) => assert_eq!(got.entry.unwrap().value.len(), sizes[*index]),
                Got::Error(error) if error.code == Code::Unavailable as i32 => left.push(*index),
                Got::Error(error) => failed.push((*index, error.code)),
            }
        }
        assert!(left.len() < asked.len(), "each response brings something");
    }
    assert_eq!(failed, [(0, Code::FailedPrecondition as i32)]);
    // The way out.
    fixture.client.put(put(&keys[0], "small")).await.unwrap();
    let read = fixture
        .client
        .get(get(&keys[0]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(read.entry.unwrap().value, "small");
}

#[tokio::test]
async fn large_values_are_read_whole_while_the_fence_changes() {
    let mut fixture = Fixture::with_replicas().await;
    let keys: Vec<String> = (0..24).map(|number| key_of_shard(0, number)).collect();
    for key in &keys {
        store(&fixture, key, MIB).await;
    }
    let mut schema = fixture.server("a").connect_schema().await.unwrap();
    let changing = tokio::spawn(async move {
        loop {
            let version = freehold_core::SCHEMA_VERSION;
            schema.migrate(&[], version).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    let read = v1::ReadOptions {
        consistency: v1::Consistency::Eventual.into(),
        ..Default::default()
    };
    for _ in 0..20 {
        let request = v1::BatchGetRequest {
            keys: keys.iter().map(|key| key.clone().into()).collect(),
            read: Some(read.clone()),
        };
        let results = fixture.client.batch_get(request).await.unwrap();
        for result in results.into_inner().results {
            match result.result.unwrap() {
                Got::Get(got) => assert_eq!(got.entry.expect("never a miss").value.len(), MIB),
                // A fence that never stands still may keep a reader on a busy machine past its time.
                Got::Error(error) => assert!(
                    [Code::Unavailable as i32, Code::DeadlineExceeded as i32].contains(&error.code),
                    "{error:?}"
                ),
            }
        }
    }
    changing.abort();
    // No lane died of it.
    for key in &keys {
        fixture.client.get(get(key)).await.unwrap();
    }
}
