//! Calls at the door: how many there are at once, how much of them arrives, and how much of their
//! answers waits for the network.
//!
//! What there is no room for is refused at once, with a status that says when to try again. A
//! connection over the limit is let in for a moment for that alone (see [`linger`](crate::linger)).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::{Buf as _, Bytes};
use http_body::Frame;
use tonic::Code;

use crate::{
    budget::{Budget, Budgets, Held},
    failure::Failure,
    linger::Caller,
    metrics::Metrics,
    status,
    unread::{self, method_of},
};

/// Bytes of an answer that are given to the connection at once. The connection keeps what it was
/// given until the caller has room for it; the rest waits here, where it is counted.
const SLICE_BYTES: usize = 64 << 10;

/// What the door needs.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The bounds.
    pub budgets: Budgets,
    /// Refusals are calls, too.
    pub metrics: Metrics,
}

/// Room that the answers of a response take until it was sent.
#[derive(Debug, Clone)]
pub struct Waiting(pub Vec<Arc<Held>>);

/// Runs the call, if there is room, and explains what no method saw.
pub async fn admit(State(admission): State<Admission>, request: Request, next: Next) -> Response {
    let Admission { budgets, metrics } = &admission;
    let method = method_of(request.uri().path());
    let over = request.extensions().get::<Caller>();
    if over.is_some_and(|caller| caller.is_over_limit) {
        return refuse(method, &budgets.connections.used_up(), metrics);
    }
    let Some(call) = budgets.calls.hold(1) else {
        return refuse(method, &budgets.calls.used_up(), metrics);
    };
    let received = Received::new(&budgets.received_bytes);
    let request = request.map(|body| Body::new(Receiving { body, received }));
    let mut response = unread::run(metrics, request, next).await;
    let answers = response.extensions_mut().remove::<Waiting>();
    response.map(|body| {
        Body::new(Sending {
            body,
            slice: Bytes::new(),
            _answers: answers,
            _call: call,
        })
    })
}

fn refuse(method: &'static str, failure: &Failure, metrics: &Metrics) -> Response {
    metrics.request(method, Code::ResourceExhausted);
    status::to_status(failure).into_http()
}

/// A request's body, whose messages are counted while they arrive.
struct Receiving {
    body: Body,
    received: Received,
}

impl HttpBody for Receiving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(failure) = self.received.take(data)
        {
            let refusal = axum::Error::new(status::to_status(&failure));
            return Poll::Ready(Some(Err(refusal)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// How far the message is that arrives: its frame's header says how long it is.
#[derive(Debug)]
struct Received {
    held: Held,
    /// Of the next message's header: a flag, and the length in four bytes.
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// Bytes of the message that are still to come.
    left: usize,
}

const HEADER_BYTES: usize = 5;

impl Received {
    fn new(budget: &Arc<Budget>) -> Self {
        Self {
            held: Held::none_of(budget),
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            left: 0,
        }
    }

    /// Counts what arrived. What is whole is the reader's: it is counted no more.
    fn take(&mut self, mut data: &[u8]) -> Result<(), Failure> {
        while !data.is_empty() {
            if self.left > 0 {
                let part = self.left.min(data.len());
                data.advance(part);
                self.left -= part;
                if self.left == 0 {
                    self.held.clear();
                } else if !self.held.grow(part) {
                    return Err(self.held.budget().used_up());
                }
                continue;
            }
            self.header[self.header_bytes] = data.get_u8();
            self.header_bytes = (self.header_bytes + 1) % HEADER_BYTES;
            if self.header_bytes == 0 {
                let [_flag, length @ ..] = self.header;
                self.left = u32::from_be_bytes(length) as usize;
            }
        }
        Ok(())
    }
}

/// A response's body, with the room that it takes until it was sent.
struct Sending {
    body: Body,
    /// What came of the body and was not given to the connection yet.
    slice: Bytes,
    _answers: Option<Waiting>,
    _call: Held,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.slice.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => self.slice = data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        let bytes = self.slice.len().min(SLICE_BYTES);
        let slice = self.slice.split_to(bytes);
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.slice.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: u32) -> Vec<u8> {
        let mut message = vec![0];
        message.extend(bytes.to_be_bytes());
        message.resize(HEADER_BYTES + bytes as usize, 7);
        message
    }

    #[test]
    fn a_message_is_counted_until_it_is_whole_however_it_is_cut() {
        let stream: Vec<u8> = [0, 1, 300, 5, 0, 70_000].map(message).concat();
        for cut in [1, 2, 4, 5, 6, 299, 16 << 10, 1 << 20] {
            let budget = Budget::new("bytes", 70_000);
            let mut received = Received::new(&budget);
            for part in stream.chunks(cut) {
                assert_eq!(received.take(part), Ok(()));
                assert!(budget.level() <= 70_000);
            }
            assert_eq!(budget.level(), 0, "cut into {cut}");
        }
        let budget = Budget::new("bytes", 1_000);
        let (mut first, mut second) = (Received::new(&budget), Received::new(&budget));
        assert_eq!(first.take(&message(900)[..800]), Ok(()));
        assert_eq!(second.take(&message(900)[..105]), Ok(()));
        assert_eq!(budget.level(), 895);
        assert!(second.take(&[7; 200]).is_err());
        drop(second);
        assert_eq!(first.take(&[7; 105]), Ok(()), "the first goes on");
        assert_eq!(budget.level(), 0);
    }
}
