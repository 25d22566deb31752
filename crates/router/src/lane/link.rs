//! A lane's connections: opened, kept alive, and opened again after they broke.

use std::sync::Arc;

use freehold_core::Key;
use freehold_storage::{DataConnection, StorageError, WriterName};
use tokio::time::{Instant, timeout};

use super::{Event, IDLE_PING, Lane, Opening};
use crate::{backoff::Backoff, map_loader::standing_of, shards::Standing};

/// A connection, unless opening it failed.
pub(super) type Opened = Result<Box<dyn DataConnection>, Standing>;

/// The connection that was asked, if it lives.
pub(super) type Alive = Option<Box<dyn DataConnection>>;

/// One of a lane's connections.
pub(super) struct Link {
    /// The name under which it writes.
    writer: Option<WriterName>,
    state: State,
    /// When something came back on it.
    pub(super) last_used: Instant,
    backoff: Backoff,
    /// What the server may still be storing for the connection before, until this one has put an
    /// end to that.
    pub(super) unsettled: Unsettled,
}

/// Keys that a broken connection may still be writing.
pub(super) enum Unsettled {
    /// Those of the write under which it broke; none, if it did not.
    Keys(Vec<Key>),
    /// Any: who knew which is gone.
    Any,
}

impl Unsettled {
    pub(super) fn keys(&self) -> &[Key] {
        match self {
            Self::Keys(keys) => keys,
            Self::Any => &[],
        }
    }
}

enum State {
    /// Not before this time, and why, if it was tried.
    Closed(Instant, Option<Arc<str>>),
    Opening,
    Free(Box<dyn DataConnection>),
    /// The connection is with a job.
    Busy,
}

