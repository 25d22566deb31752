//! A pipe: the calls of its keys, and one stream to one router at a time.
//!
//! Callers put requests into the [`Table`] and fetch their ends from it. [`Outbound`] is the stream
//! of requests that the connection pulls from. One task per pipe keeps a stream open, reads answers,
//! and moves to another router where it must; another one watches the clock.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use freehold_proto::v1::{
    self,
    key_value_client::KeyValueClient,
    pipeline_request::Request,
    pipeline_response::{self, Response as Answer},
};
use futures::Stream;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::{Streaming, transport::Channel};

use crate::{
    client::MESSAGE_BYTES_MAX,
    connect::innermost,
    error::Error,
    options::ClientOptions,
    retry::Retries,
    routers::{Router, Routers},
    table::{End, Table, Ticket, Wake},
};

/// Answers that are handed to their callers at once.
const ANSWERS_AT_ONCE: usize = 256;

/// What callers and tasks of a pipe share.
#[derive(Debug)]
pub(crate) struct Pipe {
    table: Mutex<Table>,
    /// Something is due earlier than the clock's task knows.
    sooner: Notify,
}

impl Pipe {
    pub(crate) fn new(options: &ClientOptions) -> Self {
        Self {
            table: Mutex::new(Table::new(options.in_flight_max, options.waiting_max)),
            sooner: Notify::new(),
        }
    }

    /// See [`Table::submit`].
    pub(crate) fn submit(
        &self,
        request: Request,
        hash: u64,
        deadline: Instant,
        caller: &Waker,
    ) -> Result<Ticket, Error> {
        self.change(|table, wake| table.submit(request, hash, deadline, caller, wake))
    }

    /// See [`Table::fetch`].
    pub(crate) fn fetch(&self, ticket: Ticket, caller: &Waker) -> Option<Result<Answer, Error>> {
        self.table().fetch(ticket, caller)
    }

    /// See [`Table::forget`].
    pub(crate) fn forget(&self, ticket: Ticket) {
        self.table().forget(ticket);
    }

    /// Changes the table, and wakes whom that concerns once its lock is free.
    fn change<T>(&self, change: impl FnOnce(&mut Table, &mut Wake) -> T) -> T {
        let mut wake = Wake::default();
        let result = change(&mut self.table(), &mut wake);
        for waker in wake.wakers {
            waker.wake();
        }
        if wake.timer {
            self.sooner.notify_one();
        }
        result
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends calls at their deadlines, and pauses before further tries.
    pub(crate) async fn watch_the_clock(&self) {
        loop {
            match self.change(|table, wake| table.tick(Instant::now(), wake)) {
                Some(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.sooner.notified() => {}
                },
                None => self.sooner.notified().await,
            }
        }
    }
}

/// Ends all calls of a pipe when its tasks end, however they do.
pub(crate) struct Closing(pub(crate) Arc<Pipe>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.change(Table::close);
    }
}

/// Requests on their way to the connection that pulls them.
struct Outbound {
    pipe: Arc<Pipe>,
    stream: u64,
    ready: VecDeque<v1::PipelineRequest>,
    /// Whether others had their turn since this was woken.
    yielded: bool,
}

