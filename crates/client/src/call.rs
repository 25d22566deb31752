//! One call, from its request to its typed reply.

use std::{
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use freehold_core::key;
use freehold_proto::v1::{pipeline_request::Request, pipeline_response::Response as Answer};
use tokio::time::Instant;

use crate::{
    client::{Client, REQUEST_BYTES_MAX, deadline_of},
    error::{CallKind, Error},
    table::{self, Ticket},
    types::{
        Consistency, DeleteReply, ExpireReply, GetReply, PutReply, TtlReply, to_wire_duration,
    },
};

/// A call that will end with an `R`. It is sent when it is first polled, and needs nothing
/// borrowed: it may be awaited here or in a task of its own.
///
/// Dropping one that was not sent yet takes it back. One that was sent goes on: a write whose call
/// was dropped may have been applied or not.
#[must_use = "a call is made when it is awaited"]
#[derive(Debug)]
pub struct Call<R> {
    client: Client,
    timeout: Duration,
    stage: Stage,
    reply: PhantomData<fn() -> R>,
}

#[derive(Debug)]
enum Stage {
    New(Request),
    Made { pipe: usize, ticket: Ticket },
    Over,
}

/// What a call can end with.
pub trait Reply: sealed::Sealed + Sized {}

pub(crate) mod sealed {
    use freehold_proto::v1::pipeline_response::Response;

    use crate::error::CallKind;

    pub trait Sealed: Sized {
        const KIND: CallKind;

        /// `None` if it is the answer to something else.
        fn of(answer: Response) -> Option<Self>;
    }
}

macro_rules! replies {
    ($($reply:ident: $kind:ident $answer:ident),+) => {$(
        impl Reply for $reply {}

        impl sealed::Sealed for $reply {
            const KIND: CallKind = CallKind::$kind;

            fn of(answer: Answer) -> Option<Self> {
                match answer {
                    Answer::$answer(answer) => Some(answer.into()),
                    _ => None,
                }
            }
        }
    )+};
}

replies!(
    GetReply: Read Get,
    PutReply: Write Put,
    DeleteReply: Write Delete,
    TtlReply: Read Ttl,
    ExpireReply: Write Expire
);

impl<R> Call<R> {
    pub(crate) fn new(client: Client, request: Request) -> Self {
        Self {
            timeout: client.options().timeout,
            client,
            stage: Stage::New(request),
            reply: PhantomData,
        }
    }

    /// What this call may take in all, instead of [`ClientOptions::timeout`].
    ///
    /// [`ClientOptions::timeout`]: crate::ClientOptions::timeout
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn request(&mut self) -> Option<&mut Request> {
        match &mut self.stage {
            Stage::New(request) => Some(request),
            Stage::Made { .. } | Stage::Over => None,
        }
    }

    fn make(&self, request: Request, cx: &Context<'_>) -> Result<(usize, Ticket), Error> {
        let bytes = table::bytes_of(&request);
        if bytes > REQUEST_BYTES_MAX {
            // A router would end the whole stream over it.
            return Err(Error::InvalidArgument {
                field: "value".to_owned(),
                message: format!(
                    "key and value have {bytes} bytes: a request has {REQUEST_BYTES_MAX} at most"
                ),
            });
        }
        let hash = key::hash(key::tag(table::key_of(&request)));
        let pipe = self.client.pipe_of(hash);
        let deadline = deadline_of(Instant::now(), self.timeout);
        let pipes = self.client.pipes();
        let ticket = pipes[pipe].submit(request, hash, deadline, cx.waker())?;
        Ok((pipe, ticket))
    }
}

impl Call<GetReply> {
    /// How fresh the answer must be.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        if let Some(Request::Get(get)) = self.request() {
            get.read = consistency.to_wire();
        }
        self
    }
}

impl Call<TtlReply> {
    /// How fresh the answer must be.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        if let Some(Request::Ttl(ttl)) = self.request() {
            ttl.read = consistency.to_wire();
        }
        self
    }
}

impl Call<PutReply> {
    /// How long the key lives: 1 ms to 100 years. `None`, and a put without this, means for ever.
    pub fn ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        if let Some(Request::Put(put)) = self.request() {
            put.ttl = ttl.into().map(to_wire_duration);
        }
        self
    }
}

impl<R: Reply> Future for Call<R> {
    type Output = Result<R, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match std::mem::replace(&mut this.stage, Stage::Over) {
            Stage::New(request) => match this.make(request, cx) {
                Ok((pipe, ticket)) => {
                    this.stage = Stage::Made { pipe, ticket };
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(error)),
            },
            Stage::Made { pipe, ticket } => {
                let Some(result) = this.client.pipes()[pipe].fetch(ticket, cx.waker()) else {
                    this.stage = Stage::Made { pipe, ticket };
                    return Poll::Pending;
                };
                Poll::Ready(result.and_then(|answer| {
                    let other = || {
                        Error::no_answer("the router answered another question".to_owned(), R::KIND)
                    };
                    R::of(answer).ok_or_else(other)
                }))
            }
            Stage::Over => panic!("a call was polled after its end"),
        }
    }
}

impl<R> Drop for Call<R> {
    fn drop(&mut self) {
        if let Stage::Made { pipe, ticket } = self.stage {
            self.client.pipes()[pipe].forget(ticket);
        }
    }
}
