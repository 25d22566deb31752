//! Many requests in flight on one stream.
//!
//! One task owns the stream. It forwards calls, keeps who waits for which answer, and when the
//! stream ends it answers everyone: what was sent is unknown (a read: unanswered), unless the router
//! itself ended the stream and said that it was not applied; what was not sent is not applied. A call keeps its permit until its answer came, even if its caller gave up: so the
//! number in flight is bounded whatever the callers do.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use freehold_proto::v1::{
    self, key_value_client::KeyValueClient, pipeline_request, pipeline_response,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{
    error::{CallKind, Error},
    types::{
        Consistency, DeleteReply, ExpireReply, GetReply, PutReply, TtlReply, to_wire_duration,
    },
};

/// One request of a pipeline.
#[derive(Debug, Clone)]
pub enum Request {
    /// As [`Client::get`](crate::Client::get).
    Get {
        /// 1 to 1,024 bytes.
        key: Bytes,
        /// How fresh.
        consistency: Consistency,
    },
    /// As [`Client::put`](crate::Client::put).
    Put {
        /// 1 to 1,024 bytes.
        key: Bytes,
        /// 0 bytes to the value limit.
        value: Bytes,
        /// `None` never expires.
        ttl: Option<Duration>,
    },
    /// As [`Client::delete`](crate::Client::delete).
    Delete {
        /// 1 to 1,024 bytes.
        key: Bytes,
    },
    /// As [`Client::ttl`](crate::Client::ttl).
    Ttl {
        /// 1 to 1,024 bytes.
        key: Bytes,
        /// How fresh.
        consistency: Consistency,
    },
    /// As [`Client::expire`](crate::Client::expire).
    Expire {
        /// 1 to 1,024 bytes.
        key: Bytes,
        /// `None` never expires again.
        ttl: Option<Duration>,
    },
}

/// The answer to a [`Request`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// What was read.
    Get(GetReply),
    /// The put was applied.
    Put(PutReply),
    /// The delete was applied.
    Delete(DeleteReply),
    /// How long the key has to live.
    Ttl(TtlReply),
    /// The expiry was changed, if the key existed.
    Expire(ExpireReply),
}

/// A stream of requests and answers. Clones share it; the last one that is dropped ends it.
#[derive(Debug, Clone)]
pub struct Pipeline {
    calls: mpsc::Sender<Call>,
    permits: Arc<Semaphore>,
    timeout: Duration,
}

#[derive(Debug)]
struct Call {
    request: Request,
    waiter: Waiter,
}

#[derive(Debug)]
struct Waiter {
    kind: CallKind,
    reply: oneshot::Sender<Result<Response, Error>>,
    _permit: OwnedSemaphorePermit,
}

impl Pipeline {
    pub(crate) async fn open(
        mut stub: KeyValueClient<Channel>,
        in_flight_max: usize,
        timeout: Duration,
    ) -> Result<Self, Error> {
        assert!(in_flight_max > 0, "a pipeline without room carries nothing");
        // Whoever has a permit finds room in both queues.
        let (calls, called) = mpsc::channel(in_flight_max);
        let (requests, outbound) = mpsc::channel(in_flight_max);
        let responses = tokio::time::timeout(timeout, stub.pipeline(ReceiverStream::new(outbound)))
            .await
            .map_err(|_| Error::not_sent("the stream did not open in time"))?
            .map_err(|status| Error::from_status(&status, CallKind::Read))?
            .into_inner();
        tokio::spawn(run(called, requests, responses));
        Ok(Self {
            calls,
            permits: Arc::new(Semaphore::new(in_flight_max)),
            timeout,
        })
    }

    /// Sends a request, waiting for room first, and waits for its answer. Calls that are made in
    /// some order are sent in it.
    ///
    /// # Errors
    /// [`Error`]; a write whose answer did not come in time is [`Error::OutcomeUnknown`].
    pub async fn call(&self, request: Request) -> Result<Response, Error> {
        let deadline = Instant::now() + self.timeout;
        let kind = request.kind();
        let permit = timeout_at(deadline, self.permits.clone().acquire_owned())
            .await
            .map_err(|_| Error::not_sent("the pipeline stayed full"))?
            .map_err(|_| Error::not_sent("the pipeline is closed"))?;
        let (reply, answered) = oneshot::channel();
        let waiter = Waiter {
            kind,
            reply,
            _permit: permit,
        };
        self.calls
            .try_send(Call { request, waiter })
            .map_err(|_| Error::not_sent("the pipeline is closed"))?;
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::no_answer("the pipeline stopped".to_owned(), kind)),
            Err(_) => {
                let waited = format!("no answer in {} ms", self.timeout.as_millis());
                Err(Error::no_answer(waited, kind))
            }
        }
    }
}

