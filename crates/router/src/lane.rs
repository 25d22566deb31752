//! A lane: a bounded queue, and the few connections that carry what waits in it.
//!
//! Whatever waits when nothing is out goes out at once, as one statement. While one statement is
//! out, the next goes on another connection once enough waits (as much as is out if that is fewer
//! than 8 rows; else twice as much, at most a full statement, of reads two), or after 10 ms; or when
//! that one comes back, before its own requests are answered. So batches stay large, a lone caller
//! never waits for company, few callers get a statement each, and what hangs holds nobody up.
//!
//! Meanwhile the lane ends requests whose deadlines pass, each with the truth for its own stage.
//!
//! What it writes to one key is stored in the order it came in: a key is in one statement at a time,
//! and if a connection breaks under a write, its keys wait until the connection's successor has put
//! an end to what it may still be writing ([`WriterName`]). (Callers whose write's outcome is
//! unknown may find it applied or not, but never applied over a later write of this lane.)
//!
//! One task runs the whole lane: whatever takes time is a job beside it, whose event it awaits.

mod company;
mod execute;
mod flight;
mod hooks;
mod link;
mod settle;

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use foldhash::fast::RandomState;
use freehold_core::{Fence, Key, ShardId};
use freehold_storage::WriterName;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::oneshot,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until},
};

use self::{
    company::{Company, Out},
    flight::{Flight, Landed},
    link::Link,
};
use crate::{
    batch::{BatchLimits, Place, cut, place_of},
    budget::Budget,
    failure::Failure,
    metrics::LaneMetrics,
    queue::Queue,
    request::{Needs, Request},
    shards::{ServerLanes, Shards, Standing},
};

/// How often deadlines are looked at while something waits or is out. Half of the smallest margin
/// that a deadline is moved forward by.
const DEADLINE_TICK: Duration = Duration::from_millis(5);

/// A connection that was idle for longer is asked whether it still lives before it is used: a
/// statement sent into a dead one would have an unknown outcome.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);

/// How often an idle connection is asked whether it lives, so that a server's state is known.
const IDLE_PING: Duration = Duration::from_secs(5);

/// The pause after a fence that went on disagreeing when the map was loaded again.
const DISAGREE_PAUSE: Duration = Duration::from_millis(20);

/// When a lane opens its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// At once, and again whenever one broke.
    Eager,
    /// As [`Self::Eager`] while the server leads its shard; else there are none.
    WhileLeading,
    /// With the first request.
    OnDemand,
}

/// What a lane is made of.
#[derive(Clone)]
pub struct LaneParts {
    /// Map and queues.
    pub shards: Arc<Shards>,
    /// Whose lane.
    pub shard: ShardId,
    /// The place of its server in the config.
    pub place: usize,
    /// One for each connection: the name under which it writes; absent if it only reads.
    pub writers: Vec<Option<WriterName>>,
    /// Where requests come from.
    pub queue: Arc<Queue>,
    /// When connections are opened.
    pub opening: Opening,
    /// How long an answer may take before the connection is given up.
    pub statement_timeout: Duration,
    /// How long opening a connection may take, its first look included.
    pub connect_timeout: Duration,
    /// Room for the values of answers, in the whole router.
    pub answer_bytes: Arc<Budget>,
    /// What is counted.
    pub metrics: LaneMetrics,
    /// For jitter.
    pub seed: u64,
}

/// The worker behind one queue.
pub struct Lane {
    parts: LaneParts,
    name: Arc<str>,
    /// Taken from the queue, not yet sent; oldest first.
    backlog: VecDeque<Request>,
    links: Vec<Link>,
    /// The statements that are out.
    flights: Vec<Flight>,
    /// How many statements were sent.
    flights_begun: u64,
    /// A statement that came back, and is answered once the next one is on its way.
    landed: Option<Landed>,
    /// Statements that came back so late that their server may not have led any more.
    doubted: Vec<Landed>,
    jobs: FuturesUnordered<BoxFuture<'static, Event>>,
    /// Whether the map is being loaded: nothing is sent until it is there.
    is_reloading: bool,
    /// Whether its server led when the lane last looked.
    led: bool,
    /// Each with the number of the first statement that began after it came.
    barriers: Vec<(u64, Vec<oneshot::Sender<()>>)>,
    company: Company,
    /// How many connections metrics show as open.
    counted: usize,
    /// How many rows of reads they show as out.
    counted_rows: usize,
    tick: Interval,
}

