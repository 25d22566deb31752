//! A lane: one database connection with its own bounded queue.
//!
//! It never waits for company: whatever waits when its connection is free goes out as one
//! statement. While the answer is outstanding it keeps ending requests whose deadlines pass, each
//! with the truth for its own stage.
//!
//! What it writes to one key is stored in the order it came in, over all connections of its life:
//! a write lane has a name, under which a new connection first puts an end to what the one before
//! may still be writing. (Callers whose write's outcome is unknown may find it applied or not, but
//! never applied over a later write of this lane.)

mod execute;
mod settle;

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use freehold_core::{Fence, ShardId};
use freehold_storage::{DataConnection, Server, StorageError, WriterName};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};

use crate::{
    backoff::Backoff,
    batch::{Batch, BatchLimits, Place, cut, place_of},
    budget::Budget,
    failure::Failure,
    map_loader::standing_of,
    metrics::LaneMetrics,
    queue::Queue,
    request::{Request, Stage},
    shards::{ServerLanes, Shards, Standing},
};

/// How often deadlines are looked at while a statement is outstanding. Half of the smallest margin
/// that a deadline is moved forward by.
const DEADLINE_TICK: Duration = Duration::from_millis(5);

/// A connection that was idle for longer is asked whether it still lives before it is used: a
/// statement sent into a dead one would have an unknown outcome.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);

/// How often an idle connection is asked whether it lives, so that a server's state is known.
const IDLE_PING: Duration = Duration::from_secs(5);

/// The pause after a fence that went on disagreeing when the map was loaded again.
const DISAGREE_PAUSE: Duration = Duration::from_millis(20);

/// Which of a shard's servers a lane talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The master.
    Master,
    /// The replica with this place in the config.
    Replica(usize),
}

/// When a lane opens its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// At once, and again whenever it broke.
    Eager,
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
    /// Master or replica.
    pub role: Role,
    /// Where the connection goes.
    pub server: Server,
    /// The name under which it writes; absent if it only reads.
    pub writer: Option<WriterName>,
    /// Where requests come from.
    pub queue: Arc<Queue>,
    /// When the connection is opened.
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
    connection: Option<Box<dyn DataConnection>>,
    /// Whether the connection is among those that metrics show as open.
    counted: bool,
    last_used: Instant,
    tick: Interval,
    backoff: Backoff,
}

