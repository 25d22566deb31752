//! A call as the table keeps it.

use std::task::Waker;

use freehold_proto::v1::{pipeline_request::Request, pipeline_response::Response as Answer};
use tokio::time::Instant;

use crate::error::{CallKind, Error, Failure};

/// A call's place in the table. The number tells calls apart that had the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(super) place: u32,
    pub(super) number: u32,
}

impl Ticket {
    /// As it stands on the wire: short, because it travels twice. The last bits of the number are
    /// enough to tell an answer that comes twice, which no router sends.
    pub(super) fn id(self) -> u64 {
        u64::from(self.place) << 8 | u64::from(self.number & 0xff)
    }
}

/// How a stream ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// With this status.
    Status(tonic::Status),
    /// Without a word.
    Silent(String),
}

impl End {
    /// What it says of a request without an answer: a router's own status is true of each.
    pub(super) fn failure(&self, kind: CallKind) -> Failure {
        match self {
            Self::Status(status) => Failure::of_status(status, kind),
            Self::Silent(words) => Failure::no_answer(words.clone(), kind),
        }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: u32,
    pub(super) state: State,
    pub(super) request: Option<Request>,
    /// Of the key's tag: whatever has another hash has another key.
    pub(super) hash: u64,
    pub(super) deadline: Instant,
    /// How often it was sent.
    pub(super) attempts: u32,
    /// When it was sent last, as a number that grows.
    pub(super) sent: u64,
    /// Whether a later write to the same key was answered while a router had it.
    pub(super) is_overtaken: bool,
    /// Of the caller; a call without one is forgotten, and nobody fetches its end.
    pub(super) caller: Option<Waker>,
}

#[derive(Debug)]
pub(super) enum State {
    Free,
    Waiting,
    Sent,
    /// Given back by a router that shuts down: it goes to the next one when the stream is over,
    /// unless a later write to its key came through. With its error, for then.
    Returned(Error),
    /// Until then; with the failure that is final if it cannot be sent again.
    Pausing(Instant, Error),
    /// Its caller fetches it. One that keeps its request is still in flight: its deadline passed.
    Over(Result<Answer, Error>),
    /// Still in flight, and its caller has been told that its deadline passed.
    Late,
}

/// What has to be woken, after the lock.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    /// Callers whose calls are over, and the sender.
    pub(crate) wakers: Vec<Waker>,
    /// Something is due earlier than anything was before.
    pub(crate) timer: bool,
}

impl Entry {
    pub(super) fn kind(&self) -> CallKind {
        self.request.as_ref().map_or(CallKind::Write, kind_of)
    }

    /// Whether a router has it and did not answer, so far as anybody knows.
    pub(super) fn is_in_flight(&self) -> bool {
        match self.state {
            State::Sent | State::Late => true,
            State::Over(_) => self.request.is_some(),
            State::Free | State::Waiting | State::Pausing(..) | State::Returned(_) => false,
        }
    }
}

/// Whether a request could change anything.
pub(crate) fn kind_of(request: &Request) -> CallKind {
    match request {
        Request::Get(_) | Request::Ttl(_) => CallKind::Read,
        Request::Put(_) | Request::Delete(_) | Request::Expire(_) => CallKind::Write,
    }
}

/// Bytes of its key and value.
pub(crate) fn bytes_of(request: &Request) -> usize {
    match request {
        Request::Put(put) => put.key.len() + put.value.len(),
        other => key_of(other).len(),
    }
}

/// Its key.
pub(crate) fn key_of(request: &Request) -> &[u8] {
    match request {
        Request::Get(get) => &get.key,
        Request::Put(put) => &put.key,
        Request::Delete(delete) => &delete.key,
        Request::Ttl(ttl) => &ttl.key,
        Request::Expire(expire) => &expire.key,
    }
}
