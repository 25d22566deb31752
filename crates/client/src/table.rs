//! The calls of one pipe: what waits to be sent, what was sent and waits for its answer, what waits
//! to be tried again, and what is over and waits to be fetched by its caller.
//!
//! Nothing here waits or talks to anybody. Whoever changes something is handed what has to be woken,
//! and wakes it after the table's lock is released.

use std::{collections::VecDeque, task::Waker, time::Duration};

use freehold_proto::v1::{self, pipeline_request::Request, pipeline_response::Response as Answer};
use tokio::time::Instant;

use crate::{
    error::{CLIENT_FULL, CallKind, Error, Failure},
    retry::{Again, Retries},
    types::to_wire_duration,
};

/// Bytes of keys and values that are handed out to be sent at once, and may be given up as unknown
/// together if the stream ends just then.
const HANDED_OUT_BYTES: usize = 16 << 10;

/// A call's place in the table. The number tells calls apart that had the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    place: u32,
    number: u32,
}

impl Ticket {
    /// As it stands on the wire: short, because it travels twice. The last bits of the number are
    /// enough to tell an answer that comes twice, which no router sends.
    fn id(self) -> u64 {
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
    fn failure(&self, kind: CallKind) -> Failure {
        match self {
            Self::Status(status) => Failure::of_status(status, kind),
            Self::Silent(words) => Failure::no_answer(words.clone(), kind),
        }
    }
}

#[derive(Debug)]
struct Entry {
    number: u32,
    state: State,
    request: Option<Request>,
    /// Of the key's tag: whatever has another hash has another key.
    hash: u64,
    deadline: Instant,
    /// How often it was sent.
    attempts: u32,
    /// When it was sent last, as a number that grows.
    sent: u64,
    /// Of the caller; a call without one is forgotten, and nobody fetches its end.
    caller: Option<Waker>,
}

#[derive(Debug)]
enum State {
    Free,
    Waiting,
    Sent,
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

#[derive(Debug)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// In the order in which they will be sent.
    waiting: VecDeque<Ticket>,
    /// Those that wait to be tried again, with their hashes.
    pausing: Vec<(u64, Ticket)>,
    in_flight: usize,
    in_flight_max: usize,
    waiting_max: usize,
    /// Nothing is due before that.
    earliest: Option<Instant>,
    next_sent: u64,
    /// The newest stream, and whether it may take requests.
    stream: u64,
    stream_is_open: bool,
    /// Of a stream that found nothing to send, or is not open yet.
    sender: Option<Waker>,
    /// The newest stream that was named, which may not be open yet.
    newest_stream: u64,
    /// Of that one.
    newest_sender: Option<Waker>,
    /// Why nothing could be sent lately, for people.
    pub(crate) trouble: String,
    closed: bool,
}

impl Table {
    pub(crate) fn new(in_flight_max: usize, waiting_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            pausing: Vec::new(),
            in_flight: 0,
            in_flight_max,
            waiting_max,
            earliest: None,
            next_sent: 0,
            stream: 0,
            stream_is_open: false,
            sender: None,
            newest_stream: 0,
            newest_sender: None,
            trouble: "no connection yet".to_owned(),
            closed: false,
        }
    }

    /// Puts a request at the end of the queue.
    pub(crate) fn submit(
        &mut self,
        request: Request,
        hash: u64,
        deadline: Instant,
        caller: &Waker,
        wake: &mut Wake,
    ) -> Result<Ticket, Error> {
        if self.closed {
            return Err(Error::not_sent("the client's runtime has ended"));
        }
        if self.waiting.len() >= self.waiting_max {
            self.drop_forgotten();
        }
        if self.waiting.len() >= self.waiting_max {
            return Err(full(self.waiting_max));
        }
        if !self.pausing.is_empty() && kind_of(&request) == CallKind::Write {
            self.overtake(hash, wake);
        }
        let ticket = self.enter(request, hash, deadline, caller);
        self.waiting.push_back(ticket);
        self.due_at(deadline, wake);
        self.wake_sender(wake);
        Ok(ticket)
    }