impl Lane {
    /// A lane without a connection.
    #[must_use]
    pub fn new(parts: LaneParts) -> Self {
        let mut tick = interval(DEADLINE_TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self {
            name: parts.shards.shard(parts.shard).name.clone(),
            backlog: VecDeque::new(),
            connection: None,
            counted: false,
            last_used: Instant::now(),
            tick,
            backoff: Backoff::new(parts.seed),
            parts,
        }
    }

    /// Serves until the queue is closed and empty.
    pub async fn run(mut self) {
        loop {
            self.count_connection();
            self.pass_barriers();
            if !self.backlog.is_empty() {
                self.serve().await;
            } else if self.parts.queue.is_closed() {
                return;
            } else {
                self.idle().await;
            }
        }
    }

    /// Takes what waits in the queue. At a barrier everything that does not belong here any more is
    /// sent on: nothing of it is in a statement now.
    fn pass_barriers(&mut self) {
        let barriers = self.parts.queue.take_into(&mut self.backlog);
        if barriers.is_empty() {
            return;
        }
        let shards = self.parts.shards.clone();
        let map = shards.map.load_full();
        let place = shards.places(&map, self.parts.shard);
        let departs = |request: &Request| place_of(request, &place) == Place::Elsewhere;
        let backlog = std::mem::take(&mut self.backlog).into_iter();
        let (departed, here): (Vec<_>, Vec<_>) = backlog.partition(departs);
        self.backlog = here.into();
        self.release(&departed);
        shards.dispatch_again(departed);
        // Whoever waits for them goes on only now.
        drop(barriers);
    }

    /// Frees the places of requests that leave this lane.
    fn release(&self, leaving: &[Request]) {
        let bytes = leaving.iter().map(|request| request.operation.bytes());
        self.parts.queue.release(leaving.len(), bytes.sum());
    }

    fn count_connection(&mut self) {
        if self.connection.is_some() == self.counted {
            return;
        }
        self.counted = !self.counted;
        let open = &self.server().open;
        if self.counted {
            open.fetch_add(1, Ordering::Relaxed);
        } else {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Waits for requests, keeping the connection alive meanwhile.
    async fn idle(&mut self) {
        if self.connection.is_none() && self.parts.opening == Opening::Eager {
            if !self.open().await {
                self.rest().await;
            }
            return;
        }
        let queue = self.parts.queue.clone();
        tokio::select! {
            () = queue.ready() => {}
            () = sleep_until(self.last_used + IDLE_PING), if self.connection.is_some() => {
                self.check_alive().await;
            }
        }
    }

    /// Sends the next batch of what waits.
    async fn serve(&mut self) {
        if self.connection.is_some() && self.last_used.elapsed() > TRUSTED_IDLE {
            self.check_alive().await;
        }
        if self.connection.is_none() && !self.open().await {
            self.rest().await;
            return;
        }
        let shards = self.parts.shards.clone();
        let map = shards.map.load_full();
        let shard = self.parts.shard;
        // The same map decides whether a slot belongs here and which fence the write proves: a
        // newer fence with an older opinion of the slot would let the write through.
        let Some(fence) = map.shard(shard).fence else {
            self.reload(None).await;
            return;
        };
        let limits = BatchLimits::default();
        let place = shards.places(&map, shard);
        let cut = cut(&mut self.backlog, limits, Instant::now(), place);
        self.parts.queue.release(cut.freed_keys, cut.freed_bytes);
        for mut request in cut.late {
            request.end_late(&self.name);
        }
        if !cut.elsewhere.is_empty() {
            shards.dispatch_again(cut.elsewhere);
        }
        if let Some(batch) = cut.batch {
            self.send(batch, fence).await;
        } else if cut.freed_keys == 0 {
            // Everything is held back: until something comes in, or a handover ends.
            let queue = self.parts.queue.clone();
            self.attend(&mut [], queue.ready()).await;
        }
    }

    /// Runs one statement and answers its requests.
    async fn send(&mut self, mut batch: Batch, fence: Fence) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        for request in &mut batch.requests {
            request.stage = Stage::Sent;
        }
        let started = Instant::now();
        let statement = execute::execute(&mut *connection, &batch.rows, &fence);
        let statement = tokio::time::timeout(self.parts.statement_timeout, statement);
        let result = self.attend(&mut batch.requests, statement).await;
        self.last_used = Instant::now();
        self.parts
            .metrics
            .statement(batch.kind, batch.rows.len(), self.last_used - started);
        let executed = result.unwrap_or_else(|_| {
            let reason = format!("no answer within {:?}", self.parts.statement_timeout);
            execute::Executed::Failed(StorageError::Lost {
                reason: reason.into(),
            })
        });
        let broken = executed.breaks_connection();
        if !broken {
            self.connection = Some(connection);
        }
        self.settle(batch, executed, fence).await;
    }

    /// Waits for `future` and meanwhile ends what is late: among `in_flight`, and among what
    /// waits.
    async fn attend<T>(&mut self, in_flight: &mut [Request], future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                // An answer that is there counts, even if a deadline passed a moment ago.
                biased;
                done = &mut future => return done,
                _ = self.tick.tick() => {}
            }
            let now = Instant::now();
            for request in in_flight
                .iter_mut()
                .filter(|request| request.deadline <= now)
            {
                request.end_late(&self.name);
            }
            self.end_late_waiting(now);
        }
    }

