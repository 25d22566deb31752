//! One shard's sweeping, a tick at a time.

use std::time::Duration;

use freehold_core::Fence;
use freehold_storage::{
    Outcome, Refusal, StorageError, SweepConnection,
    sweep::{Due, Holder, Lease},
};
use tokio::time::Instant;

use crate::{
    background::{Rest, Work},
    connection::{Dial, Leader, Link, retry_after, within},
    lease::LeaseClock,
    lookout::Lookout,
    pace::Pace,
    settings::SweeperSettings,
    state::Board,
    waiting::{Waiting, before_reading},
};

/// A sweeper's own state, which nobody else touches.
pub(crate) struct Task<D> {
    settings: SweeperSettings,
    holder: Holder,
    /// A connection to each server, of which the one to the leader is used.
    servers: Vec<Link<D>>,
    leader: Leader,
    /// The server that was swept last.
    swept: usize,
    lookout: Lookout<D>,
    board: Board,
    pace: Pace,
    lease: LeaseClock,
    /// The lease as the database showed it last.
    seen: Lease,
    /// When to look for rows again.
    due_at: Instant,
    /// When to count rows again.
    count_at: Instant,
    /// Ticks that failed in a row.
    failures: u32,
    /// Batches that the fence turned away in a row.
    disagreements: u32,
}

impl<D: Dial> Task<D> {
    pub(crate) fn new(
        servers: Vec<D>,
        leader: Leader,
        settings: SweeperSettings,
        holder: Holder,
        board: Board,
    ) -> Self {
        let now = Instant::now();
        Self {
            swept: leader(),
            leader,
            lookout: Lookout::new(servers.clone()),
            servers: servers.into_iter().map(Link::new).collect(),
            pace: Pace::new(&settings),
            lease: LeaseClock::default(),
            seen: Lease {
                held: false,
                holder: None,
                paused: false,
            },
            due_at: now,
            count_at: now,
            failures: 0,
            disagreements: 0,
            settings,
            holder,
            board,
        }
    }

    async fn try_tick(&mut self) -> Result<Rest, StorageError> {
        self.follow_leader();
        let place = self.swept;
        let time_max = self.settings.connect_time_max;
        let mut connection = self.servers[place].take(time_max).await?;
        let rest = self.tick_on(&mut *connection).await;
        if !matches!(&rest, Err(error) if spoils(error)) {
            self.servers[place].put_back(connection);
        }
        rest
    }

    /// Goes over to the server that leads now. What it knew was another one's: the lease is asked
    /// for again, which may not have been copied, and rows are looked for at once.
    fn follow_leader(&mut self) {
        let leader = (self.leader)();
        if leader == self.swept {
            return;
        }
        self.servers[self.swept].close();
        self.swept = leader;
        self.lookout.forget();
        self.lease = LeaseClock::default();
        (self.due_at, self.count_at) = (Instant::now(), Instant::now());
    }

    async fn tick_on(&mut self, master: &mut dyn SweepConnection) -> Result<Rest, StorageError> {
        self.keep_lease(master).await?;
        let now = Instant::now();
        let held = self.lease.is_held(now);
        if let Some(waiting) = before_reading(self.settings.enabled, held, &self.seen) {
            self.board.waits(Some(waiting));
            // When that is over it looks for rows at once.
            self.due_at = now;
            if !held {
                return Ok(Rest::Idle(self.settings.standby_interval));
            }
            self.count(master).await?;
            return Ok(Rest::Idle(self.lease.until_renewal(Instant::now())));
        }
        if now < self.due_at {
            return Ok(self.idle(now));
        }
        self.sweep(master).await
    }

    /// Renews the lease, or takes it if nobody has it. Routers that only stand by read it, so that
    /// a hundred of them do not queue for its row.
    async fn keep_lease(&mut self, master: &mut dyn SweepConnection) -> Result<(), StorageError> {
        let (asked_at, time_max) = (Instant::now(), self.settings.statement_time_max);
        if !self.lease.is_renewal_due(asked_at, time_max) {
            return Ok(());
        }
        if self.lease.ends_at().is_none() {
            let lease = within(time_max, "a look at the lease", master.look_at_lease()).await?;
            let others = lease.holder.is_some() && !lease.held;
            if others || !self.settings.enabled {
                self.saw_lease(lease, asked_at);
                return Ok(());
            }
        }
        let asked_at = Instant::now();
        let request = master.lease(&self.holder, self.settings.lease_length);
        let lease = within(time_max, "the lease", request).await?;
        self.saw_lease(lease, asked_at);
        Ok(())
    }

    fn saw_lease(&mut self, lease: Lease, asked_at: Instant) {
        self.lease.answered(lease.held, asked_at, &self.settings);
        self.board.lease(&lease, self.lease.ends_at());
        self.seen = lease;
    }

