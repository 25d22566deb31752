//! Many requests of one connection in flight.
//!
//! A request takes a place before it is read from the stream; the place comes free when its answer
//! leaves. So a client that sends faster than the databases answer, or does not read its answers,
//! is held back by the connection's flow control, and nothing grows here.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use freehold_proto::v1::{self, pipeline_response::Response as Answered};
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::yield_now,
    time::Instant,
};
use tonic::{Request as Call, Status, Streaming};

use super::{ResponseStream, encode};
use crate::{
    calls::Calls,
    deadline,
    failure::Failure,
    request::{Answer, AnswerBudget, Answers, Ending, Kind, Numbered, Reply, Request, Room},
    status, validate,
};

/// Messages that are read at once, before others have their turn.
const READ_AT_ONCE: usize = 128;

/// Answers that are taken from the lanes at once.
const TAKEN_AT_ONCE: usize = 128;

/// How many requests of a stream are under way, counted by its reading half.
#[derive(Debug, Default)]
struct Places {
    taken: AtomicUsize,
    freed: Notify,
}

impl Places {
    /// Ends when fewer than `max` are taken.
    async fn free(&self, max: usize) {
        while self.taken.load(Ordering::Acquire) >= max {
            self.freed.notified().await;
        }
    }

    /// The reading half waits only while all `max` are taken.
    fn give_back(&self, max: usize) {
        if self.taken.fetch_sub(1, Ordering::AcqRel) >= max {
            self.freed.notify_one();
        }
    }
}

/// The reading half of a stream.
struct Inbound {
    calls: Arc<Calls>,
    places: Arc<Places>,
    answers: Arc<Answers>,
    deadline: Option<Instant>,
}

/// Starts answering a stream of requests.
pub(super) fn start(
    calls: Arc<Calls>,
    call: Call<Streaming<v1::PipelineRequest>>,
) -> ResponseStream<v1::PipelineResponse> {
    let in_flight_max = calls.settings.pipeline_requests_max;
    let (channel, answered) = mpsc::channel(in_flight_max);
    let budget = Arc::new(AnswerBudget::new(calls.settings.pipeline_answer_bytes_max));
    let (ended, why) = oneshot::channel();
    let places = Arc::new(Places::default());
    let responses = Responses {
        answered,
        taken: Vec::with_capacity(TAKEN_AT_ONCE),
        budget: budget.clone(),
        places: places.clone(),
        in_flight_max,
        sent: None,
    };
    let inbound = Inbound {
        deadline: Calls::stream_deadline(call.metadata()),
        places,
        answers: Arc::new(Answers { channel, budget }),
        calls,
    };
    let stream = call.into_inner();
    tokio::spawn(async move { drop(ended.send(inbound.run(stream).await)) });
    // Every request that was read has its answer by then, so this is true of all others.
    let last_word = stream::once(async move { why.await.ok()?.err().map(Err) });
    Box::pin(responses.chain(last_word.filter_map(std::future::ready)))
}

impl Inbound {
    /// Reads requests until the client has sent its last or nobody reads the answers; an error if
    /// the router drains, or cannot read what was sent.
    async fn run(self, mut stream: Streaming<v1::PipelineRequest>) -> Result<(), Status> {
        let in_flight_max = self.calls.settings.pipeline_requests_max;
        let (mut received, mut at_once) = (Instant::now(), 0);
        loop {
            // What has arrived is read without a look at anything else: most of what a stream
            // carries comes in packets of many.
            let has_place = self.places.taken.load(Ordering::Acquire) < in_flight_max;
            let arrived = match has_place && at_once < READ_AT_ONCE {
                true => stream.message().now_or_never(),
                false => None,
            };
            let message = match arrived {
                Some(message) => message,
                None => {
                    if at_once == READ_AT_ONCE {
                        yield_now().await;
                    }
                    let message = self.wait_for(&mut stream, in_flight_max).await?;
                    (received, at_once) = (Instant::now(), 0);
                    match message {
                        Some(message) => message,
                        None => return Ok(()),
                    }
                }
            };
            at_once += 1;
            match message {
                Ok(Some(message)) => self.take(message, received),
                Ok(None) => return Ok(()),
                Err(unread) => return Err(status::of_unread(&unread)),
            }
        }
    }

    /// The next message, once there is a place for it; `None` if nobody reads the answers.
    async fn wait_for(
        &self,
        stream: &mut Streaming<v1::PipelineRequest>,
        in_flight_max: usize,
    ) -> Result<Option<Result<Option<v1::PipelineRequest>, Status>>, Status> {
        let message = async {
            self.places.free(in_flight_max).await;
            stream.message().await
        };
        tokio::select! {
            biased;
            () = self.calls.draining.cancelled() => Err(status::to_status(&Failure::ShuttingDown)),
            message = message => Ok(Some(message)),
            () = self.answers.channel.closed() => Ok(None),
        }
    }

    fn take(&self, message: v1::PipelineRequest, received: Instant) {
        let asked = deadline::less_margin(validate::timeout(message.timeout));
        let limit = received + self.calls.request_timeout().min(asked);
        let deadline = self.deadline.map_or(limit, |deadline| deadline.min(limit));
        self.places.taken.fetch_add(1, Ordering::AcqRel);
        let reply = Reply::Numbered {
            id: message.id,
            answers: self.answers.clone(),
        };
        let operation = self
            .calls
            .validator
            .pipelined(message.request, || self.calls.versions.next());
        match operation {
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
}

/// The answering half of a stream.
struct Responses {
    answered: mpsc::Receiver<Numbered>,
    /// Taken from there, and not sent yet; the next one last.
    taken: Vec<Numbered>,
    budget: Arc<AnswerBudget>,
    places: Arc<Places>,
    in_flight_max: usize,
    /// Of the answer that was given to the connection last.
    sent: Room,
}

impl Stream for Responses {
    type Item = Result<v1::PipelineResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // Whoever asks for the next answer has given the one before to the connection.
        this.sent = None;
        if this.taken.is_empty() {
            let taken = &mut this.taken;
            ready!(this.answered.poll_recv_many(cx, taken, TAKEN_AT_ONCE));
            taken.reverse();
        }
        let Some(mut numbered) = this.taken.pop() else {
            return Poll::Ready(None);
        };
        let bytes = numbered.ending.as_ref().map_or(0, Answer::bytes);
        this.budget.waiting.fetch_sub(bytes, Ordering::Relaxed);
        this.sent = numbered.ending.as_mut().ok().and_then(Answer::take_room);
        this.places.give_back(this.in_flight_max);
        let response = respond(numbered.id, numbered.kind, numbered.ending);
        Poll::Ready(Some(Ok(response)))
    }
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
