use freehold_proto::v1;
use tonic::Code;
use tonic_types::StatusExt;

use crate::fixture::{Fixture, get, put};

fn field_of(status: &tonic::Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status
        .get_error_details()
        .bad_request()
        .unwrap()
        .field_violations[0]
        .field
        .clone()
}

#[tokio::test]
async fn keys_and_values_are_taken_up_to_their_limits_and_named_above() {
    let mut fixture = Fixture::start().await;
    for bytes in [1, 1_023, 1_024] {
        fixture
            .client
            .put(put(&"k".repeat(bytes), "v"))
            .await
            .unwrap();
    }
    for bytes in [0, 1_025] {
        let status = fixture
            .client
            .get(get(&"k".repeat(bytes)))
            .await
            .unwrap_err();
        assert_eq!(field_of(&status), "key");
    }
    for bytes in [(1 << 20) - 1, 1 << 20] {
        fixture
            .client
            .put(put("k", &"v".repeat(bytes)))
            .await
            .unwrap();
    }
    let status = fixture
        .client
        .put(put("k", &"v".repeat((1 << 20) + 1)))
        .await
        .unwrap_err();
    assert_eq!(field_of(&status), "value");
}

#[tokio::test]
async fn batches_and_pages_are_taken_up_to_their_limits_and_named_above() {
    let mut fixture = Fixture::start().await;
    for (count, fits) in [(0, false), (1, true), (1_000, true), (1_001, false)] {
        let request = v1::BatchGetRequest {
            keys: vec!["k".into(); count],
            read: None,
        };
        match fixture.client.batch_get(request).await {
            Ok(response) => assert!(fits && response.into_inner().results.len() == count),
            Err(status) => assert!(!fits && field_of(&status) == "keys"),
        }
    }
    let request = v1::ScanRequest {
        page_size: 1_001,
        ..Default::default()
    };
    assert_eq!(
        field_of(&fixture.client.scan(request).await.unwrap_err()),
        "page_size"
    );
    for (first, last, field) in [
        (8, 7, "slots.last"),
        (0, 65_536, "slots.last"),
        (65_536, 65_536, "slots.first"),
    ] {
        let request = v1::ScanRequest {
            slots: Some(v1::SlotRange { first, last }),
            ..Default::default()
        };
        let refused = fixture.client.scan(request).await.unwrap_err();
        assert_eq!(field_of(&refused), field);
        assert!(refused.message().contains("65535"), "{refused}");
    }
    let request = v1::ScanRequest {
        page_token: "nonsense".into(),
        ..Default::default()
    };
    assert_eq!(
        field_of(&fixture.client.scan(request).await.unwrap_err()),
        "page_token"
    );
}

#[tokio::test]
async fn a_full_queue_answers_at_once_with_a_retry_delay() {
    let settings = freehold_router::RouterSettings {
        queue_keys_max: 4,
        write_connections: 1,
        ..freehold_router::RouterSettings::default()
    };
    let mut fixture = Fixture::with_settings(settings).await;
    let write = |number: usize| v1::Write {
        write: Some(v1::write::Write::Put(put(&format!("k{number}"), "v"))),
    };
    let request = v1::BatchWriteRequest {
        writes: (0..500).map(write).collect(),
    };
    let results = fixture
        .client
        .batch_write(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let mut refused = 0;
    for result in results {
        if let Some(v1::batch_write_result::Result::Error(error)) = result.result {
            assert_eq!(error.code, Code::ResourceExhausted as i32, "{error:?}");
            assert_eq!(error.details.len(), 2, "ErrorInfo and RetryInfo");
            refused += 1;
        }
    }
    assert!(refused > 0, "500 writes do not fit a queue of 4");
}

#[tokio::test]
async fn the_finer_levels_are_served_by_the_master_where_there_are_no_replicas() {
    let mut fixture = Fixture::start().await;
    let put = v1::PutRequest {
        key: "k".into(),
        value: "v".into(),
        ttl: None,
    };
    let token = fixture.client.put(put).await.unwrap().into_inner();
    let read = |consistency: v1::Consistency| v1::ReadOptions {
        consistency: consistency.into(),
        ..Default::default()
    };
    let bounded = v1::ReadOptions {
        max_staleness: Some(prost_types::Duration::default()),
        ..read(v1::Consistency::BoundedStaleness)
    };
    let session = v1::ReadOptions {
        session_token: token.session_token,
        ..read(v1::Consistency::Session)
    };
    for read in [bounded, session] {
        let request = v1::GetRequest {
            key: "k".into(),
            read: Some(read),
        };
        let reply = fixture.client.get(request).await.unwrap().into_inner();
        assert_eq!(reply.entry.unwrap().value, "v");
        let served = reply.served.unwrap();
        assert_eq!(served.source(), v1::Source::Master);
        assert_eq!(served.staleness, Some(prost_types::Duration::default()));
    }
}