/// Moves calls out and answers in until either side ends.
async fn run(
    mut called: mpsc::Receiver<Call>,
    requests: mpsc::Sender<v1::PipelineRequest>,
    mut responses: Streaming<v1::PipelineResponse>,
) {
    let mut requests = Some(requests);
    let mut waiting: HashMap<u64, Waiter> = HashMap::new();
    let mut next_id = 0_u64;
    let end = loop {
        tokio::select! {
            // Answers first: they make room.
            biased;
            response = responses.message() => match response {
                Ok(Some(response)) => answer(response, &mut waiting),
                Ok(None) => break None,
                Err(status) => break Some(status),
            },
            call = called.recv(), if requests.is_some() => {
                let Some(Call { request, waiter }) = call else {
                    // The last handle is gone: what is in flight may still be answered.
                    requests = None;
                    continue;
                };
                next_id += 1;
                let request = v1::PipelineRequest { id: next_id, request: Some(request.into()) };
                match requests.as_ref().map(|requests| requests.try_send(request)) {
                    Some(Ok(())) => { waiting.insert(next_id, waiter); }
                    _ => waiter.fail(Error::not_sent("the pipeline is closing")),
                }
            },
        }
    };
    called.close();
    for (_, waiter) in waiting {
        // What a router says at the end of a stream is true of every request without an answer.
        let error = match &end {
            Some(status) => Error::from_status(status, waiter.kind),
            None => Error::no_answer("the router closed the pipeline".to_owned(), waiter.kind),
        };
        waiter.fail(error);
    }
    let end = end.map_or_else(String::new, |status| format!(": {}", status.message()));
    while let Some(call) = called.recv().await {
        let ended = format!("the pipeline ended{end}");
        call.waiter.fail(Error::not_sent(&ended));
    }
}

fn answer(response: v1::PipelineResponse, waiting: &mut HashMap<u64, Waiter>) {
    // An id that nobody waits for is the router's mistake; there is nobody to tell.
    let Some(waiter) = waiting.remove(&response.id) else {
        return;
    };
    let result = match response.response {
        Some(pipeline_response::Response::Get(get)) => Ok(Response::Get(get.into())),
        Some(pipeline_response::Response::Put(put)) => Ok(Response::Put(put.into())),
        Some(pipeline_response::Response::Delete(delete)) => Ok(Response::Delete(delete.into())),
        Some(pipeline_response::Response::Ttl(ttl)) => Ok(Response::Ttl(ttl.into())),
        Some(pipeline_response::Response::Expire(expire)) => Ok(Response::Expire(expire.into())),
        Some(pipeline_response::Response::Error(status)) => {
            Err(Error::from_item(&status, waiter.kind))
        }
        None => Err(Error::no_answer(
            "the router answered nothing".to_owned(),
            waiter.kind,
        )),
    };
    // A caller that gave up has already been told what it can know.
    let _ = waiter.reply.send(result);
}

impl Waiter {
    fn fail(self, error: Error) {
        // As in `answer`: a caller that gave up needs no word.
        let _ = self.reply.send(Err(error));
    }
}

impl Request {
    fn kind(&self) -> CallKind {
        match self {
            Self::Get { .. } | Self::Ttl { .. } => CallKind::Read,
            Self::Put { .. } | Self::Delete { .. } | Self::Expire { .. } => CallKind::Write,
        }
    }
}

impl From<Request> for pipeline_request::Request {
    fn from(request: Request) -> Self {
        match request {
            Request::Get { key, consistency } => Self::Get(v1::GetRequest {
                key,
                read: Some(consistency.to_wire()),
            }),
            Request::Put { key, value, ttl } => Self::Put(v1::PutRequest {
                key,
                value,
                ttl: ttl.map(to_wire_duration),
            }),
            Request::Delete { key } => Self::Delete(v1::DeleteRequest { key }),
            Request::Ttl { key, consistency } => Self::Ttl(v1::TtlRequest {
                key,
                read: Some(consistency.to_wire()),
            }),
            Request::Expire { key, ttl } => Self::Expire(v1::ExpireRequest {
                key,
                ttl: ttl.map(to_wire_duration),
            }),
        }
    }
}
