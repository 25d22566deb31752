//! Starts a sweeper, shows what it does, and steers it.

use std::{sync::Arc, time::Duration};

use freehold_storage::{Server, StorageError, SweepConnection, sweep::Holder};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    background,
    connection::{Dial, Leader, within},
    metrics::SweeperMetrics,
    settings::SweeperSettings,
    state::{Board, Snapshot, SweeperState},
    task::Task,
};

/// What a sweeper of one shard needs.
#[derive(Clone)]
pub struct Sweeper {
    /// The shard's name.
    pub shard: String,
    /// Its servers, with an account that may sweep. The one that leads is swept, without making the
    /// others late.
    pub servers: Vec<Server>,
    /// Which of them leads: asked again and again, so that sweeping follows a failover.
    pub leader: Leader,
    /// How to sweep; see [`SweeperSettings::check`].
    pub settings: SweeperSettings,
    /// Who holds the lease, when this sweeper has it.
    pub holder: Holder,
}

impl Sweeper {
    /// Starts the sweeper's task, which ends at `shutdown`. Nothing fails here: a server that is
    /// down is asked again and again.
    #[must_use]
    pub fn spawn(
        self,
        metrics: &SweeperMetrics,
        seed: u64,
        shutdown: CancellationToken,
    ) -> SweeperHandle {
        let Self {
            shard,
            servers,
            leader,
            settings,
            holder,
        } = self;
        let (board, shown) = Board::new(&shard, metrics);
        let wake = Arc::new(Notify::new());
        let handle = SweeperHandle {
            servers: servers.clone(),
            leader: leader.clone(),
            wake: Arc::clone(&wake),
            shown,
            settings,
        };
        let settings = handle.settings.clone();
        let stop_time_max = settings.stop_time_max;
        let task = Task::new(servers, leader, settings, holder, board);
        let rng = StdRng::seed_from_u64(seed);
        tokio::spawn(async move {
            background::run(task, rng, &wake, shutdown, stop_time_max).await;
        });
        handle
    }
}

/// A running sweeper.
#[derive(Clone)]
pub struct SweeperHandle {
    servers: Vec<Server>,
    leader: Leader,
    settings: SweeperSettings,
    wake: Arc<Notify>,
    shown: watch::Receiver<Snapshot>,
}

/// Rows that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueRows {
    /// How many were counted.
    pub rows: u64,
    /// There are more: the count reached its bound.
    pub more: bool,
    /// How long the oldest expired one has been due, if any was seen.
    pub oldest: Option<Duration>,
}

impl SweeperHandle {
    /// What the sweeper does, without asking the database.
    #[must_use]
    pub fn state(&self) -> SweeperState {
        self.shown.borrow().state(Instant::now())
    }

    /// Counts the rows that are due now, up to
    /// [`count_rows_max`](SweeperSettings::count_rows_max), on a connection of its own. Deletes
    /// nothing; works on routers that do not have the lease, too.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn count_due(&self) -> Result<DueRows, StorageError> {
        let mut connection = self.connect().await?;
        let count = connection.due(self.settings.count_rows_max);
        let due = within(
            self.settings.statement_time_max,
            "a count of due rows",
            count,
        )
        .await?;
        Ok(DueRows {
            rows: due.keys.len() as u64,
            more: due.more,
            oldest: due.oldest_ms.map(Duration::from_millis),
        })
    }

    /// A connection to the leader beside the sweeper's own.
    async fn connect(&self) -> Result<Box<dyn SweepConnection>, StorageError> {
        let limit = self.settings.connect_time_max;
        let leader = &self.servers[(self.leader)()];
        within(limit, "a connection attempt", leader.dial()).await
    }

    /// Pauses or resumes sweeping of the shard, for all routers and across restarts. This router
    /// notices at once and shows it when this returns; the others notice when they next renew or
    /// look at the lease.
    ///
    /// # Errors
    /// [`StorageError`]; if the connection was lost, it may have been done.
    pub async fn set_paused(&self, paused: bool) -> Result<(), StorageError> {
        let mut connection = self.connect().await?;
        let pause = connection.set_paused(paused);
        within(self.settings.statement_time_max, "a pause", pause).await?;
        self.wake.notify_one();
        // It is done, whether or not this router's sweeper is quick enough to show it.
        let mut shown = self.shown.clone();
        let _ = timeout(
            self.settings.statement_time_max,
            shown.wait_for(|shown| shown.obeys(paused)),
        )
        .await;
        Ok(())
    }

    /// Waits until the sweeper has ended, after its shutdown.
    pub async fn stopped(&self) {
        let mut shown = self.shown.clone();
        // The task drops its end when it is done.
        while shown.changed().await.is_ok() {}
    }
}
