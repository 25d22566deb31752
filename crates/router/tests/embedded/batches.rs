use freehold_proto::v1::{self, batch_get_result, batch_write_result, write};

use crate::fixture::{Fixture, delete, put};

fn write_put(key: &str, value: &str) -> v1::Write {
    v1::Write {
        write: Some(write::Write::Put(put(key, value))),
    }
}

#[tokio::test]
async fn a_batch_over_both_shards_answers_in_order_with_a_status_each() {
    let mut fixture = Fixture::start().await;
    let mut writes: Vec<_> = (0..200)
        .map(|number| write_put(&format!("k{number}"), &number.to_string()))
        .collect();
    writes.push(v1::Write {
        write: Some(write::Write::Delete(delete("k7"))),
    });
    writes.push(write_put("", "an empty key"));
    let request = v1::BatchWriteRequest { writes };
    let results = fixture
        .client
        .batch_write(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    assert_eq!(results.len(), 202);
    for result in &results[..200] {
        assert!(matches!(
            result.result,
            Some(batch_write_result::Result::Put(_))
        ));
    }
    let Some(batch_write_result::Result::Delete(deleted)) = &results[200].result else {
        panic!()
    };
    assert!(
        deleted.existed,
        "a later write of a batch sees the earlier one to its key"
    );
    let Some(batch_write_result::Result::Error(error)) = &results[201].result else {
        panic!()
    };
    assert_eq!(error.code, tonic::Code::InvalidArgument as i32);

    let keys = (0..200)
        .rev()
        .map(|number| format!("k{number}").into())
        .collect();
    let request = v1::BatchGetRequest { keys, read: None };
    let results = fixture
        .client
        .batch_get(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    for (number, result) in (0..200).rev().zip(results) {
        let Some(batch_get_result::Result::Get(got)) = result.result else {
            panic!()
        };
        let value = got.entry.map(|entry| entry.value);
        let expected = (number != 7).then(|| number.to_string().into());
        assert_eq!(value, expected, "k{number}");
    }
}

#[tokio::test]
async fn what_does_not_fit_a_response_is_to_be_asked_for_again() {
    let mut fixture = Fixture::start().await;
    let value = "x".repeat(1 << 20);
    for number in 0..5 {
        fixture
            .client
            .put(put(&format!("k{number}"), &value))
            .await
            .unwrap();
    }
    let mut missing: Vec<_> = (0..5).map(|number| format!("k{number}")).collect();
    let mut calls = 0;
    while !missing.is_empty() {
        calls += 1;
        let keys = missing.iter().map(|key| key.clone().into()).collect();
        let request = v1::BatchGetRequest { keys, read: None };
        let results = fixture
            .client
            .batch_get(request)
            .await
            .unwrap()
            .into_inner()
            .results;
        let mut again = Vec::new();
        for (key, result) in missing.into_iter().zip(results) {
            match result.result.unwrap() {
                batch_get_result::Result::Get(got) => {
                    assert_eq!(got.entry.unwrap().value.len(), 1 << 20);
                }
                batch_get_result::Result::Error(error) => {
                    assert_eq!(error.code, tonic::Code::Unavailable as i32);
                    again.push(key);
                }
            }
        }
        missing = again;
    }
    assert_eq!(calls, 3, "two such values fit a response");
}
