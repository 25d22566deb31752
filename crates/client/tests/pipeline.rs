//! The pipelined stream against a router that does as each test tells it.

#![allow(clippy::unwrap_used, reason = "a test ends where its fixture fails")]

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use freehold_client::{Client, ClientOptions, Consistency, Error, Request, Response};
use freehold_proto::v1::{self, pipeline_request, pipeline_response};
use futures::{Stream, StreamExt as _, future::join_all};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Response as Reply, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

type Answers = mpsc::Sender<Result<v1::PipelineResponse, Status>>;
type Held = mpsc::Receiver<(v1::PipelineRequest, Answers)>;

/// Hands every request of a pipeline to the test, with the way to answer it.
struct Router {
    requests: mpsc::Sender<(v1::PipelineRequest, Answers)>,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Methods that no test asks for, as `async_trait` would write them: it does not look into macros.
macro_rules! not_asked {
    ($($method:ident($request:ty) -> $response:ty;)*) => {$(
        fn $method<'a, 'b>(
            &'a self,
            _: tonic::Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Reply<$response>, Status>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async { Err(Status::unimplemented("no test asks for it")) })
        }
    )*};
}

#[tonic::async_trait]
impl v1::key_value_server::KeyValue for Router {
    type ScanStream = Messages<v1::ScanResponse>;
    type PipelineStream = Messages<v1::PipelineResponse>;

    not_asked! {
        get(v1::GetRequest) -> v1::GetResponse;
        put(v1::PutRequest) -> v1::PutResponse;
        delete(v1::DeleteRequest) -> v1::DeleteResponse;
        ttl(v1::TtlRequest) -> v1::TtlResponse;
        expire(v1::ExpireRequest) -> v1::ExpireResponse;
        batch_get(v1::BatchGetRequest) -> v1::BatchGetResponse;
        batch_write(v1::BatchWriteRequest) -> v1::BatchWriteResponse;
        scan(v1::ScanRequest) -> Self::ScanStream;
    }

    async fn pipeline(
        &self,
        request: tonic::Request<Streaming<v1::PipelineRequest>>,
    ) -> Result<Reply<Self::PipelineStream>, Status> {
        let (answers, answered) = mpsc::channel(64);
        let requests = self.requests.clone();
        let mut stream = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(request)) = stream.next().await {
                if requests.send((request, answers.clone())).await.is_err() {
                    return;
                }
            }
        });
        Ok(Reply::new(Box::pin(ReceiverStream::new(answered))))
    }
}

async fn start(timeout: Duration) -> (Client, Held) {
    let (requests, held) = mpsc::channel(64);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = v1::key_value_server::KeyValueServer::new(Router { requests });
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let options = ClientOptions {
        timeout,
        ..ClientOptions::default()
    };
    (Client::connect(&address, &options).await.unwrap(), held)
}

fn put(key: &str) -> Request {
    Request::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::new(),
        ttl: None,
    }
}

fn get(key: &str) -> Request {
    Request::Get {
        key: Bytes::copy_from_slice(key.as_bytes()),
        consistency: Consistency::Strong,
    }
}

fn key_of(request: &v1::PipelineRequest) -> Bytes {
    match request.request.as_ref().unwrap() {
        pipeline_request::Request::Get(get) => get.key.clone(),
        pipeline_request::Request::Put(put) => put.key.clone(),
        other => panic!("nobody sends {other:?}"),
    }
}

/// The version says which request was answered: its key is its number.
fn applied(request: &v1::PipelineRequest) -> v1::PipelineResponse {
    let version = String::from_utf8_lossy(&key_of(request)).parse().unwrap();
    let put = v1::PutResponse {
        version,
        session_token: Bytes::new(),
    };
    v1::PipelineResponse {
        id: request.id,
        response: Some(pipeline_response::Response::Put(put)),
    }
}

