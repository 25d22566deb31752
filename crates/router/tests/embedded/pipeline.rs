use std::collections::HashMap;

use freehold_proto::v1::{
    self, pipeline_request::Request as Body, pipeline_response::Response as Answered,
};
use freehold_router::RouterSettings;
use tokio_stream::wrappers::ReceiverStream;

use crate::fixture::{Fixture, delete, get, put};

async fn run(fixture: &mut Fixture, bodies: Vec<Body>) -> HashMap<u64, Answered> {
    run_within(fixture, bodies, None).await
}

async fn run_within(
    fixture: &mut Fixture,
    bodies: Vec<Body>,
    timeout: Option<prost_types::Duration>,
) -> HashMap<u64, Answered> {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    let count = bodies.len();
    tokio::spawn(async move {
        for (id, body) in (0..).zip(bodies) {
            let request = v1::PipelineRequest {
                id,
                request: Some(body),
                timeout,
            };
            sender.send(request).await.unwrap();
        }
    });
    let requests = ReceiverStream::new(receiver);
    let mut responses = fixture
        .client
        .pipeline(requests)
        .await
        .unwrap()
        .into_inner();
    let mut answers = HashMap::new();
    while let Some(response) = responses.message().await.unwrap() {
        assert!(
            answers
                .insert(response.id, response.response.unwrap())
                .is_none()
        );
    }
    assert_eq!(answers.len(), count);
    answers
}

#[tokio::test]
async fn each_request_is_answered_once_and_writes_to_a_key_keep_their_order() {
    let mut fixture = Fixture::start().await;
    let mut bodies = Vec::new();
    for number in 0..500 {
        bodies.push(Body::Put(put("k", &number.to_string())));
        bodies.push(Body::Put(put(&format!("other{number}"), "v")));
        if number % 50 == 0 {
            bodies.push(Body::Delete(delete("k")));
        }
    }
    bodies.push(Body::Put(put("k", "last")));
    let answers = run(&mut fixture, bodies).await;
    let deletes = answers.values().filter_map(|answer| match answer {
        Answered::Delete(deleted) => Some(deleted.existed),
        _ => None,
    });
    assert!(
        deletes.into_iter().all(|existed| existed),
        "each delete follows a put"
    );
    let read = fixture.client.get(get("k")).await.unwrap().into_inner();
    assert_eq!(read.entry.unwrap().value, "last");
}

#[tokio::test]
async fn a_request_has_a_timeout_of_its_own() {
    let mut fixture = Fixture::start().await;
    let seconds = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let enough = run_within(&mut fixture, vec![Body::Put(put("k", "v"))], seconds(60, 0)).await;
    assert!(matches!(enough[&0], Answered::Put(_)), "{enough:?}");
    // Nothing is left of these when the answer's way back is taken off.
    for nothing in [seconds(0, 0), seconds(0, 5_000_000), seconds(-1, 0)] {
        let late = run_within(&mut fixture, vec![Body::Put(put("k", "w"))], nothing).await;
        let Answered::Error(error) = &late[&0] else {
            panic!("{late:?}")
        };
        assert_eq!(error.code, tonic::Code::DeadlineExceeded as i32);
    }
    let read = fixture.client.get(get("k")).await.unwrap().into_inner();
    assert_eq!(read.entry.unwrap().value, "v", "those were not applied");
}

#[tokio::test]
async fn a_bad_request_fails_alone() {
    let mut fixture = Fixture::start().await;
    let bodies = vec![
        Body::Put(put("", "v")),
        Body::Put(put("k", "v")),
        Body::Get(get("k")),
    ];
    let answers = run(&mut fixture, bodies).await;
    let Answered::Error(error) = &answers[&0] else {
        panic!("{answers:?}")
    };
    assert_eq!(error.code, tonic::Code::InvalidArgument as i32);
    assert!(matches!(answers[&1], Answered::Put(_)));
    assert!(matches!(answers[&2], Answered::Get(_)));
}

#[tokio::test]
async fn answers_that_nobody_reads_stay_within_their_budget() {
    let settings = RouterSettings {
        pipeline_answer_bytes_max: 2 << 20,
        ..RouterSettings::default()
    };
    let mut fixture = Fixture::with_settings(settings).await;
    fixture
        .client
        .put(put("k", &"x".repeat(1 << 20)))
        .await
        .unwrap();
    let answers = run(&mut fixture, vec![Body::Get(get("k")); 64]).await;
    for answer in answers.values() {
        match answer {
            Answered::Get(got) => assert_eq!(got.entry.as_ref().unwrap().value.len(), 1 << 20),
            Answered::Error(error) => {
                assert_eq!(error.code, tonic::Code::Unavailable as i32, "{error:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}
