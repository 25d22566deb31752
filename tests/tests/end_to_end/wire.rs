//! Calls as any gRPC client makes them, with everything that came back.

use std::{collections::BTreeMap, time::Duration};

use freehold_proto::v1::{
    self, key_value_client::KeyValueClient, pipeline_request, pipeline_response,
};
use freehold_tests::Router;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};
use tonic_types::{RpcStatusExt as _, StatusExt as _};

use crate::{history, scene::Result};

/// The generated client, on a connection of its own.
pub(crate) type Stub = KeyValueClient<Channel>;

/// Opens a connection.
pub(crate) async fn stub(router: &Router) -> Result<Stub> {
    Ok(KeyValueClient::connect(format!("http://{}", router.address())).await?)
}

/// How one request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) code: Code,
    /// Of the `ErrorInfo` in the domain `freehold`; empty without one.
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) took: Duration,
}

impl Verdict {
    /// Of a call.
    pub(crate) fn of<T>(result: &Result<T, Status>, began: Instant) -> Self {
        let took = began.elapsed();
        match result {
            Ok(_) => Self::ok(took),
            Err(status) => {
                let info = status.get_error_details().error_info().cloned();
                Self {
                    code: status.code(),
                    reason: info
                        .filter(|info| info.domain == "freehold")
                        .map_or_else(String::new, |info| info.reason),
                    message: with_causes(status),
                    took,
                }
            }
        }
    }

    /// Of one request of a pipeline.
    pub(crate) fn of_item(response: &Option<pipeline_response::Response>, took: Duration) -> Self {
        let Some(pipeline_response::Response::Error(status)) = response else {
            return Self::ok(took);
        };
        let info = status.get_error_details().error_info().cloned();
        Self {
            code: Code::from_i32(status.code),
            reason: info
                .filter(|info| info.domain == "freehold")
                .map_or_else(String::new, |info| info.reason),
            message: status.message.clone(),
            took,
        }
    }

    fn ok(took: Duration) -> Self {
        Self {
            code: Code::Ok,
            reason: String::new(),
            message: String::new(),
            took,
        }
    }

    /// What it says of a write: only an `ErrorInfo` proves that nothing was applied.
    pub(crate) fn of_write(&self) -> history::Ending {
        match (self.code, self.reason.as_str()) {
            (Code::Ok, _) => history::Ending::Applied,
            (_, "" | "OUTCOME_UNKNOWN") => history::Ending::Unknown,
            _ => history::Ending::NotApplied,
        }
    }
}

/// gRPC libraries say little themselves: what happened stands in the causes.
fn with_causes(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Stores a value.
pub(crate) async fn put(stub: &Stub, key: &str, value: &str, timeout: Duration) -> Verdict {
    let mut request = tonic::Request::new(v1::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ttl: None,
    });
    request.set_timeout(timeout);
    let began = Instant::now();
    Verdict::of(&stub.clone().put(request).await, began)
}

/// Stores a value, or removes the key.
pub(crate) async fn write(
    stub: &Stub,
    key: &str,
    value: Option<&str>,
    timeout: Duration,
) -> Verdict {
    if let Some(value) = value {
        return put(stub, key, value, timeout).await;
    }
    let key = key.to_owned().into();
    let mut request = tonic::Request::new(v1::DeleteRequest { key });
    request.set_timeout(timeout);
    let began = Instant::now();
    Verdict::of(&stub.clone().delete(request).await, began)
}

/// Changes when a key expires, and returns whether it was there.
pub(crate) async fn expire(
    stub: &Stub,
    key: &str,
    ttl: Option<Duration>,
    timeout: Duration,
) -> (Verdict, bool) {
    let mut request = tonic::Request::new(v1::ExpireRequest {
        key: key.to_owned().into(),
        ttl: ttl.map(|ttl| ttl.try_into().expect("some hours")),
    });
    request.set_timeout(timeout);
    let began = Instant::now();
    let result = stub.clone().expire(request).await;
    let verdict = Verdict::of(&result, began);
    (
        verdict,
        result.is_ok_and(|reply| reply.into_inner().existed),
    )
}

