//! What a sweeper shows of itself.

use std::time::Duration;

use freehold_storage::sweep::{Due, Lease};
use tokio::{sync::watch, time::Instant};

use crate::{
    metrics::{ShardMetrics, SweeperMetrics},
    waiting::Waiting,
};

/// A sweeper as it was a moment ago; never older than a few seconds while the master answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweeperState {
    /// Whether an operator paused sweeping of the shard, when it was last seen.
    pub paused: bool,
    /// The router that had the lease when it was last seen, if any had.
    pub holder: Option<String>,
    /// Whether that is this router, and its lease has not ended since.
    pub held_here: bool,
    /// Rows deleted by this router since it started.
    pub rows_deleted: u64,
    /// Why it does not sweep at the moment; `None` if it does.
    pub waiting_for: Option<Waiting>,
    /// What went wrong last, if anything ever did. It may be long over.
    pub last_error: Option<LastError>,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// No key, value or password.
    pub message: String,
    /// How long ago.
    pub ago: Duration,
}

/// What is shared with handles.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    paused: bool,
    holder: Option<String>,
    held_until: Option<Instant>,
    rows_deleted: u64,
    waiting_for: Option<Waiting>,
    last_error: Option<(String, Instant)>,
}

impl Snapshot {
    /// Whether an operator's word has arrived and had its effect.
    pub(crate) fn obeys(&self, paused: bool) -> bool {
        let waits = matches!(self.waiting_for, Some(Waiting::Operator));
        self.paused == paused && waits == (paused && self.held_until.is_some())
    }

    pub(crate) fn state(&self, now: Instant) -> SweeperState {
        SweeperState {
            paused: self.paused,
            holder: self.holder.clone(),
            held_here: self.held_until.is_some_and(|until| now < until),
            rows_deleted: self.rows_deleted,
            waiting_for: self.waiting_for.clone(),
            last_error: self.last_error.clone().map(|(message, at)| LastError {
                message,
                ago: now.saturating_duration_since(at),
            }),
        }
    }
}

/// Where a sweeper puts what it shows: its state, its metrics, its log.
#[derive(Debug)]
pub(crate) struct Board {
    shard: String,
    shown: watch::Sender<Snapshot>,
    metrics: ShardMetrics,
}

impl Board {
    pub(crate) fn new(shard: &str, metrics: &SweeperMetrics) -> (Self, watch::Receiver<Snapshot>) {
        let (shown, receiver) = watch::channel(Snapshot {
            paused: false,
            holder: None,
            held_until: None,
            rows_deleted: 0,
            waiting_for: Some(Waiting::Start),
            last_error: None,
        });
        let metrics = metrics.of_shard(shard);
        metrics.waiting(Some(&Waiting::Start));
        (
            Self {
                shard: shard.to_owned(),
                shown,
                metrics,
            },
            receiver,
        )
    }

    /// What the database said of the lease, and until when this router has it.
    pub(crate) fn lease(&mut self, lease: &Lease, held_until: Option<Instant>) {
        let shard = &self.shard;
        self.shown.send_modify(|shown| {
            match (shown.held_until.is_some(), held_until.is_some()) {
                (false, true) => tracing::info!(shard, "sweeper: has the lease"),
                (true, false) => {
                    tracing::info!(shard, holder = lease.holder, "sweeper: lost the lease");
                }
                _ => {}
            }
            shown.paused = lease.paused;
            shown.holder.clone_from(&lease.holder);
            shown.held_until = held_until;
        });
        self.metrics.lease(held_until.is_some());
    }

    /// The lease ended without an answer of the database.
    pub(crate) fn lease_ended(&mut self) {
        if self.shown.borrow().held_until.is_some() {
            tracing::warn!(
                shard = self.shard,
                "sweeper: the lease ended before it was renewed"
            );
            self.lease_given_back();
        }
    }

    /// The lease is no longer used.
    pub(crate) fn lease_given_back(&mut self) {
        self.shown.send_modify(|shown| shown.held_until = None);
        self.metrics.lease(false);
    }

    /// Why it waits; `None` if it sweeps.
    pub(crate) fn waits(&mut self, waiting: Option<Waiting>) {
        let word = |waiting: &Option<Waiting>| waiting.as_ref().map(Waiting::as_str);
        let before = word(&self.shown.borrow().waiting_for);
        if before != word(&waiting) {
            self.metrics.waiting(waiting.as_ref());
            // The rest is a router's daily life.
            if let Some(why @ (Waiting::Replica { .. } | Waiting::Purge { .. })) = &waiting {
                tracing::warn!(shard = self.shard, "sweeper: waits for {why}");
            }
        }
        self.shown.send_modify(|shown| shown.waiting_for = waiting);
    }

    /// What a read of due rows showed. How many there are is known only if it was all of them.
    pub(crate) fn due(&mut self, due: &Due, counted: bool) {
        if counted || !due.more {
            self.metrics.rows_due(due.keys.len() as u64);
        }
        match due.oldest_ms {
            Some(age_ms) => self.metrics.oldest_expired(Duration::from_millis(age_ms)),
            None if !due.more => self.metrics.oldest_expired(Duration::ZERO),
            // Deleted rows filled the batch: expired ones may be behind them.
            None => {}
        }
    }

    /// A batch is done; `left` rows are known to be still due.
    pub(crate) fn deleted(
        &mut self,
        rows: u64,
        left: Option<u64>,
        took: Duration,
        pause: Duration,
    ) {
        self.metrics.rows_deleted.inc_by(rows);
        self.metrics.batches.inc();
        self.metrics.batch_seconds.observe(took.as_secs_f64());
        self.metrics.pause(pause);
        if let Some(left) = left {
            self.metrics.rows_due(left);
        }
        self.shown.send_modify(|shown| shown.rows_deleted += rows);
    }

    /// Something went wrong. It is logged when it is new: a server that is down stays so for many
    /// attempts.
    pub(crate) fn error(&mut self, message: &str) {
        self.metrics.errors.inc();
        let (shard, now) = (&self.shard, Instant::now());
        self.shown.send_modify(|shown| {
            if shown
                .last_error
                .as_ref()
                .is_none_or(|last| last.0 != message)
            {
                tracing::warn!(shard, "sweeper: {message}");
            }
            shown.last_error = Some((message.to_owned(), now));
        });
    }
}