#[tokio::test]
async fn answers_find_their_callers_in_whatever_order_they_come() {
    let (client, mut held) = start(Duration::from_secs(30)).await;
    let pipeline = client.pipeline(16).await.unwrap();
    let calls = (0..16).map(|number| {
        let pipeline = pipeline.clone();
        async move { pipeline.call(put(&number.to_string())).await }
    });
    let answering = async {
        let mut requests = Vec::new();
        while requests.len() < 16 {
            requests.push(held.recv().await.unwrap());
        }
        let sent: Vec<Bytes> = requests
            .iter()
            .map(|(request, _)| key_of(request))
            .collect();
        for (request, answers) in requests.into_iter().rev() {
            answers.send(Ok(applied(&request))).await.unwrap();
        }
        sent
    };
    let (answers, sent) = tokio::join!(join_all(calls), answering);
    for (number, answer) in (0..).zip(answers) {
        assert!(matches!(answer, Ok(Response::Put(put)) if put.version == number));
    }
    let in_order: Vec<Bytes> = (0..16)
        .map(|number: u64| number.to_string().into())
        .collect();
    assert_eq!(
        sent, in_order,
        "calls are sent in the order in which they were made"
    );
}

#[tokio::test]
async fn no_more_are_in_flight_than_was_agreed_even_if_their_callers_gave_up() {
    let (client, mut held) = start(Duration::from_secs(2)).await;
    let pipeline = client.pipeline(2).await.unwrap();
    let (first, second, third) = tokio::join!(
        pipeline.call(put("1")),
        pipeline.call(get("2")),
        pipeline.call(put("3"))
    );
    assert!(
        matches!(first, Err(Error::OutcomeUnknown { .. })),
        "sent and not answered"
    );
    assert!(
        matches!(second, Err(Error::NotApplied { .. })),
        "a read has no outcome"
    );
    assert!(
        matches!(&third, Err(Error::NotApplied { reason, .. }) if reason == "NOT_SENT"),
        "{third:?}"
    );
    let (one, answers) = held.recv().await.unwrap();
    held.recv().await.unwrap();
    assert!(held.try_recv().is_err(), "the third was never sent");

    // An answer that comes late makes room all the same.
    answers.send(Ok(applied(&one))).await.unwrap();
    let answering = async {
        let (request, answers) = held.recv().await.unwrap();
        answers.send(Ok(applied(&request))).await.unwrap();
    };
    let (fourth, ()) = tokio::join!(pipeline.call(put("4")), answering);
    assert!(matches!(fourth, Ok(Response::Put(put)) if put.version == 4));
}

#[tokio::test]
async fn a_stream_that_breaks_answers_everyone_with_the_truth() {
    let (client, mut held) = start(Duration::from_secs(30)).await;
    let pipeline = client.pipeline(8).await.unwrap();
    let breaking = async {
        held.recv().await.unwrap();
        let (_, answers) = held.recv().await.unwrap();
        answers
            .send(Err(Status::unavailable("going away")))
            .await
            .unwrap();
    };
    let (write, read, ()) =
        tokio::join!(pipeline.call(put("1")), pipeline.call(get("2")), breaking);
    assert!(
        matches!(write, Err(Error::OutcomeUnknown { .. })),
        "{write:?}"
    );
    assert!(matches!(read, Err(Error::NotApplied { .. })), "{read:?}");
    let late = pipeline.call(put("3")).await;
    assert!(
        matches!(&late, Err(Error::NotApplied { reason, .. }) if reason == "NOT_SENT"),
        "{late:?}"
    );
}

#[tokio::test]
async fn a_router_that_ends_the_stream_says_what_became_of_the_rest() {
    let (client, mut held) = start(Duration::from_secs(30)).await;
    let pipeline = client.pipeline(8).await.unwrap();
    let ending = async {
        let (request, answers) = held.recv().await.unwrap();
        held.recv().await.unwrap();
        answers.send(Ok(applied(&request))).await.unwrap();
        let info = ErrorDetails::with_error_info("SHUTTING_DOWN", "freehold", []);
        let end = Status::with_error_details(Code::Unavailable, "shutting down", info);
        answers.send(Err(end)).await.unwrap();
    };
    let (taken, left, ()) = tokio::join!(pipeline.call(put("1")), pipeline.call(put("2")), ending);
    assert!(
        matches!(taken, Ok(Response::Put(put)) if put.version == 1),
        "an answer that came before the end counts"
    );
    assert!(
        matches!(&left, Err(Error::NotApplied { reason, .. }) if reason == "SHUTTING_DOWN"),
        "{left:?}"
    );
}
