//! What watching has shown so far, as requests and operators ask for it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use freehold_core::{Beat, Position, Term};
use freehold_storage::watch::EndedTerm;
use tokio::{sync::Notify, time::Instant};

use crate::fitness::Fitness;

/// Of so many beats the times are kept: some minutes.
pub const BEATS_KEPT_MAX: usize = 1_024;

/// What the last look at a server showed.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What it may be used for, if it does not lead.
    pub fitness: Fitness,
    /// The term in which that was judged: it says nothing about another one. `None` if it was not.
    pub term: Option<Term>,
    /// Since when it does not follow; `None` if it does, or led a moment ago.
    pub unfit_since: Option<Instant>,
    /// Whether it led.
    pub led: bool,
    /// Whether it answered.
    pub answers: bool,
    /// The id of the server that answered.
    pub answered_by: u64,
    /// The heartbeat.
    pub beat: Beat,
    /// What it has: a statement that begins now finds that, if the server was not started again.
    pub position: Option<Position>,
    /// Of the server's connections when the look began. See [`ServerWatch::generation`].
    pub generation: u64,
}

impl Seen {
    /// Whether it shows some state of the shard in this term, as far as that was seen.
    #[must_use]
    pub fn is_of(&self, term: Option<Term>) -> bool {
        term.is_some() && self.term == term && !matches!(self.fitness, Fitness::Foreign(_))
    }

    /// Nothing yet.
    #[must_use]
    pub fn nothing(since: Instant) -> Self {
        Self {
            fitness: Fitness::Astray("not looked at yet".into()),
            term: None,
            unfit_since: Some(since),
            led: false,
            answers: true,
            answered_by: 0,
            beat: Beat { term: 0, seq: 0 },
            position: None,
            generation: 0,
        }
    }

    /// The server leads: none of what follows concerns it.
    #[must_use]
    pub fn leading(answered_by: u64) -> Self {
        Self {
            fitness: Fitness::Astray("it led when it was looked at".into()),
            led: true,
            answered_by,
            ..Self::nothing(Instant::now())
        }
    }
}

/// What is known of one server.
#[derive(Debug)]
pub struct ServerWatch {
    seen: ArcSwap<Seen>,
    generation: AtomicU64,
    /// How long a look takes, in microseconds; the latest count most.
    look_us: AtomicU64,
    /// Wakes its watcher.
    pub wake: Notify,
}

impl Default for ServerWatch {
    fn default() -> Self {
        Self {
            seen: ArcSwap::from_pointee(Seen::nothing(Instant::now())),
            generation: AtomicU64::new(0),
            look_us: AtomicU64::new(0),
            wake: Notify::new(),
        }
    }
}

impl ServerWatch {
    /// What the last look showed.
    #[must_use]
    pub fn seen(&self) -> Arc<Seen> {
        self.seen.load_full()
    }

    /// What is the same at the next look.
    pub(crate) fn seen_again(&self) -> Seen {
        Seen {
            answers: true,
            led: false,
            ..Seen::clone(&self.seen.load())
        }
    }

    pub(crate) fn set(&self, mut seen: Seen) {
        let before = self.seen.load();
        seen.unfit_since = match seen.fitness {
            Fitness::Follows | Fitness::OnlyEventual(_) => None,
            _ if seen.led => None,
            _ => before.unfit_since.or_else(|| Some(Instant::now())),
        };
        self.seen.store(Arc::new(seen));
    }

    /// Counts the connections that lanes opened to it. A server that was started again, which may
    /// have lost the end of what it had, breaks all of them: a position counts only for connections
    /// that were open before it was looked at.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A lane opened a connection: what was known of its position has to be proven again.
    pub fn reconnected(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.wake.notify_one();
    }

    pub(crate) fn note_time(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.look_us.load(Ordering::Relaxed);
        let smoothed = match before {
            0 => took_us,
            _ => before - before / 4 + took_us / 4,
        };
        self.look_us.store(smoothed, Ordering::Relaxed);
    }

    /// How long a look takes, in microseconds, at least 1.
    #[must_use]
    pub fn look_us(&self) -> u64 {
        self.look_us.load(Ordering::Relaxed).max(1)
    }
}

/// Where a shard's earlier terms ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// The term in which this was read; `None` before.
    pub of_term: Option<Term>,
    /// By the number of the term: who led in it, and where it ended.
    terms: BTreeMap<u32, (Term, Option<Position>)>,
}

impl Ended {
    /// What the leader of a term showed.
    #[must_use]
    pub fn new(of_term: Term, terms: Vec<EndedTerm>) -> Self {
        let terms = terms.into_iter().map(|ended| {
            let term = Term::new(ended.term, ended.server_id);
            (term.number, (term, ended.position))
        });
        Self {
            of_term: Some(of_term),
            terms: terms.collect(),
        }
    }

    /// Whether what a token of an earlier term names is still there. What is not known is lost, and so
    /// is all of a term whose adoption was lost: another one has its number.
    #[must_use]
    pub fn kept(&self, term: Term, position: Option<&Position>) -> bool {
        match (self.terms.get(&term.number), position) {
            (Some((of, Some(end))), Some(position)) => *of == term && end.covers(position),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beyond_the_end_of_its_term_is_lost() {
        let position = |text: &str| Position::parse(text).unwrap();
        let terms = [(1, "0-1-100"), (2, "0-2-110")].map(|(term, end)| EndedTerm {
            term,
            server_id: term * 11,
            position: Some(position(end)),
        });
        let ended = Ended::new(Term::new(3, 33), terms.into());
        let kept = |number, leader, at: Option<&str>| {
            let at = at.map(position);
            ended.kept(Term::new(number, leader), at.as_ref())
        };
        assert!(kept(1, 11, Some("0-1-100")));
        assert!(!kept(1, 11, Some("0-1-101")));
        assert!(kept(2, 22, Some("0-2-101")));
        assert!(!kept(2, 22, None), "nobody can tell");
        assert!(!kept(7, 22, Some("0-1-1")), "no such term ended");
        assert!(!kept(2, 33, Some("0-2-101")), "its adoption was lost");
    }

    #[test]
    fn how_long_a_server_is_unfit_counts_from_the_first_look_that_showed_it() {
        let watch = ServerWatch::default();
        let fit = |fitness| Seen {
            fitness,
            ..watch.seen_again()
        };
        let astray = || Fitness::Astray("stopped".into());
        watch.set(fit(Fitness::Follows));
        assert_eq!(watch.seen().unfit_since, None);
        watch.set(fit(astray()));
        let since = watch.seen().unfit_since;
        assert!(since.is_some());
        watch.set(fit(astray()));
        assert_eq!(watch.seen().unfit_since, since);
        for fine in [
            fit(Fitness::OnlyEventual("filters".into())),
            Seen::leading(1),
        ] {
            watch.set(fine);
            assert_eq!(watch.seen().unfit_since, None);
            watch.set(fit(astray()));
            assert!(watch.seen().unfit_since > since, "it counts anew");
        }
    }
}