/// How long a key has to live, if it is there: `None` for ever.
pub(crate) async fn ttl(
    stub: &Stub,
    key: &str,
    timeout: Duration,
) -> (Verdict, Option<Option<Duration>>) {
    let mut request = tonic::Request::new(v1::TtlRequest {
        key: key.to_owned().into(),
        read: None,
    });
    request.set_timeout(timeout);
    let began = Instant::now();
    let result = stub.clone().ttl(request).await;
    let verdict = Verdict::of(&result, began);
    let found = result.ok().map(tonic::Response::into_inner);
    let found = found.filter(|reply| reply.found);
    let ttl = |reply: v1::TtlResponse| {
        let left = reply.ttl;
        left.map(|left| left.try_into().expect("not negative"))
    };
    (verdict, found.map(ttl))
}

/// Reads a value.
pub(crate) async fn get(stub: &Stub, key: &str, timeout: Duration) -> Verdict {
    read(stub, key, timeout).await.0
}

/// Reads a value, and returns it as text.
pub(crate) async fn read(stub: &Stub, key: &str, timeout: Duration) -> (Verdict, Option<String>) {
    read_as(stub, key, None, timeout).await
}

/// The same with a level.
pub(crate) async fn read_as(
    stub: &Stub,
    key: &str,
    read: Option<v1::ReadOptions>,
    timeout: Duration,
) -> (Verdict, Option<String>) {
    let mut request = tonic::Request::new(v1::GetRequest {
        key: key.to_owned().into(),
        read,
    });
    request.set_timeout(timeout);
    let began = Instant::now();
    let result = stub.clone().get(request).await;
    let verdict = Verdict::of(&result, began);
    let entry = result.ok().and_then(|reply| reply.into_inner().entry);
    let text = |entry: v1::Entry| String::from_utf8_lossy(&entry.value).into_owned();
    (verdict, entry.map(text))
}

/// A put as a request of a pipeline.
pub(crate) fn pipelined_put(key: &str, value: &str) -> pipeline_request::Request {
    pipeline_request::Request::Put(v1::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ttl: None,
    })
}

/// What came back of a stream.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// By id, every answer that came.
    pub(crate) answers: BTreeMap<u64, Vec<Verdict>>,
    /// The stream's own end.
    pub(crate) end: Verdict,
}

/// Sends requests on one stream, ids from 0 on, half-closes it, and takes everything that comes
/// back. `sent` is told how many were handed over.
pub(crate) async fn pipeline(
    stub: &Stub,
    requests: Vec<pipeline_request::Request>,
    sent: mpsc::Sender<u64>,
) -> Result<Streamed> {
    let (sender, outbound) = mpsc::channel(64);
    let began = Instant::now();
    let mut responses = stub
        .clone()
        .pipeline(ReceiverStream::new(outbound))
        .await?
        .into_inner();
    tokio::spawn(async move {
        for (id, request) in (0..).zip(requests) {
            let request = v1::PipelineRequest {
                id,
                request: Some(request),
                timeout: None,
            };
            if sender.send(request).await.is_err() {
                return;
            }
            // Nobody has to listen.
            let _ = sent.try_send(id + 1);
        }
    });
    let mut answers: BTreeMap<u64, Vec<Verdict>> = BTreeMap::new();
    let end = loop {
        let message = responses.message().await;
        match message {
            Ok(Some(response)) => {
                let verdict = Verdict::of_item(&response.response, began.elapsed());
                answers.entry(response.id).or_default().push(verdict);
            }
            Ok(None) => break Verdict::ok(began.elapsed()),
            Err(status) => break Verdict::of::<()>(&Err(status), began),
        }
    };
    Ok(Streamed { answers, end })
}
