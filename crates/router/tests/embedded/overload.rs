//! What the whole router holds is bounded, and whoever finds it full is told so.

use std::time::Duration;

use freehold_proto::v1::{self, key_value_client::KeyValueClient};
use freehold_router::RouterSettings;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::fixture::{Fixture, get, put};

const MIB: usize = 1 << 20;

/// Far above what anything here takes.
const WITHIN: Duration = Duration::from_secs(30);

/// Asks again and again until the answer is yes.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WITHIN, asking).await.expect(what);
}

fn assert_refused(status: &Status, limit: &str) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().expect("details");
    assert_eq!(
        (info.reason.as_str(), info.metadata["limit"].as_str()),
        ("ROUTER_FULL", limit)
    );
    assert!(details.retry_info().is_some(), "{status:?}");
    assert!(status.message().contains(limit), "{status:?}");
}

async fn level(fixture: &Fixture, limit: &str) -> usize {
    fixture
        .metric(&format!("limit_level{{limit=\"server.{limit}\"}}"))
        .await
}

async fn connect(fixture: &Fixture) -> KeyValueClient<Channel> {
    let address = format!("http://{}", fixture.address);
    KeyValueClient::connect(address).await.unwrap()
}

/// A GET whose answer stays on the way: what the caller has no room for, the router keeps.
async fn unread_get(fixture: &Fixture, key: &str) -> Option<Streaming<v1::GetResponse>> {
    let window_bytes = 65_535;
    let channel = Endpoint::from_shared(format!("http://{}", fixture.address))
        .unwrap()
        .initial_stream_window_size(window_bytes)
        .initial_connection_window_size(window_bytes)
        .connect()
        .await
        .unwrap();
    let mut caller = Grpc::new(channel);
    caller.ready().await.unwrap();
    let codec: ProstCodec<v1::GetRequest, v1::GetResponse> = ProstCodec::default();
    let path = PathAndQuery::from_static("/freehold.v1.KeyValue/Get");
    // As a stream of one answer, which begins before the answer is whole.
    let response = caller.server_streaming(Request::new(get(key)), path, codec);
    match response.await {
        Ok(response) => Some(response.into_inner()),
        Err(status) => {
            assert_refused(&status, "server.answer_bytes_max");
            None
        }
    }
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_and_a_place_that_is_free_again_is_given() {
    let settings = RouterSettings {
        connections_max: 3,
        ..RouterSettings::default()
    };
    let mut fixture = Fixture::with_settings(settings).await;
    fixture.client.put(put("k", "v")).await.unwrap();
    let mut second = connect(&fixture).await;
    let mut third = connect(&fixture).await;
    second.get(get("k")).await.unwrap();
    third.get(get("k")).await.unwrap();
    let mut fourth = connect(&fixture).await;
    assert_refused(
        &fourth.put(put("k", "w")).await.unwrap_err(),
        "server.connections_max",
    );
    assert_eq!(level(&fixture, "connections_max").await, 3);
    // Those that have a place do not notice.
    let read = fixture.client.get(get("k")).await.unwrap().into_inner();
    assert_eq!(read.entry.unwrap().value, "v");
    drop(third);
    until("the fourth to be let in", async || {
        fourth.get(get("k")).await.is_ok()
    })
    .await;
    assert!(
        fixture
            .metric("limit_refusals_total{limit=\"server.connections_max\"}")
            .await
            > 0
    );
}

#[tokio::test]
async fn calls_too_many_are_refused_until_others_end() {
    let settings = RouterSettings {
        calls_max: 2,
        ..RouterSettings::default()
    };
    let mut fixture = Fixture::with_settings(settings).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (requests, open) = tokio::sync::mpsc::channel::<v1::PipelineRequest>(1);
        let answers = fixture.client.pipeline(ReceiverStream::new(open)).await;
        streams.push((requests, answers.unwrap()));
    }
    let status = fixture.client.get(get("k")).await.unwrap_err();
    assert_refused(&status, "server.calls_max");
    streams.pop();
    until("a place among the calls", async || {
        fixture.client.get(get("k")).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded_over_all_calls() {
    let settings = RouterSettings {
        answer_bytes_max: 8 * MIB,
        ..RouterSettings::default()
    };
    let mut fixture = Fixture::with_settings(settings).await;
    fixture
        .client
        .put(put("k", &"x".repeat(MIB)))
        .await
        .unwrap();
    // 64 MiB of answers, and nobody reads a byte of them.
    let mut unread = Vec::new();
    for _ in 0..64 {
        unread.extend(unread_get(&fixture, "k").await);
    }
    until("the answers to fill the room", async || {
        fixture
            .metric("limit_refusals_total{limit=\"server.answer_bytes_max\"}")
            .await
            > 0
    })
    .await;
    let held = level(&fixture, "answer_bytes_max").await;
    assert!((7 * MIB..=8 * MIB).contains(&held), "{held}");
    let status = fixture.client.get(get("k")).await.unwrap_err();
    assert_refused(&status, "server.answer_bytes_max");
    // What holds no value is served.
    fixture.client.put(put("other", "v")).await.unwrap();
    drop(unread);
    until("room for answers", async || {
        fixture.client.get(get("k")).await.is_ok()
    })
    .await;
    until("nothing to be held", async || {
        level(&fixture, "answer_bytes_max").await == 0
    })
    .await;
}

#[tokio::test]
async fn messages_on_their_way_in_are_bounded_over_all_calls() {
    let settings = RouterSettings {
        received_bytes_max: MIB,
        ..RouterSettings::default()
    };
    let mut fixture = Fixture::with_settings(settings).await;
    let value = "x".repeat(MIB - 100);
    let mut puts = tokio::task::JoinSet::new();
    for number in 0..32 {
        let (mut client, key) = (fixture.client.clone(), format!("k{number}"));
        let request = put(&key, &value);
        puts.spawn(async move { (key, client.put(request).await) });
    }
    let (mut applied, mut refused) = (0, 0);
    for (key, result) in puts.join_all().await {
        let stored = fixture.client.get(get(&key)).await.unwrap().into_inner();
        assert_eq!(stored.entry.is_some(), result.is_ok(), "{result:?}");
        match result {
            Ok(_) => applied += 1,
            Err(status) => {
                assert_refused(&status, "server.received_bytes_max");
                refused += 1;
            }
        }
    }
    println!("{applied} applied, {refused} refused");
    assert!(refused > 0, "32 messages do not fit where one does");
    // One at a time has room, again and again.
    for number in 0..3 {
        fixture
            .client
            .put(put(&format!("k{number}"), &value))
            .await
            .unwrap();
    }
    assert_eq!(level(&fixture, "received_bytes_max").await, 0);
}