    fn enter(&mut self, request: Request, hash: u64, deadline: Instant, caller: &Waker) -> Ticket {
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                number: 0,
                state: State::Free,
                request: None,
                hash: 0,
                deadline,
                attempts: 0,
                sent: 0,
                caller: None,
            });
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        let entry = &mut self.entries[place as usize];
        entry.state = State::Waiting;
        entry.request = Some(request);
        entry.hash = hash;
        entry.deadline = deadline;
        entry.attempts = 0;
        entry.caller = Some(caller.clone());
        Ticket {
            place,
            number: entry.number,
        }
    }

    /// The end of a call, if it is over; else `caller` is woken when it is.
    pub(crate) fn fetch(
        &mut self,
        ticket: Ticket,
        caller: &Waker,
    ) -> Option<Result<Answer, Error>> {
        let entry = self.entry(ticket)?;
        let State::Over(_) = entry.state else {
            match &mut entry.caller {
                Some(known) => known.clone_from(caller),
                none => *none = Some(caller.clone()),
            }
            return None;
        };
        let is_in_flight = entry.request.is_some();
        let state = if is_in_flight {
            State::Late
        } else {
            State::Free
        };
        let State::Over(result) = std::mem::replace(&mut entry.state, state) else {
            unreachable!("it was over a moment ago");
        };
        entry.caller = None;
        if !is_in_flight {
            self.free(ticket);
        }
        Some(result)
    }

    /// Nobody waits for a call any more. One that was not sent never will be.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        let Some(entry) = self.entry(ticket) else {
            return;
        };
        entry.caller = None;
        match entry.state {
            State::Over(_) if entry.request.is_some() => entry.state = State::Late,
            State::Over(_) => self.free(ticket),
            State::Pausing(..) => {
                self.pausing.retain(|(_, other)| *other != ticket);
                self.free(ticket);
            }
            State::Free | State::Waiting | State::Sent | State::Late => {}
        }
    }

    /// A number for a stream that will be opened.
    pub(crate) fn name_stream(&mut self) -> u64 {
        self.newest_stream += 1;
        self.newest_sender = None;
        self.newest_stream
    }

    /// This stream takes requests from now on, and none before it ever again.
    pub(crate) fn open_stream(&mut self, stream: u64, wake: &mut Wake) {
        debug_assert_eq!(stream, self.newest_stream, "streams are opened one by one");
        (self.stream, self.stream_is_open) = (stream, true);
        self.wake_sender(wake);
        wake.wakers.extend(self.newest_sender.take());
    }

    /// No stream takes requests any more.
    pub(crate) fn close_stream(&mut self, wake: &mut Wake) {
        self.stream_is_open = false;
        self.wake_sender(wake);
    }

    /// Moves what may be sent now into `out`. False if this stream may take no more, ever;
    /// otherwise `sender` is woken when there is something, if nothing was there.
    pub(crate) fn take(
        &mut self,
        stream: u64,
        now: Instant,
        out: &mut VecDeque<v1::PipelineRequest>,
        sender: &Waker,
    ) -> bool {
        if stream > self.stream {
            self.newest_sender = Some(sender.clone());
            return true;
        }
        if stream < self.stream || !self.stream_is_open {
            return false;
        }
        let mut bytes = 0;
        while self.in_flight < self.in_flight_max && bytes < HANDED_OUT_BYTES {
            let Some(ticket) = self.waiting.pop_front() else {
                break;
            };
            let sent = self.next_sent;
            let Some(entry) = self.entry(ticket) else {
                continue;
            };
            if !matches!(entry.state, State::Waiting) || entry.deadline <= now {
                // The next tick ends it, if nothing has.
                continue;
            }
            if entry.caller.is_none() {
                self.free(ticket);
                continue;
            }
            let left = entry.deadline.saturating_duration_since(now);
            // Whole milliseconds are enough, and shorter on the wire.
            let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            entry.state = State::Sent;
            entry.attempts += 1;
            entry.sent = sent;
            let request = entry.request.clone();
            bytes += request.as_ref().map_or(0, bytes_of);
            out.push_back(v1::PipelineRequest {
                id: ticket.id(),
                request,
                timeout: Some(to_wire_duration(left)),
            });
            self.next_sent += 1;
            self.in_flight += 1;
        }
        if out.is_empty() {
            self.sender = Some(sender.clone());
        }
        true
    }

    /// An answer came.
    pub(crate) fn answer(
        &mut self,
        response: v1::PipelineResponse,
        now: Instant,
        retries: &Retries,
        wake: &mut Wake,
    ) {
        // An answer that nobody waits for is the router's mistake; there is nobody to tell.
        let Some(ticket) = self.ticket_of(response.id) else {
            return;
        };
        let entry = &mut self.entries[ticket.place as usize];
        match entry.state {
            State::Sent => {}
            State::Late | State::Over(_) => {
                // It was counted until now; its caller has been told what it can know.
                let fetched = matches!(entry.state, State::Late);
                if entry.request.take().is_some() {
                    self.in_flight -= 1;
                    self.wake_sender(wake);
                }
                if fetched {
                    self.free(ticket);
                }
                return;
            }
            State::Free | State::Waiting | State::Pausing(..) => return,
        }
        let kind = entry.kind();
        let failure = match response.response {
            Some(Answer::Error(status)) => Failure::of_item(&status, kind),
            Some(answer) => {
                self.in_flight -= 1;
                self.wake_sender_if_held(wake);
                return self.finish(ticket, Ok(answer), wake);
            }
            None => Failure::no_answer("the router answered nothing".to_owned(), kind),
        };
        self.in_flight -= 1;
        self.wake_sender_if_held(wake);
        self.fail(ticket, failure, now, retries, wake);
    }

    /// A stream ended: whatever was sent on it and not answered ends too, or is sent again. What is
    /// sent again at once keeps its order, ahead of what was never sent.
    pub(crate) fn end_stream(
        &mut self,
        end: &End,
        now: Instant,
        retries: &Retries,
        wake: &mut Wake,
    ) {
        self.stream_is_open = false;
        let mut lost: Vec<(u64, Ticket)> = Vec::with_capacity(self.in_flight);
        for (place, entry) in (0..).zip(&self.entries) {
            let is_in_flight = match entry.state {
                State::Sent | State::Late => true,
                State::Over(_) => entry.request.is_some(),
                State::Free | State::Waiting | State::Pausing(..) => false,
            };
            if is_in_flight {
                let number = entry.number;
                lost.push((entry.sent, Ticket { place, number }));
            }
        }
        debug_assert_eq!(lost.len(), self.in_flight, "each is counted once");
        self.in_flight = 0;
        lost.sort_unstable_by_key(|(sent, _)| *sent);
        let verdicts = [CallKind::Read, CallKind::Write].map(|kind| end.failure(kind));
        // From the last to the first: each one that goes on goes to the head of the queue.
        for (_, ticket) in lost.into_iter().rev() {
            let entry = &mut self.entries[ticket.place as usize];
            match entry.state {
                State::Late => self.free(ticket),
                State::Over(_) => entry.request = None,
                _ => {
                    let failure = verdicts[usize::from(entry.kind() == CallKind::Write)].clone();
                    self.fail(ticket, failure, now, retries, wake);
                }
            }
        }
        self.wake_sender(wake);
    }

    /// Ends what is past its deadline, and queues again what has paused long enough. Returns when
    /// to come again.
    pub(crate) fn tick(&mut self, now: Instant, wake: &mut Wake) -> Option<Instant> {
        let (mut earliest, mut late, mut rested) = (None, Vec::new(), Vec::new());
        for (place, entry) in (0..).zip(&self.entries) {
            let ticket = Ticket {
                place,
                number: entry.number,
            };
            let due = match entry.state {
                State::Free | State::Late | State::Over(_) => continue,
                State::Waiting | State::Sent => entry.deadline,
                State::Pausing(until, _) if until <= now => {
                    rested.push(ticket);
                    entry.deadline
                }
                State::Pausing(until, _) => until.min(entry.deadline),
            };
            if entry.deadline <= now {
                late.push(ticket);
            } else {
                earliest = Some(earliest.map_or(due, |earliest: Instant| earliest.min(due)));
            }
        }
        self.earliest = earliest;
        for ticket in rested {
            self.pausing.retain(|(_, other)| *other != ticket);
            self.entries[ticket.place as usize].state = State::Waiting;
            self.waiting.push_back(ticket);
        }
        let dropped_any = !late.is_empty();
        for ticket in late {
            self.end_late(ticket, wake);
        }
        if dropped_any {
            self.drop_forgotten();
        }
        self.wake_sender(wake);
        earliest
    }

    /// Ends everything, for good.
    pub(crate) fn close(&mut self, wake: &mut Wake) {
        self.closed = true;
        self.stream_is_open = false;
        for place in 0..self.entries.len() {
            let entry = &self.entries[place];
            let ticket = Ticket {
                place: u32::try_from(place).unwrap_or(u32::MAX),
                number: entry.number,
            };
            let error = match entry.state {
                State::Waiting | State::Pausing(..) => {
                    Error::not_sent("the client's runtime has ended")
                }
                State::Sent => {
                    Error::no_answer("the client's runtime has ended".to_owned(), entry.kind())
                }
                State::Free | State::Late | State::Over(_) => continue,
            };
            self.finish(ticket, Err(error), wake);
        }
        self.wake_sender(wake);
    }

    /// Sends a failed request again, or ends it.
    fn fail(
        &mut self,
        ticket: Ticket,
        failure: Failure,
        now: Instant,
        retries: &Retries,
        wake: &mut Wake,
    ) {
        let Failure { error, again } = failure;
        let entry = &self.entries[ticket.place as usize];
        let (hash, sent, deadline) = (entry.hash, entry.sent, entry.deadline);
        if entry.caller.is_none() {
            return self.free(ticket);
        }
        let pause = if entry.kind() == CallKind::Write
            && again != Again::Elsewhere
            && self.is_overtaken(hash, sent)
        {
            None
        } else {
            retries.again(again, entry.attempts)
        };
        let until = match pause {
            None => return self.finish(ticket, Err(error), wake),
            Some(pause) => now + pause,
        };
        if until >= deadline {
            return self.finish(ticket, Err(error), wake);
        }
        let entry = &mut self.entries[ticket.place as usize];
        if until <= now {
            entry.state = State::Waiting;
            self.waiting.push_front(ticket);
        } else {
            entry.state = State::Pausing(until, error);
            self.pausing.push((hash, ticket));
            self.due_at(until, wake);
        }
    }

    /// Whether a later write to the same key is on its way or about to be: sent again, the earlier
    /// one would come after it.
    fn is_overtaken(&self, hash: u64, sent: u64) -> bool {
        self.entries.iter().any(|other| {
            let later = match other.state {
                State::Waiting => true,
                State::Sent | State::Pausing(..) | State::Late => other.sent > sent,
                State::Free | State::Over(_) => false,
            };
            later && other.hash == hash && other.kind() == CallKind::Write
        })
    }

    /// A new write: those to the same key that pause will not be sent any more.
    fn overtake(&mut self, hash: u64, wake: &mut Wake) {
        let mut ended = Vec::new();
        for (_, ticket) in self.pausing.iter().filter(|(other, _)| *other == hash) {
            if self.entries[ticket.place as usize].kind() == CallKind::Write {
                ended.push(*ticket);
            }
        }
        for ticket in ended {
            self.pausing.retain(|(_, other)| *other != ticket);
            let entry = &mut self.entries[ticket.place as usize];
            if let State::Pausing(_, error) = &entry.state {
                let error = error.clone();
                self.finish(ticket, Err(error), wake);
            }
        }
    }

    /// Ends a call whose deadline has passed, with the truth for its state.
    fn end_late(&mut self, ticket: Ticket, wake: &mut Wake) {
        let entry = &self.entries[ticket.place as usize];
        let error = match &entry.state {
            State::Waiting => Error::not_sent(&format!(
                "the deadline passed while it waited ({})",
                self.trouble
            )),
            State::Pausing(_, error) => error.clone(),
            State::Sent => {
                // It stays in flight until its answer comes, which makes room, or its stream ends.
                let error = Error::no_answer(
                    "the deadline passed before the answer came".to_owned(),
                    entry.kind(),
                );
                let entry = &mut self.entries[ticket.place as usize];
                match entry.caller.take() {
                    Some(caller) => {
                        entry.state = State::Over(Err(error));
                        wake.wakers.push(caller);
                    }
                    None => entry.state = State::Late,
                }
                return;
            }
            State::Free | State::Late | State::Over(_) => return,
        };
        self.pausing.retain(|(_, other)| *other != ticket);
        self.finish(ticket, Err(error), wake);
    }

    /// Hands a result to the caller.
    fn finish(&mut self, ticket: Ticket, result: Result<Answer, Error>, wake: &mut Wake) {
        let entry = &mut self.entries[ticket.place as usize];
        entry.request = None;
        match entry.caller.take() {
            Some(caller) => {
                entry.state = State::Over(result);
                wake.wakers.push(caller);
            }
            None => self.free(ticket),
        }
    }

    fn free(&mut self, ticket: Ticket) {
        let entry = &mut self.entries[ticket.place as usize];
        entry.state = State::Free;
        entry.request = None;
        entry.caller = None;
        entry.number = entry.number.wrapping_add(1);
        self.free.push(ticket.place);
    }

    fn ticket_of(&self, id: u64) -> Option<Ticket> {
        let place = u32::try_from(id >> 8).ok()?;
        let number = self.entries.get(place as usize)?.number;
        let ticket = Ticket { place, number };
        (ticket.id() == id).then_some(ticket)
    }

    fn entry(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(ticket.place as usize)?;
        (entry.number == ticket.number).then_some(entry)
    }

    /// Takes those out of the queue that nobody waits for, or that have ended.
    fn drop_forgotten(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|ticket| match self.entry(*ticket) {
            Some(Entry {
                state: State::Waiting,
                caller: Some(_),
                ..
            }) => true,
            Some(Entry {
                state: State::Waiting,
                ..
            }) => {
                self.free(*ticket);
                false
            }
            _ => false,
        });
        self.waiting = waiting;
    }

    fn due_at(&mut self, at: Instant, wake: &mut Wake) {
        if self.earliest.is_none_or(|earliest| at < earliest) {
            self.earliest = Some(at);
            wake.timer = true;
        }
    }

    fn wake_sender(&mut self, wake: &mut Wake) {
        wake.wakers.extend(self.sender.take());
    }

    /// After room was made, and only if something waits for it.
    fn wake_sender_if_held(&mut self, wake: &mut Wake) {
        if !self.waiting.is_empty() {
            self.wake_sender(wake);
        }
    }
}

impl Entry {
    fn kind(&self) -> CallKind {
        self.request.as_ref().map_or(CallKind::Write, kind_of)
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

fn full(waiting_max: usize) -> Error {
    Error::NotApplied {
        reason: CLIENT_FULL.to_owned(),
        message: format!(
            "not sent: {waiting_max} calls wait to be sent already; send fewer, or add routers"
        ),
        retry_after: None,
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
