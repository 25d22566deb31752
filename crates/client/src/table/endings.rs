//! How calls end: with an answer, with their stream, or not yet, because they are sent again.
//!
//! Writes to one key keep their order: none is sent again once a later one may have been applied.

use freehold_proto::v1::{self, pipeline_response::Response as Answer};
use tokio::time::Instant;

use super::{
    Table,
    entry::{End, Entry, State, Ticket, Wake},
};
use crate::{
    error::{CallKind, Error, Failure},
    retry::{Again, Retries},
};

impl Table {
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
                let (kind, hash, sent) = (entry.kind(), entry.hash, entry.sent);
                if entry.request.take().is_some() {
                    self.in_flight -= 1;
                    self.wake_sender(wake);
                }
                if fetched {
                    self.free(ticket);
                }
                if kind == CallKind::Write {
                    self.overtakes(hash, sent, wake);
                }
                return;
            }
            State::Free | State::Waiting | State::Pausing(..) | State::Returned(_) => return,
        }
        let (kind, hash, sent) = (entry.kind(), entry.hash, entry.sent);
        let failure = match response.response {
            Some(Answer::Error(status)) => Failure::of_item(&status, kind),
            Some(answer) => {
                self.in_flight -= 1;
                self.wake_sender_if_held(wake);
                if kind == CallKind::Write {
                    self.overtakes(hash, sent, wake);
                }
                return self.finish(ticket, Ok(answer), wake);
            }
            None => Failure::no_answer("the router answered nothing".to_owned(), kind),
        };
        self.in_flight -= 1;
        self.wake_sender_if_held(wake);
        if failure.again == Again::Elsewhere {
            return self.give_back(ticket, failure.error, retries, wake);
        }
        if kind == CallKind::Write {
            self.overtakes(hash, sent, wake);
        }
        self.fail(ticket, failure, now, retries, wake);
    }

    /// The router gave one request back, because it shuts down. What it still holds may be a later
    /// write to the same key, so this one waits until the stream is over; and the stream takes no
    /// more, or the router would only give that back too.
    fn give_back(&mut self, ticket: Ticket, error: Error, retries: &Retries, wake: &mut Wake) {
        let entry = &mut self.entries[ticket.place as usize];
        if entry.caller.is_none() {
            return self.free(ticket);
        }
        if entry.is_overtaken || retries.again(Again::Elsewhere, entry.attempts).is_none() {
            return self.finish(ticket, Err(error), wake);
        }
        entry.state = State::Returned(error);
        self.returned.push(ticket);
        self.close_stream(wake);
    }

    /// A write was answered: sent again, those before it to the same key would come after it, whatever
    /// becomes of them.
    fn overtakes(&mut self, hash: u64, sent: u64, wake: &mut Wake) {
        self.end_returned_before(hash, sent, wake);
        for place in self.writes.near(hash) {
            let entry = &mut self.entries[place as usize];
            if entry.hash == hash && entry.sent < sent && entry.is_in_flight() {
                entry.is_overtaken = true;
            }
        }
    }

    /// A write was not given back: sent again, those before it to the same key that were would come
    /// after it.
    fn end_returned_before(&mut self, hash: u64, sent: u64, wake: &mut Wake) {
        for place in 0..self.returned.len() {
            let ticket = self.returned[place];
            let Some(entry) = self.entry(ticket) else {
                continue;
            };
            let is_before =
                entry.hash == hash && entry.sent < sent && entry.kind() == CallKind::Write;
            if let State::Returned(error) = &entry.state
                && is_before
            {
                let error = error.clone();
                self.finish(ticket, Err(error), wake);
            }
        }
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
        let mut left: Vec<(u64, Ticket)> = Vec::with_capacity(self.in_flight);
        for (place, entry) in (0..).zip(&self.entries) {
            if entry.is_in_flight() || matches!(entry.state, State::Returned(_)) {
                let number = entry.number;
                left.push((entry.sent, Ticket { place, number }));
            }
        }
        left.sort_unstable_by_key(|(sent, _)| *sent);
        let verdicts = [CallKind::Read, CallKind::Write].map(|kind| end.failure(kind));
        // From the last to the first: each one that goes on goes to the head of the queue.
        for (sent, ticket) in left.into_iter().rev() {
            let entry = &mut self.entries[ticket.place as usize];
            let (kind, hash) = (entry.kind(), entry.hash);
            let verdict = &verdicts[usize::from(kind == CallKind::Write)];
            let is_returned = matches!(entry.state, State::Returned(_));
            if kind == CallKind::Write && !is_returned && verdict.again != Again::Elsewhere {
                self.end_returned_before(hash, sent, wake);
            }
            self.end_or_send_again(ticket, verdict, now, retries, wake);
        }
        debug_assert_eq!(self.in_flight, 0, "each was counted once");
        self.returned.clear();
        self.wake_sender(wake);
    }

    /// One that was left when its stream ended.
    fn end_or_send_again(
        &mut self,
        ticket: Ticket,
        verdict: &Failure,
        now: Instant,
        retries: &Retries,
        wake: &mut Wake,
    ) {
        let entry = &mut self.entries[ticket.place as usize];
        if entry.is_in_flight() {
            self.in_flight -= 1;
        }
        match entry.state {
            State::Late => self.free(ticket),
            State::Over(_) => entry.request = None,
            State::Returned(_) => {
                entry.state = State::Waiting;
                self.waiting.push_front(ticket);
            }
            State::Sent => self.fail(ticket, verdict.clone(), now, retries, wake),
            // A later write ended it just now.
            State::Free | State::Waiting | State::Pausing(..) => {}
        }
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
        let too_late = entry.kind() == CallKind::Write
            && (entry.is_overtaken
                || matches!(again, Again::After(_)) && self.is_overtaken(hash, sent));
        let pause = match too_late {
            true => None,
            false => retries.again(again, entry.attempts),
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
            self.wake_sender(wake);
        } else {
            entry.state = State::Pausing(until, error);
            self.pausing += 1;
            self.due_at(until, wake);
        }
    }

    /// Whether a later write to the same key is on its way or about to be: sent again, the earlier
    /// one would come after it.
    fn is_overtaken(&self, hash: u64, sent: u64) -> bool {
        self.writes_to(hash).any(|(_, other)| match other.state {
            // What was sent before has its place in the order.
            State::Waiting => other.attempts == 0 || other.sent > sent,
            State::Pausing(..) | State::Returned(_) => other.sent > sent,
            State::Sent | State::Late | State::Over(_) => other.is_in_flight() && other.sent > sent,
            State::Free => false,
        })
    }

    /// A new write: those to the same key that pause will not be sent any more.
    pub(super) fn overtake(&mut self, hash: u64, wake: &mut Wake) {
        let pausing = self.writes_to(hash).filter_map(|(place, entry)| {
            let State::Pausing(_, error) = &entry.state else {
                return None;
            };
            let number = entry.number;
            Some((Ticket { place, number }, error.clone()))
        });
        for (ticket, error) in pausing.collect::<Vec<_>>() {
            self.finish(ticket, Err(error), wake);
        }
    }

    /// Every write to this key that has not left the table.
    fn writes_to(&self, hash: u64) -> impl Iterator<Item = (u32, &Entry)> {
        let places = self.writes.near(hash);
        let entries = places.map(|place| (place, &self.entries[place as usize]));
        entries.filter(move |(_, entry)| entry.hash == hash)
    }

    /// Hands a result to the caller.
    pub(super) fn finish(
        &mut self,
        ticket: Ticket,
        result: Result<Answer, Error>,
        wake: &mut Wake,
    ) {
        let entry = &mut self.entries[ticket.place as usize];
        entry.request = None;
        if matches!(entry.state, State::Pausing(..)) {
            self.pausing -= 1;
        }
        match entry.caller.take() {
            Some(caller) => {
                entry.state = State::Over(result);
                wake.wakers.push(caller);
            }
            None => self.free(ticket),
        }
    }
}