impl Stream for Outbound {
    type Item = v1::PipelineRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(request) = this.ready.pop_front() {
            return Poll::Ready(Some(request));
        }
        if !this.yielded {
            // Callers whose answers came together are woken together, and the first to ask again
            // woke this. After one turn of the scheduler all of them have asked, and one packet
            // takes what would have been one packet for each.
            this.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut table = this.pipe.table();
        let goes_on = table.take(this.stream, Instant::now(), &mut this.ready, cx.waker());
        drop(table);
        match this.ready.pop_front() {
            Some(request) => Poll::Ready(Some(request)),
            None if goes_on => {
                this.yielded = false;
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

/// A stream that was opened and takes no requests yet.
struct Opened {
    router: Router,
    number: u64,
    responses: Streaming<v1::PipelineResponse>,
    /// The connection lives as long as this.
    _stub: KeyValueClient<Channel>,
}

/// The task that keeps a stream open.
pub(crate) struct Keeper {
    pub(crate) pipe: Arc<Pipe>,
    /// The pipe's place among those of its client.
    pub(crate) index: usize,
    pub(crate) routers: Arc<Routers>,
    pub(crate) retries: Arc<Retries>,
    pub(crate) options: ClientOptions,
}

impl Keeper {
    pub(crate) async fn run(self) {
        let mut next = None;
        loop {
            let opened = match next.take() {
                Some(opened) => opened,
                None => self.connect().await,
            };
            next = self.serve(opened).await;
        }
    }

    /// Tries routers until one takes a stream.
    async fn connect(&self) -> Opened {
        loop {
            let router = self.routers.choose(self.index).await;
            if let Some(opened) = self.open(router).await {
                return opened;
            }
            self.pipe.table().trouble = self.routers.trouble();
        }
    }

    async fn open(&self, router: Router) -> Option<Opened> {
        match self.try_open(&router).await {
            Ok(opened) => {
                self.routers.reached(&router);
                Some(opened)
            }
            Err(trouble) => {
                self.routers.failed(&router, trouble);
                None
            }
        }
    }

    async fn try_open(&self, router: &Router) -> Result<Opened, String> {
        let endpoint = self.routers.endpoint(router).ok_or("not an address")?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| innermost(&error))?;
        let mut stub = KeyValueClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let number = self.pipe.table().name_stream();
        let outbound = Outbound {
            pipe: self.pipe.clone(),
            stream: number,
            ready: VecDeque::new(),
            yielded: false,
        };
        // Nothing is sent before the router has said that it takes the stream, so that one that
        // cannot be opened leaves no call in doubt.
        let responses = timeout(self.options.connect_timeout, stub.pipeline(outbound))
            .await
            .map_err(|_| "the stream did not open in time".to_owned())?
            .map_err(|status| format!("the stream did not open: {}", status.message()))?
            .into_inner();
        Ok(Opened {
            router: router.clone(),
            number,
            responses,
            _stub: stub,
        })
    }

    /// Uses a stream until it ends; returns the one to go on with, if it was left for that.
    async fn serve(&self, opened: Opened) -> Option<Opened> {
        let Opened {
            router,
            number,
            mut responses,
            _stub,
        } = opened;
        self.pipe.change(|table, wake| {
            table.trouble = format!("{} did not answer what was sent before", router.at);
            table.open_stream(number, wake);
        });
        let mut reading = pin!(self.read(&router, &mut responses));
        let (end, next) = tokio::select! {
            biased;
            end = &mut reading => (end, None),
            better = self.find_better(&router) => {
                // What is under way is answered here before anything goes there: order is kept.
                self.pipe.change(Table::close_stream);
                (reading.await, Some(better))
            }
        };
        let trouble = match &end {
            End::Status(status) => status.message().to_owned(),
            End::Silent(words) => words.clone(),
        };
        if next.is_none() {
            self.routers.failed(&router, trouble.clone());
        }
        self.pipe.change(|table, wake| {
            table.trouble = trouble;
            table.end_stream(&end, Instant::now(), &self.retries, wake);
        });
        next
    }

    /// Hands answers to their callers until the stream ends.
    async fn read(&self, router: &Router, responses: &mut Streaming<v1::PipelineResponse>) -> End {
        let mut answers = Vec::with_capacity(ANSWERS_AT_ONCE);
        let mut is_first = true;
        loop {
            let end = poll_fn(|cx| gather(responses, &mut answers, cx)).await;
            if is_first && !answers.is_empty() {
                is_first = false;
                self.routers.answered(router);
            }
            let is_good = |answer: &&v1::PipelineResponse| matches!(&answer.response, Some(body) if !matches!(body, pipeline_response::Response::Error(_)));
            self.retries.earn(answers.iter().filter(is_good).count());
            if !answers.is_empty() {
                let now = Instant::now();
                self.pipe.change(|table, wake| {
                    wake.wakers.reserve(answers.len());
                    for answer in answers.drain(..) {
                        table.answer(answer, now, &self.retries, wake);
                    }
                });
            }
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Looks now and then for the router that this pipe would prefer, and opens a stream to it.
    async fn find_better(&self, current: &Router) -> Opened {
        loop {
            sleep(self.routers.refresh_delay()).await;
            let best = self.routers.best(self.index, Instant::now());
            if let Ok(best) = best
                && best != *current
                && let Some(opened) = self.open(best).await
            {
                return opened;
            }
        }
    }
}

/// Takes all answers that have arrived; ready when there is one, or the stream's end.
fn gather(
    responses: &mut Streaming<v1::PipelineResponse>,
    answers: &mut Vec<v1::PipelineResponse>,
    cx: &mut Context<'_>,
) -> Poll<Option<End>> {
    while answers.len() < ANSWERS_AT_ONCE {
        match Pin::new(&mut *responses).poll_next(cx) {
            Poll::Ready(Some(Ok(answer))) => answers.push(answer),
            Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(End::Status(status))),
            Poll::Ready(None) => {
                let words = "the router closed the stream".to_owned();
                return Poll::Ready(Some(End::Silent(words)));
            }
            Poll::Pending if answers.is_empty() => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(None)
}