/// What a lane waits for.
enum Event {
    /// Something may be in the queue, or it was closed.
    Queued,
    /// Time to look at deadlines.
    Tick,
    /// A connection may be opened again, or was idle for long.
    Due,
    /// A connection was opened, or was not.
    Opened(usize, link::Opened),
    /// An idle connection was asked whether it lives.
    Asked(usize, link::Alive),
    /// A statement came back, or never will.
    Answered(Box<flight::Answered>),
    /// Whether the server of a statement that came back late led when it came.
    Confirmed(u64, bool),
    /// Nothing else is to be done before requests are answered.
    Landed,
    /// The map was looked at again; whether because the fence had turned something away.
    Reloaded { turned_away: bool },
}

impl Lane {
    /// A lane without connections. After a panic of one of the same parts, whose statements may
    /// still be running, it writes nothing before each of its connections has taken over from its
    /// former one.
    #[must_use]
    pub fn new(parts: LaneParts, after_panic: bool) -> Self {
        let mut tick = interval(DEADLINE_TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let links = parts.writers.iter().zip(parts.seed..);
        Self {
            name: parts.shards.shard(parts.shard).name.clone(),
            backlog: VecDeque::new(),
            links: links
                .map(|(writer, seed)| Link::new(writer.clone(), seed))
                .map(|link| {
                    if after_panic {
                        link.after_panic()
                    } else {
                        link
                    }
                })
                .collect(),
            flights: Vec::new(),
            flights_begun: 0,
            landed: None,
            doubted: Vec::new(),
            jobs: FuturesUnordered::new(),
            is_reloading: false,
            led: false,
            barriers: Vec::new(),
            company: Company::default(),
            counted: 0,
            counted_rows: 0,
            tick,
            parts,
        }
    }

    /// Serves until the queue is closed, and everything that was in it has its answer.
    pub async fn run(mut self) {
        loop {
            // Looked at before the queue: what comes in later is refused.
            let is_closed = self.parts.queue.is_closed();
            self.take_queue();
            self.tend_links();
            self.send_ripe();
            self.count_connections();
            if is_closed && self.is_empty() {
                return;
            }
            let event = self.next_event().await;
            self.handle(event);
        }
    }

    fn is_empty(&self) -> bool {
        self.backlog.is_empty()
            && self.flights.is_empty()
            && self.landed.is_none()
            && self.doubted.is_empty()
    }

    /// Takes what waits in the queue, and ends it at once where there is no connection and none on
    /// its way.
    fn take_queue(&mut self) {
        self.company.shrink(self.backlog.len());
        let barriers = self.parts.queue.take_into(&mut self.backlog);
        self.see_who_leads();
        if !barriers.is_empty() {
            self.barriers.push((self.flights_begun, barriers));
        }
        if let Some(reason) = self.is_down() {
            self.fail_waiting(&reason);
        }
        self.pass_barriers();
    }

    /// Gives up what only the leader may answer, and sends what waits of it to the server that leads
    /// now, if this one did before.
    fn see_who_leads(&mut self) {
        let leads = self.leads();
        let led = std::mem::replace(&mut self.led, leads);
        // What comes back of statements that were out is found in a lane that has nothing else.
        let returned = self.parts.opening == Opening::WhileLeading && !self.backlog.is_empty();
        if leads || !(led || returned) {
            return;
        }
        self.flights.iter_mut().for_each(Flight::cut_off);
        if self.links.iter().any(Link::is_open) {
            // What was said of it as a leader does not concern it any more.
            self.note_life();
        }
        let backlog = std::mem::take(&mut self.backlog).into_iter();
        let (departed, here): (Vec<_>, Vec<_>) =
            backlog.partition(|request| request.needs() != Needs::Anyone);
        self.backlog = here.into();
        self.company.look_again();
        self.release(&departed);
        self.parts.shards.dispatch_again(departed);
    }

    /// Ends the barriers before which nothing is out any more. Everything that waits and does not
    /// belong here by now is sent on first.
    fn pass_barriers(&mut self) {
        let out = self.flights.iter().map(|flight| flight.number);
        // What of them was turned away goes out again.
        let doubted = self.doubted.iter().map(|landed| landed.number);
        let oldest = out.chain(doubted).min().unwrap_or(self.flights_begun);
        if self.barriers.iter().all(|(first, _)| *first > oldest) {
            return;
        }
        let shards = self.parts.shards.clone();
        let map = shards.map.load_full();
        let place = shards.places(&map, self.parts.shard, self.parts.place);
        let departs = |request: &Request| place_of(request, &place) == Place::Elsewhere;
        let backlog = std::mem::take(&mut self.backlog).into_iter();
        let (departed, here): (Vec<_>, Vec<_>) = backlog.partition(departs);
        self.backlog = here.into();
        self.release(&departed);
        shards.dispatch_again(departed);
        // Whoever waits for them goes on only now.
        self.barriers.retain(|(first, _)| *first > oldest);
    }

    /// Sends what waits, as far as connections are free and the batches are large enough.
    fn send_ripe(&mut self) {
        let is_settled = !self.links.iter().any(Link::is_unsettled);
        while !self.backlog.is_empty() && !self.is_reloading && is_settled {
            let Some(link) = self.free_link() else {
                break;
            };
            let (waiting, now) = (self.backlog.len(), Instant::now());
            if !self.company.is_ripe(waiting, self.company_wanted(now), now) {
                return self.company.keep_free(now);
            }
            if self.links[link].last_used.elapsed() > TRUSTED_IDLE {
                self.ask(link);
                break;
            }
            if !self.send_next(link) {
                self.company.pass_over(self.backlog.len());
                break;
            }
        }
        self.company.keep_none_free();
    }

    /// How many requests make it worth while to send another statement beside those that are out.
    fn company_wanted(&self, now: Instant) -> usize {
        let out = self.flights.iter().map(|flight| Out {
            rows: flight.rows,
            since: flight.started,
        });
        company::wanted(out, self.writes(), now)
    }

    fn writes(&self) -> bool {
        self.parts.writers.iter().any(Option::is_some)
    }

    /// Cuts the next batch and sends it; whether anything that waited went anywhere.
    fn send_next(&mut self, link: usize) -> bool {
        let shards = self.parts.shards.clone();
        let map = shards.map.load_full();
        let shard = self.parts.shard;
        // The same map decides whether a slot belongs here and which fence the write proves: a
        // newer fence with an older opinion of the slot would let the write through.
        let Some(fence) = map.shard(shard).fence else {
            self.reload(None);
            return false;
        };
        let limits = BatchLimits::default();
        let place = shards.places(&map, shard, self.parts.place);
        // Only now: whoever sees the end of a handover has everything that it brought.
        self.parts.queue.drain_into(&mut self.backlog);
        let busy = self.busy_keys();
        let is_busy = |key: &Key| !busy.is_empty() && busy.contains(key);
        let cut = cut(&mut self.backlog, limits, Instant::now(), is_busy, place);
        self.parts.queue.release(cut.freed_keys, cut.freed_bytes);
        for mut request in cut.late {
            request.end_late(&self.name);
        }
        if !cut.elsewhere.is_empty() {
            shards.dispatch_again(cut.elsewhere);
        }
        if let Some(batch) = cut.batch {
            self.send(link, batch, fence);
        }
        cut.freed_keys > 0
    }

    /// Keys whose writes are out, came back and may have to go out again, or may still be running on a
    /// connection that broke.
    fn busy_keys(&self) -> HashSet<Key, RandomState> {
        if !self.writes() {
            return HashSet::default();
        }
        let out = self.flights.iter().flat_map(|flight| &flight.requests);
        let doubted = self.doubted.iter();
        let out = out.chain(doubted.flat_map(|landed| &landed.batch.requests));
        let out = out.filter_map(|request| request.operation.key());
        let unsettled = self.links.iter().flat_map(|link| link.unsettled.keys());
        out.chain(unsettled).cloned().collect()
    }

    async fn next_event(&mut self) -> Event {
        let queue = self.parts.queue.clone();
        queue.wake_at(self.wake_at());
        let out = !self.flights.is_empty() || !self.doubted.is_empty();
        let waits = out || !self.backlog.is_empty();
        let due = self.links_due();
        tokio::select! {
            // An answer that is there counts, even if a deadline passed a moment ago.
            biased;
            Some(event) = self.jobs.next() => event,
            // That has sent the next statement: while the database works, the last one is answered.
            () = std::future::ready(()), if self.landed.is_some() => Event::Landed,
            () = queue.ready() => Event::Queued,
            _ = self.tick.tick(), if waits => Event::Tick,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Due,
        }
    }

    /// How many requests must come in before they are worth a look.
    fn wake_at(&self) -> usize {
        if self.free_link().is_some() {
            let wanted = self.company_wanted(Instant::now());
            self.company.missing(self.backlog.len(), wanted)
        } else if self.flights.is_empty() {
            1
        } else {
            usize::MAX
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Queued | Event::Due => {}
            Event::Tick => self.end_late(),
            Event::Opened(link, opened) => {
                self.company.look_again();
                self.opened(link, opened);
            }
            Event::Asked(link, alive) => self.asked(link, alive),
            Event::Answered(answered) => {
                self.company.look_again();
                self.answered(*answered);
            }
            Event::Landed => self.settle_landed(),
            Event::Confirmed(number, leads) => {
                self.company.look_again();
                self.confirmed(number, leads);
            }
            Event::Reloaded { turned_away } => {
                self.is_reloading = false;
                self.company.look_again();
                let standing = self.server().standing.load_full();
                if turned_away && self.leads() && *standing != Standing::Usable {
                    self.fail_waiting(&standing.reason());
                }
            }
        }
    }

    /// Ends what is late: among what is out, and among what waits.
    fn end_late(&mut self) {
        let now = Instant::now();
        let out = self.flights.iter_mut();
        let out = out.flat_map(|flight| &mut flight.requests);
        let doubted = self.doubted.iter_mut();
        let out = out.chain(doubted.flat_map(|landed| &mut landed.batch.requests));
        for request in out.filter(|request| request.deadline <= now) {
            request.end_late(&self.name);
        }
        let (mut keys, mut bytes) = (0, 0);
        let name = &self.name;
        self.parts.queue.drain_into(&mut self.backlog);
        self.backlog.retain_mut(|request| {
            if request.deadline > now {
                return true;
            }
            keys += 1;
            bytes += request.operation.bytes();
            request.end_late(name);
            false
        });
        self.parts.queue.release(keys, bytes);
    }

    /// Ends what waits, since nothing can be sent from here; what another server leads now goes
    /// there, and so do reads that a replica need not answer.
    fn fail_waiting(&mut self, reason: &Arc<str>) {
        self.parts.queue.drain_into(&mut self.backlog);
        let waiting: Vec<Request> = self.backlog.drain(..).collect();
        self.release(&waiting);
        let departed = |request: &Request| request.needs() != Needs::Anyone && !self.leads();
        let (departed, waiting) = waiting.into_iter().partition(departed);
        self.parts.shards.dispatch_again(departed);
        self.give_up(
            waiting,
            &Failure::Unavailable {
                shard: self.name.clone(),
                reason: reason.clone(),
            },
        );
    }

    /// Frees the places of requests that leave this lane.
    fn release(&self, leaving: &[Request]) {
        let bytes = leaving.iter().map(|request| request.operation.bytes());
        self.parts.queue.release(leaving.len(), bytes.sum());
    }

    /// Has the map loaded again; a moment later if that brings nothing new. `disagreed` is what the
    /// map showed when the fence turned something away.
    fn reload(&mut self, disagreed: Option<Fence>) {
        if std::mem::replace(&mut self.is_reloading, true) {
            return;
        }
        let (shards, shard) = (self.parts.shards.clone(), self.parts.shard);
        let turned_away = disagreed.is_some();
        self.jobs.push(Box::pin(async move {
            shards.reload(shard).await;
            let known = shards.map.load().shard(shard).fence;
            if known == disagreed {
                sleep(DISAGREE_PAUSE).await;
            }
            Event::Reloaded { turned_away }
        }));
    }

    fn server(&self) -> &ServerLanes {
        &self.parts.shards.shard(self.parts.shard).servers[self.parts.place]
    }

    /// Whether its server leads the shard, as far as this router knows.
    fn leads(&self) -> bool {
        self.parts.shards.map.load().shard(self.parts.shard).leader == self.parts.place
    }

    /// Whether somebody may read what it writes elsewhere.
    fn is_replicated(&self) -> bool {
        self.parts.shards.shard(self.parts.shard).is_replicated()
    }

    /// Whether its connections are opened before somebody asks for them.
    fn is_eager(&self) -> bool {
        match self.parts.opening {
            Opening::Eager => true,
            Opening::WhileLeading => self.leads(),
            Opening::OnDemand => false,
        }
    }

    fn count_connections(&mut self) {
        let open = self.links.iter().filter(|link| link.is_open()).count();
        let gauge = &self.server().open;
        // Both wrap around: what is added in the end is the difference.
        gauge.fetch_add(open.wrapping_sub(self.counted), Ordering::Relaxed);
        self.counted = open;
        if !self.writes() {
            let out = self.flights.iter().map(|flight| flight.rows).sum::<usize>();
            let gauge = &self.server().rows_out;
            gauge.fetch_add(out.wrapping_sub(self.counted_rows), Ordering::Relaxed);
            self.counted_rows = out;
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let server = self.server();
        server.open.fetch_sub(self.counted, Ordering::Relaxed);
        let rows_out = &server.rows_out;
        rows_out.fetch_sub(self.counted_rows, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