impl Link {
    pub(super) fn new(writer: Option<WriterName>, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            writer,
            state: State::Closed(now, None),
            last_used: now,
            backoff: Backoff::new(seed),
            unsettled: Unsettled::Keys(Vec::new()),
        }
    }

    /// One whose former connection may still be writing anything.
    pub(super) fn after_panic(mut self) -> Self {
        if self.writer.is_some() {
            self.unsettled = Unsettled::Any;
        }
        self
    }

    /// Whether its former connection may still be writing, and nobody knows what.
    pub(super) fn is_unsettled(&self) -> bool {
        matches!(self.unsettled, Unsettled::Any)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Free(_) | State::Busy)
    }

    /// Takes the connection for a job.
    pub(super) fn take(&mut self) -> Option<Box<dyn DataConnection>> {
        match std::mem::replace(&mut self.state, State::Busy) {
            State::Free(connection) => Some(connection),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The job is over, and the connection is of more use, or is not.
    pub(super) fn give_back(&mut self, connection: Option<Box<dyn DataConnection>>) {
        let now = Instant::now();
        self.last_used = now;
        self.state = match connection {
            Some(connection) => State::Free(connection),
            None => State::Closed(now, None),
        };
    }
}

impl Lane {
    /// A free connection: of several the one that was used last, so that few callers keep one busy
    /// and the others idle.
    pub(super) fn free_link(&self) -> Option<usize> {
        let links = self.links.iter().enumerate();
        let free = links.filter(|(_, link)| matches!(link.state, State::Free(_)));
        Some(free.max_by_key(|(_, link)| link.last_used)?.0)
    }

    /// Why nothing can be sent for now: no connection is open or on its way, or one that has to be
    /// first is not.
    pub(super) fn is_down(&self) -> Option<Arc<str>> {
        let now = Instant::now();
        let rests = |link: &Link| match &link.state {
            State::Closed(again_at, Some(why)) if *again_at > now => Some(why.clone()),
            _ => None,
        };
        let mut unsettled = self.links.iter().filter(|link| link.is_unsettled());
        if let Some(why) = unsettled.find_map(rests) {
            return Some(why);
        }
        let all: Option<Vec<Arc<str>>> = self.links.iter().map(rests).collect();
        all?.pop()
    }

    /// Opens what is closed, and asks what was idle for long.
    pub(super) fn tend_links(&mut self) {
        let eager = self.is_eager();
        let led_before = self.parts.opening == Opening::WhileLeading && !eager;
        let wanted = eager || (self.parts.opening == Opening::OnDemand && !self.backlog.is_empty());
        let now = Instant::now();
        for index in 0..self.links.len() {
            match &self.links[index].state {
                State::Free(_) if led_before => self.links[index].give_back(None),
                State::Closed(again_at, failed)
                    if *again_at <= now
                        && wanted
                        && (eager || failed.is_none() || !self.is_opening()) =>
                {
                    self.open(index);
                }
                State::Free(_) if self.links[index].last_used + IDLE_PING <= now => self.ask(index),
                _ => {}
            }
        }
    }

    /// Whether a connection is on its way. One that is opened on demand and failed waits for the
    /// others: else some attempt would always be on its way, and nobody learn that the server is
    /// down.
    fn is_opening(&self) -> bool {
        let mut links = self.links.iter();
        links.any(|link| matches!(link.state, State::Opening))
    }

    /// When [`Self::tend_links`] has something to do, if nothing happens before.
    pub(super) fn links_due(&self) -> Option<Instant> {
        let eager = self.is_eager();
        let due = |link: &Link| match &link.state {
            State::Closed(again_at, _) if eager => Some(*again_at),
            State::Free(_) => Some(link.last_used + IDLE_PING),
            _ => None,
        };
        self.links.iter().filter_map(due).min()
    }

    /// Opens a connection and checks whose server it is.
    fn open(&mut self, index: usize) {
        let link = &mut self.links[index];
        link.state = State::Opening;
        let writer = link.writer.clone();
        let (server, shards) = (self.server().server.load_full(), self.parts.shards.clone());
        let (shard, leads) = (self.parts.shard, self.leads());
        let connect_timeout = self.parts.connect_timeout;
        let statement_timeout = self.parts.statement_timeout;
        let opening = async move {
            let mut connection = match &writer {
                Some(name) => server.connect_writer(name, statement_timeout).await?,
                None => server.connect().await?,
            };
            let claims = connection.claims(u64::MAX).await?;
            let checked = shards.check_identity(shard, &claims.identity, leads);
            Ok::<_, StorageError>((connection, checked))
        };
        self.jobs.push(Box::pin(async move {
            let opened = match timeout(connect_timeout, opening).await {
                Ok(Ok((connection, Ok(())))) => Ok(connection),
                Ok(Ok((_, Err(problem)))) => Err(Standing::Unfit(problem.into())),
                Ok(Err(error)) => Err(standing_of(&error)),
                Err(_) => Err(Standing::Down(
                    format!("no connection within {connect_timeout:?}").into(),
                )),
            };
            Event::Opened(index, opened)
        }));
    }

    /// Without any connection, nor one on its way, everything that waits is ended: nothing of it was
    /// sent.
    pub(super) fn opened(&mut self, index: usize, opened: Opened) {
        let serves = self.links.iter().any(Link::is_open);
        let link = &mut self.links[index];
        let standing = match opened {
            Ok(connection) => {
                link.backoff.reset();
                link.unsettled = Unsettled::Keys(Vec::new());
                link.give_back(Some(connection));
                if !self.writes() {
                    self.server().watch.reconnected();
                }
                Standing::Usable
            }
            Err(standing) => {
                let rest = match self.parts.opening {
                    // The next request may try again at once, unless another connection serves it.
                    Opening::OnDemand if !serves => std::time::Duration::ZERO,
                    _ => link.backoff.after_failure(),
                };
                link.state = State::Closed(Instant::now() + rest, Some(standing.reason()));
                standing
            }
        };
        let reason = standing.reason();
        let hopeful = |link: &Link| link.is_open() || matches!(link.state, State::Opening);
        let none_left = !self.links.iter().any(hopeful);
        // What waits for this one would wait for long.
        let has_to_be_first = self.links[index].is_unsettled();
        if standing == Standing::Usable || none_left {
            self.note(standing);
        }
        if none_left || has_to_be_first {
            self.fail_waiting(&reason);
        }
    }

    /// The standing of the server that leads is the map loader's to say; a replica's is its lanes'.
    /// One that connects on demand says no more than that it succeeded: it would not try again, if
    /// nothing is sent to a server that is down.
    fn note(&self, standing: Standing) {
        let is_usable = standing == Standing::Usable;
        if self.leads() || (self.parts.opening == Opening::OnDemand && !is_usable) {
            return;
        }
        self.server().set_standing(standing);
    }

    /// A connection was of use. Whatever was said of the server before, by others or while it led,
    /// is over.
    pub(super) fn note_life(&self) {
        if **self.server().standing.load() != Standing::Usable {
            self.note(Standing::Usable);
        }
    }

    /// Asks a free connection whether it lives.
    pub(super) fn ask(&mut self, index: usize) {
        let Some(mut connection) = self.links[index].take() else {
            return;
        };
        let answer_within = self.parts.connect_timeout;
        self.jobs.push(Box::pin(async move {
            let alive = matches!(timeout(answer_within, connection.ping()).await, Ok(Ok(())));
            Event::Asked(index, alive.then_some(connection))
        }));
    }
    /// The answer to whether it lives.
    pub(super) fn asked(&mut self, index: usize, alive: Alive) {
        match alive {
            Some(_) => self.note_life(),
            None => tracing::debug!(shard = %self.name, "an idle connection had died"),
        }
        self.links[index].give_back(alive);
    }
}
