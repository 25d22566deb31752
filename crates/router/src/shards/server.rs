//! One server: its queues, and what its lanes and watchers found.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use freehold_storage::Server;
use tokio_util::sync::CancellationToken;

use crate::{
    queue::{Arrivals, Queue, QueueLimits},
    replica::Cost,
    request::Kind,
    sightings::ServerWatch,
};

/// Whether a shard or a server may be used, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has come back yet.
    Starting,
    /// It answers and belongs here.
    Usable,
    /// It does not answer.
    Down(Arc<str>),
    /// It answers, and nobody leads its shard now.
    Leaderless(Arc<str>),
    /// It answers, and somebody must mend something first.
    Unfit(Arc<str>),
}

impl Standing {
    /// Why it is not used; empty if it is.
    #[must_use]
    pub fn reason(&self) -> Arc<str> {
        match self {
            Self::Starting => "not reached yet".into(),
            Self::Usable => "".into(),
            Self::Down(reason) | Self::Leaderless(reason) | Self::Unfit(reason) => reason.clone(),
        }
    }

    /// With one more reason, if it says something else.
    #[must_use]
    pub fn and(self, more: &str) -> Self {
        let both = |reason: Arc<str>| match reason.contains(more) {
            true => reason,
            false => format!("{reason}; {more}").into(),
        };
        match self {
            Self::Down(reason) => Self::Down(both(reason)),
            Self::Leaderless(reason) => Self::Leaderless(both(reason)),
            Self::Unfit(reason) => Self::Unfit(both(reason)),
            other => other,
        }
    }
}

/// What a lane carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Get and Ttl.
    Reads,
    /// Put, Delete and Expire.
    Writes,
    /// Scan and Inspect, which may take longer than a request on one key should wait.
    Scans,
}

impl Carries {
    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Scans => "scans",
        }
    }
}

/// The queues of one server's lanes.
#[derive(Debug)]
pub struct ServerLanes {
    /// Host and port, or a file.
    pub address: Arc<str>,
    /// How the next connections are opened; the config may change account and options.
    pub server: ArcSwap<Server>,
    /// Cancelled once it is not in the config any more. Its place stays.
    pub retired: CancellationToken,
    /// Get and Ttl.
    pub reads: Arc<Queue>,
    /// Put, Delete and Expire; its lane has connections only while the server leads.
    pub writes: Arc<Queue>,
    /// Scan and Inspect, which may take longer than a request on one key should wait.
    pub scans: Arc<Queue>,
    /// What its lanes found.
    pub standing: ArcSwap<Standing>,
    /// Why somebody has to look after it at once, if so: it takes writes and must not be sent any.
    pub alarm: ArcSwapOption<Arc<str>>,
    /// How many connections its lanes for reads and scans may have.
    pub read_connections: usize,
    /// How many more its lane for writes may have while the server leads.
    pub write_connections: usize,
    /// How many of them are open.
    pub open: AtomicUsize,
    /// Rows of its statements for reads that are out.
    pub rows_out: AtomicUsize,
    /// What watching it has shown.
    pub watch: ServerWatch,
}

impl ServerLanes {
    /// Empty queues of lanes that have so many connections: for reads and scans, and for writes.
    #[must_use]
    pub fn new(
        server: &Server,
        (read_connections, write_connections): (usize, usize),
        limits: QueueLimits,
        arrivals: &Arc<Arrivals>,
    ) -> Self {
        let queue = || Arc::new(Queue::new(limits, arrivals.clone()));
        Self {
            address: server.address().into(),
            server: ArcSwap::from_pointee(server.clone()),
            retired: CancellationToken::new(),
            reads: queue(),
            writes: queue(),
            read_connections,
            write_connections,
            scans: queue(),
            standing: ArcSwap::from_pointee(Standing::Starting),
            alarm: ArcSwapOption::empty(),
            open: AtomicUsize::new(0),
            rows_out: AtomicUsize::new(0),
            watch: ServerWatch::default(),
        }
    }

    /// The queue of the lane that carries operations of this kind. All writes of a shard have one
    /// lane, so those to one key keep their order.
    #[must_use]
    pub fn queue(&self, kind: Kind) -> &Arc<Queue> {
        match kind {
            Kind::Get | Kind::Ttl => &self.reads,
            Kind::Put | Kind::Delete | Kind::Expire => &self.writes,
            Kind::Scan | Kind::Inspect => &self.scans,
        }
    }

    /// The queues of all lanes.
    #[must_use]
    pub const fn queues(&self) -> [(Carries, &Arc<Queue>); 3] {
        [
            (Carries::Reads, &self.reads),
            (Carries::Writes, &self.writes),
            (Carries::Scans, &self.scans),
        ]
    }

    /// Whether requests may be sent to it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        **self.standing.load() == Standing::Usable
            && self.alarm.load().is_none()
            && !self.is_retired()
    }

    /// Whether it was taken out of the config.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.is_cancelled()
    }

    /// Takes no more requests; what it has is answered.
    pub fn close(&self) {
        self.queues().iter().for_each(|(_, queue)| queue.close());
    }

    /// What one more read costs here: what is to be done before it, in the time of a look.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let rows = self.rows_out.load(Ordering::Relaxed) + self.reads.keys();
        (rows as u64 + 1).saturating_mul(self.watch.look_us())
    }

    /// Notes what a lane found.
    pub fn set_standing(&self, standing: Standing) {
        if **self.standing.load() != standing {
            self.standing.store(Arc::new(standing));
        }
    }
}