    /// One batch, unless something speaks against it.
    async fn sweep(&mut self, master: &mut dyn SweepConnection) -> Result<Rest, StorageError> {
        let started = Instant::now();
        let time_max = self.settings.statement_time_max;
        let due = within(time_max, "a read of due rows", master.due(self.pace.rows())).await;
        let due = due.inspect_err(|_| self.pace.after_failure())?;
        let read_took = started.elapsed();
        self.board.due(&due, false);
        let Some(fence) = due.fence.filter(|_| !due.keys.is_empty()) else {
            return Ok(self.nothing_due());
        };
        if due.more {
            self.count(master).await?;
        }
        let waiting = self
            .lookout
            .look((self.swept, master), &self.settings, &mut self.board)
            .await?;
        if waiting.is_some() {
            self.board.waits(waiting);
            return Ok(Rest::Idle(self.settings.look_interval));
        }
        self.board.waits(None);
        self.delete(master, &fence, &due, read_took).await
    }

    async fn delete(
        &mut self,
        master: &mut dyn SweepConnection,
        fence: &Fence,
        due: &Due,
        read_took: Duration,
    ) -> Result<Rest, StorageError> {
        let (started, time_max) = (Instant::now(), self.settings.statement_time_max);
        if !self.lease.covers(started, time_max) {
            // The next tick renews it first.
            return Ok(Rest::More(Duration::ZERO));
        }
        let request = async { Ok(master.delete_due(fence, &due.keys).await) };
        let outcome = within(time_max, "the deletion of a batch", request).await;
        let deleted = match outcome.unwrap_or_else(Outcome::Failed) {
            Outcome::Applied(deleted) => deleted,
            Outcome::FenceDisagrees => return Ok(self.fence_disagreed()),
            Outcome::Failed(error) => {
                self.pace.after_failure();
                return Err(error);
            }
        };
        self.disagreements = 0;
        let took = read_took + started.elapsed();
        let pause = self.pace.after(due.keys.len(), took, &self.settings);
        let left = (!due.more).then(|| (due.keys.len() as u64).saturating_sub(deleted));
        self.board.deleted(deleted, left, took, pause);
        if due.more {
            return Ok(self.more_due(pause));
        }
        Ok(self.nothing_due())
    }

    /// A slot moved or the master changed since the rows were read: they are read again. A server
    /// that is not adopted yet disagrees for long, so it is asked less and less often.
    fn fence_disagreed(&mut self) -> Rest {
        self.disagreements = self.disagreements.saturating_add(1);
        if self.disagreements > 1 {
            self.board.waits(Some(Waiting::Fence));
        }
        let SweeperSettings {
            retry_min,
            retry_max,
            ..
        } = self.settings;
        self.more_due(retry_after(self.disagreements, retry_min, retry_max))
    }

    /// A pause may be longer than a lease lasts without renewal.
    fn more_due(&mut self, pause: Duration) -> Rest {
        let now = Instant::now();
        self.due_at = now + pause;
        Rest::More(pause.min(self.lease.until_renewal(now)))
    }

    fn nothing_due(&mut self) -> Rest {
        let now = Instant::now();
        self.due_at = now + self.settings.idle_interval;
        self.board.waits(Some(Waiting::Rows));
        self.idle(now)
    }

    fn idle(&self, now: Instant) -> Rest {
        let until_due = self.due_at.saturating_duration_since(now);
        Rest::Idle(until_due.min(self.lease.until_renewal(now)))
    }

    /// Counts rows for the metrics while they are not, or not yet, being deleted.
    async fn count(&mut self, master: &mut dyn SweepConnection) -> Result<(), StorageError> {
        let now = Instant::now();
        if now < self.count_at {
            return Ok(());
        }
        self.count_at = now + self.settings.count_interval;
        let time_max = self.settings.statement_time_max;
        let counted = master.due(self.settings.count_rows_max);
        let due = within(time_max, "a count of due rows", counted).await?;
        self.board.due(&due, true);
        Ok(())
    }

    fn failed(&mut self, error: &StorageError) -> Rest {
        self.failures = self.failures.saturating_add(1);
        let error = error.to_string();
        self.board.error(&error);
        self.board.waits(Some(Waiting::Master { error }));
        self.due_at = Instant::now();
        let SweeperSettings {
            retry_min,
            retry_max,
            ..
        } = &self.settings;
        Rest::Idle(retry_after(self.failures, *retry_min, *retry_max))
    }
}

/// Contention passes. After any other failure a new connection is worth its price: it may reach
/// another server behind the same name.
fn spoils(error: &StorageError) -> bool {
    !matches!(
        error,
        StorageError::Refused {
            refusal: Refusal::Busy,
            ..
        }
    )
}

impl<D: Dial> Work for Task<D> {
    async fn tick(&mut self) -> Rest {
        let rest = match self.try_tick().await {
            Ok(rest) => {
                self.failures = 0;
                rest
            }
            Err(error) => self.failed(&error),
        };
        if !self.lease.is_held(Instant::now()) {
            self.board.lease_ended();
        }
        rest
    }

    /// An operator changed the pause: it shows with the lease.
    fn nudge(&mut self) {
        self.lease.renew_soon(Instant::now());
    }

    async fn stop(&mut self) {
        let held = self.lease.is_held(Instant::now());
        self.lease = LeaseClock::default();
        self.board.lease_given_back();
        self.board.waits(Some(Waiting::Stopped));
        if !held {
            return;
        }
        let time_max = self.settings.connect_time_max;
        if let Ok(mut connection) = self.servers[self.swept].take(time_max).await {
            // If that fails the lease ends by itself.
            let _ = connection.release_lease(&self.holder).await;
        }
    }
}
