//! Deadlines, pauses, and the end of everything.

use tokio::time::Instant;

use super::{
    Table,
    entry::{State, Ticket, Wake},
};
use crate::error::Error;

impl Table {
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
                State::Waiting | State::Sent | State::Returned(_) => entry.deadline,
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
            self.pausing -= 1;
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
                State::Returned(ref error) => error.clone(),
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

    /// Ends a call whose deadline has passed, with the truth for its state.
    fn end_late(&mut self, ticket: Ticket, wake: &mut Wake) {
        let entry = &self.entries[ticket.place as usize];
        let error = match &entry.state {
            State::Waiting => Error::not_sent(&format!(
                "the deadline passed while it waited ({})",
                self.trouble
            )),
            State::Pausing(_, error) | State::Returned(error) => error.clone(),
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
        self.finish(ticket, Err(error), wake);
    }
}
