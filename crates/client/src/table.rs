//! The calls of one pipe: what waits to be sent, what was sent and waits for its answer, what waits
//! to be tried again, and what is over and waits to be fetched by its caller.
//!
//! Nothing here waits or talks to anybody. Whoever changes something is handed what has to be woken,
//! and wakes it after the table's lock is released.
//!
//! An [`entry`] is one call, [`endings`] has the answers, [`clock`] the deadlines, [`writes`] finds
//! the writes to a key.

mod clock;
mod endings;
mod entry;
mod writes;

use std::{collections::VecDeque, task::Waker, time::Duration};

use freehold_proto::v1::{self, pipeline_request::Request, pipeline_response::Response as Answer};
use tokio::time::Instant;

use crate::{
    error::{CLIENT_FULL, CallKind, Error},
    types::to_wire_duration,
};

pub(crate) use entry::{End, Ticket, Wake, bytes_of, key_of};
use entry::{Entry, State, kind_of};
use writes::Writes;

/// Bytes of keys and values that are handed out to be sent at once, and may be given up as unknown
/// together if the stream ends just then.
const HANDED_OUT_BYTES: usize = 16 << 10;

#[derive(Debug)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// In the order in which they will be sent.
    waiting: VecDeque<Ticket>,
    /// How many wait to be tried again.
    pausing: usize,
    /// Every write that has not left the table.
    writes: Writes,
    /// Those that the router gave back, until its stream is over. Some may be over themselves.
    returned: Vec<Ticket>,
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
            pausing: 0,
            writes: Writes::new(),
            returned: Vec::new(),
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
        if self.pausing > 0 && kind_of(&request) == CallKind::Write {
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
                is_overtaken: false,
                caller: None,
            });
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        if kind_of(&request) == CallKind::Write {
            self.writes.add(place, hash);
        }
        let entry = &mut self.entries[place as usize];
        entry.state = State::Waiting;
        entry.request = Some(request);
        entry.hash = hash;
        entry.deadline = deadline;
        entry.attempts = 0;
        entry.sent = 0;
        entry.is_overtaken = false;
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
                self.pausing -= 1;
                self.free(ticket);
            }
            State::Returned(_) => self.free(ticket),
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

    fn free(&mut self, ticket: Ticket) {
        let entry = &mut self.entries[ticket.place as usize];
        entry.state = State::Free;
        entry.request = None;
        entry.caller = None;
        entry.number = entry.number.wrapping_add(1);
        self.writes.remove(ticket.place);
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
