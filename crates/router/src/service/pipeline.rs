//! Many requests of one connection in flight.
//!
//! A request takes a place before it is read from the stream; the place comes free when its answer
//! leaves. So a client that sends faster than the databases answer, or does not read its answers,
//! is held back by the connection's flow control, and nothing grows here.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use freehold_proto::v1::{
    self, pipeline_request::Request as Body, pipeline_response::Response as Answered,
};
use futures::{Stream, StreamExt, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};
use tonic::{Request as Call, Status, Streaming};

use super::{ResponseStream, encode};
use crate::{
    calls::Calls,
    deadline,
    failure::Failure,
    request::{
        Answer, AnswerBudget, Ending, Kind, Level, Numbered, Operation, Reply, Request, Room,
    },
    status, validate,
};

/// The reading half of a stream.
struct Inbound {
    calls: Arc<Calls>,
    places: Arc<Semaphore>,
    answers: mpsc::Sender<Numbered>,
    budget: Arc<AnswerBudget>,
    deadline: Option<Instant>,
}

/// Starts answering a stream of requests.
pub(super) fn start(
    calls: Arc<Calls>,
    call: Call<Streaming<v1::PipelineRequest>>,
) -> ResponseStream<v1::PipelineResponse> {
    let in_flight_max = calls.settings.pipeline_requests_max;
    let (answers, answered) = mpsc::channel(in_flight_max);
    let budget = Arc::new(AnswerBudget::new(calls.settings.pipeline_answer_bytes_max));
    let (ended, why) = oneshot::channel();
    let inbound = Inbound {
        deadline: Calls::stream_deadline(call.metadata()),
        places: Arc::new(Semaphore::new(in_flight_max)),
        budget: budget.clone(),
        answers,
        calls,
    };
    let stream = call.into_inner();
    tokio::spawn(async move { drop(ended.send(inbound.run(stream).await)) });
    // Every request that was read has its answer by then, so this is true of all others.
    let last_word = stream::once(async move { why.await.ok()?.err().map(Err) });
    Box::pin(responses(answered, budget).chain(last_word.filter_map(std::future::ready)))
}

impl Inbound {
    /// Reads requests until the client has sent its last or nobody reads the answers; an error if
    /// the router drains, or cannot read what was sent.
    async fn run(self, mut stream: Streaming<v1::PipelineRequest>) -> Result<(), Status> {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else {
                return Ok(());
            };
            let message = tokio::select! {
                message = stream.message() => message,
                () = self.answers.closed() => return Ok(()),
                () = self.calls.draining.cancelled() => {
                    return Err(status::to_status(&Failure::ShuttingDown));
                }
            };
            match message {
                Ok(Some(message)) => self.take(message, place),
                Ok(None) => return Ok(()),
                Err(unread) => return Err(status::of_unread(&unread)),
            }
        }
    }

    fn take(&self, message: v1::PipelineRequest, place: OwnedSemaphorePermit) {
        let received = Instant::now();
        let asked = message.timeout.map_or(Duration::MAX, |timeout| {
            // A negative one is over already.
            deadline::less_margin(timeout.try_into().unwrap_or(Duration::ZERO))
        });
        let limit = received + self.calls.request_timeout().min(asked);
        let deadline = self.deadline.map_or(limit, |deadline| deadline.min(limit));
        let reply = Reply::Numbered {
            id: message.id,
            channel: self.answers.clone(),
            place: Some(place),
            budget: self.budget.clone(),
        };
        match self.operation(message.request) {
            Ok((operation, level)) => {
                let request = Request::new(operation, level, received, deadline, reply);
                self.calls.shards.dispatch(request);
            }
            Err(failure) => {
                self.calls.shards.unrouted.refused(&failure);
                reply.refuse(failure);
            }
        }
    }

    fn operation(&self, body: Option<Body>) -> Result<(Operation, Level), Failure> {
        let write = |operation| (operation, Level::Strong);
        match body {
            Some(Body::Get(get)) => validate::get(get),
            Some(Body::Ttl(ttl)) => validate::ttl(ttl),
            Some(Body::Put(put)) => self
                .calls
                .validator
                .put(put, self.calls.versions.next())
                .map(write),
            Some(Body::Delete(delete)) => validate::delete(delete.key).map(write),
            Some(Body::Expire(expire)) => validate::expire(expire).map(write),
            None => Err(Failure::invalid(
                "request",
                "request is not set: set one of its fields",
            )),
        }
    }
}

fn responses(
    answered: mpsc::Receiver<Numbered>,
    budget: Arc<AnswerBudget>,
) -> impl Stream<Item = Result<v1::PipelineResponse, Status>> {
    stream::unfold((answered, None), move |(mut answered, sent)| {
        let budget = budget.clone();
        async move {
            // Whoever asks for the next answer has given the one before to the connection.
            drop::<Room>(sent);
            let mut numbered = answered.recv().await?;
            let bytes = numbered.ending.as_ref().map_or(0, Answer::bytes);
            budget.waiting.fetch_sub(bytes, Ordering::Relaxed);
            let room = numbered.ending.as_mut().ok().and_then(Answer::take_room);
            let response = respond(numbered.id, numbered.kind, numbered.ending);
            Some((Ok(response), (answered, room)))
            // The place is dropped here.
        }
    })
}

fn respond(id: u64, kind: Option<Kind>, ending: Ending) -> v1::PipelineResponse {
    let response = match kind {
        Some(Kind::Get) => encode::get(ending).map(Answered::Get),
        Some(Kind::Ttl) => encode::ttl(ending).map(Answered::Ttl),
        Some(Kind::Put) => encode::put(ending).map(Answered::Put),
        Some(Kind::Delete) => encode::delete(ending).map(Answered::Delete),
        Some(Kind::Expire) => encode::expire(ending).map(Answered::Expire),
        Some(Kind::Scan | Kind::Inspect) | None => Err(ending.err().unwrap_or(Failure::AskAgain)),
    };
    let response = response.unwrap_or_else(|failure| Answered::Error(status::to_item(&failure)));
    v1::PipelineResponse {
        id,
        response: Some(response),
    }
}