    fn end_late_waiting(&mut self, now: Instant) {
        self.parts.queue.drain_into(&mut self.backlog);
        let (mut keys, mut bytes) = (0, 0);
        let name = &self.name;
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

    /// Opens the connection and checks whose server it is. On failure everything that waits is
    /// answered: nothing of it was sent.
    async fn open(&mut self) -> bool {
        let (server, shards) = (self.parts.server.clone(), self.parts.shards.clone());
        let (shard, role) = (self.parts.shard, self.parts.role);
        let writer = self.parts.writer.clone();
        let answer_within = self.parts.statement_timeout;
        let opening = async move {
            let mut connection = match &writer {
                Some(name) => server.connect_writer(name, answer_within).await?,
                None => server.connect().await?,
            };
            let claims = connection.claims(u64::MAX).await?;
            let checked = shards.check_identity(shard, &claims.identity, role == Role::Master);
            Ok::<_, StorageError>((connection, checked))
        };
        let opening = tokio::time::timeout(self.parts.connect_timeout, opening);
        let standing = match self.attend(&mut [], opening).await {
            Ok(Ok((connection, Ok(())))) => {
                self.connection = Some(connection);
                self.last_used = Instant::now();
                self.backoff.reset();
                Standing::Usable
            }
            Ok(Ok((_, Err(problem)))) => Standing::Unfit(problem.into()),
            Ok(Err(error)) => standing_of(&error),
            Err(_) => Standing::Down(
                format!("no connection within {:?}", self.parts.connect_timeout).into(),
            ),
        };
        let reason = standing.reason();
        self.note(standing);
        if self.connection.is_some() {
            return true;
        }
        self.fail_waiting(&reason);
        false
    }

    /// A master's standing is the map loader's to say; a replica's is its lanes'.
    fn note(&self, standing: Standing) {
        let Role::Replica(_) = self.parts.role else {
            return;
        };
        let server = self.server();
        if !server.is_usable() || standing != Standing::Usable {
            server.set_standing(standing);
        }
    }

    fn server(&self) -> &ServerLanes {
        let shard = self.parts.shards.shard(self.parts.shard);
        match self.parts.role {
            Role::Master => &shard.master,
            Role::Replica(index) => &shard.replicas[index],
        }
    }

    /// Waits out the backoff, answering at once whatever comes meanwhile.
    async fn rest(&mut self) {
        if self.parts.opening == Opening::OnDemand {
            return;
        }
        let until = Instant::now() + self.backoff.after_failure();
        let queue = self.parts.queue.clone();
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = queue.ready() => {
                    self.pass_barriers();
                    let reason: Arc<str> = "its server does not answer".into();
                    self.fail_waiting(&reason);
                    if queue.is_closed() {
                        return;
                    }
                }
            }
        }
    }

    /// Ends what waits, since nothing can be sent from here; a replica's reads go to the master.
    fn fail_waiting(&mut self, reason: &Arc<str>) {
        self.parts.queue.drain_into(&mut self.backlog);
        let waiting: Vec<Request> = self.backlog.drain(..).collect();
        self.release(&waiting);
        self.give_up(
            waiting,
            &Failure::Unavailable {
                shard: self.name.clone(),
                reason: reason.clone(),
            },
        );
    }

    /// Asks the connection whether it lives, and drops it if not.
    async fn check_alive(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let ping = tokio::time::timeout(self.parts.connect_timeout, connection.ping());
        let alive = matches!(self.attend(&mut [], ping).await, Ok(Ok(())));
        self.last_used = Instant::now();
        if alive {
            self.connection = Some(connection);
        } else {
            tracing::debug!(shard = %self.name, "an idle connection had died");
        }
    }

    /// Has the map loaded again; waits a moment if that brought nothing new.
    async fn reload(&mut self, disagreed: Option<Fence>) {
        let shards = self.parts.shards.clone();
        let shard = self.parts.shard;
        self.attend(&mut [], shards.reload(shard)).await;
        let known = shards.map.load().shard(shard).fence;
        if known == disagreed {
            self.attend(&mut [], sleep(DISAGREE_PAUSE)).await;
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.connection = None;
        self.count_connection();
    }
}
