//! What all parts of a router share: the map, and each shard's queues and state.

mod dispatch;

use std::sync::{Arc, OnceLock, atomic::AtomicUsize};

use arc_swap::ArcSwap;
use freehold_core::{SCHEMA_VERSION, ShardId, ShardIdentity, ShardMap, Slot};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::timeout,
};

use crate::{
    batch::Place,
    handover::{HOLD_MAX, Handover, Handovers},
    metrics::OperationMetrics,
    queue::{Arrivals, Queue, QueueLimits},
    request::Kind,
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
            Self::Down(reason) | Self::Unfit(reason) => reason.clone(),
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
    /// Get and Ttl.
    pub reads: Arc<Queue>,
    /// Put, Delete and Expire; nobody serves a replica's.
    pub writes: Arc<Queue>,
    /// Scan and Inspect, which may take longer than a request on one key should wait.
    pub scans: Arc<Queue>,
    /// What its lanes found.
    pub standing: ArcSwap<Standing>,
    /// How many connections its lanes may have.
    pub connections: usize,
    /// How many of them are open.
    pub open: AtomicUsize,
}

impl ServerLanes {
    /// Empty queues of lanes that have so many connections together.
    #[must_use]
    pub fn new(
        address: &str,
        connections: usize,
        limits: QueueLimits,
        arrivals: &Arc<Arrivals>,
    ) -> Self {
        let queue = || Arc::new(Queue::new(limits, arrivals.clone()));
        Self {
            address: address.into(),
            reads: queue(),
            writes: queue(),
            connections,
            scans: queue(),
            standing: ArcSwap::from_pointee(Standing::Starting),
            open: AtomicUsize::new(0),
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
    }

    /// Notes what a lane found.
    pub fn set_standing(&self, standing: Standing) {
        if **self.standing.load() != standing {
            self.standing.store(Arc::new(standing));
        }
    }
}

/// One shard as this router sees it.
#[derive(Debug)]
pub struct Shard {
    /// Its name in the config.
    pub name: Arc<str>,
    /// The server that takes writes.
    pub master: ServerLanes,
    /// Servers that copy it.
    pub replicas: Vec<ServerLanes>,
    /// Where the round robin over replicas is.
    pub next_replica: AtomicUsize,
    /// Wakes the task that loads this shard's claims.
    pub reload: Notify,
    /// How many loads have ended.
    pub loads: watch::Sender<u64>,
    /// Where its operations are counted.
    pub operations: Arc<OperationMetrics>,
}

/// Shared by all lanes, loaders and services of a router.
#[derive(Debug)]
pub struct Shards {
    /// Who owns what.
    pub map: ArcSwap<ShardMap>,
    /// Slots whose writes wait. A lane that sees a map sees its handovers too, if it looks at the
    /// map first.
    handovers: ArcSwap<Handovers>,
    /// In the order of the config and of the map.
    pub shards: Vec<Shard>,
    /// Of the first master that answered, and whose master that was.
    cluster_id: OnceLock<(u64, ShardId)>,
    /// Held while a new map is made of the old one.
    map_change: std::sync::Mutex<()>,
    /// Where operations are counted that no shard serves.
    pub unrouted: Arc<OperationMetrics>,
    eventual_falls_back_to_master: bool,
}

impl Shards {
    /// Nothing reached yet.
    #[must_use]
    pub fn new(
        shards: Vec<Shard>,
        unrouted: Arc<OperationMetrics>,
        eventual_falls_back_to_master: bool,
    ) -> Self {
        let map = ShardMap::new(shards.iter().map(|shard| shard.name.clone()));
        Self {
            map: ArcSwap::from_pointee(map),
            handovers: ArcSwap::default(),
            shards,
            cluster_id: OnceLock::new(),
            map_change: std::sync::Mutex::default(),
            unrouted,
            eventual_falls_back_to_master,
        }
    }

    /// One shard.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> &Shard {
        &self.shards[shard.index()]
    }

    /// Swaps the map for what `change` makes of it. Slots that change hands begin a handover.
    pub fn change_map(self: &Arc<Self>, change: impl FnOnce(&ShardMap) -> ShardMap) {
        let _one_at_a_time = self.lock_map();
        let before = self.map.load();
        let next = change(&before);
        let departures = before.departures(&next);
        let mut handovers = Handovers::clone(&self.handovers.load());
        let mut begun = Vec::new();
        for (former, slots) in departures {
            let (more, handover) = handovers.with(slots);
            handovers = more;
            begun.push((former, handover));
        }
        // Before the map: whoever sees the new owner sees that its writes wait.
        self.handovers.store(Arc::new(handovers));
        let generation = next.generation();
        self.map.store(Arc::new(next));
        for (former, handover) in begun {
            let passed = self.shard(former).master.writes.barrier(generation);
            tokio::spawn(self.clone().end_handover(handover, passed));
        }
    }

    /// Lets the new owners' lanes go on once the lane of the former owner has passed its barrier, or
    /// is gone.
    async fn end_handover(
        self: Arc<Self>,
        ended: Arc<Handover>,
        mut passed: oneshot::Receiver<()>,
    ) {
        // It is dropped where it is passed, or with the lane and everything that it had.
        if timeout(HOLD_MAX, &mut passed).await.is_err() {
            {
                let _nothing_returns_meanwhile = self.lock_map();
                ended.give_up();
            }
            self.wake_writers();
            drop(passed.await);
        }
        {
            let _one_at_a_time = self.lock_map();
            let left = self.handovers.load().without(&ended);
            self.handovers.store(Arc::new(left));
        }
        self.wake_writers();
    }

    fn wake_writers(&self) {
        for shard in &self.shards {
            shard.master.writes.wake();
        }
    }

    fn lock_map(&self) -> std::sync::MutexGuard<'_, ()> {
        let lock = self.map_change.lock();
        lock.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Where requests belong, for the lanes of a shard that look at this map: it must have been
    /// loaded before this is called.
    pub fn places<'a>(
        &self,
        map: &'a ShardMap,
        shard: ShardId,
    ) -> impl Fn(Slot, bool) -> Place + use<'a> {
        let handovers = self.handovers.load_full();
        move |slot, write| {
            if !map.serves(shard, slot, write) {
                Place::Elsewhere
            } else if write && handovers.hold(slot) {
                Place::HereLater
            } else {
                Place::Here
            }
        }
    }

    /// Whether a server belongs to this cluster and shard and has tables that are known here. The
    /// first master decides which cluster this is.
    ///
    /// # Errors
    /// What is wrong and what to do, in words.
    pub fn check_identity(
        &self,
        shard: ShardId,
        identity: &ShardIdentity,
        is_master: bool,
    ) -> Result<(), String> {
        let name = &self.shard(shard).name;
        if identity.schema_version == 0 {
            return Err("init has not finished: run `freehold init` again".into());
        }
        if identity.schema_version != SCHEMA_VERSION {
            return Err(format!(
                "its tables have version {}, this router knows {SCHEMA_VERSION}: run `freehold \
                 migrate`, or a router of that version",
                identity.schema_version
            ));
        }
        if identity.name != **name {
            return Err(format!(
                "the server belongs to shard '{}', the config calls it '{name}'",
                identity.name
            ));
        }
        let (known, first) = match (self.cluster_id.get(), is_master) {
            (Some(known), _) => *known,
            (None, true) => *self.cluster_id.get_or_init(|| (identity.cluster_id, shard)),
            (None, false) => return Err("no master was reached yet to compare with".into()),
        };
        if identity.cluster_id != known {
            return Err(format!(
                "the server belongs to cluster {:016x}, and this router to {known:016x}, which the \
                 master of shard '{}' showed first. One of the two does not belong in the config \
                 (`freehold doctor` shows the cluster of each): take it out, and restart the router",
                identity.cluster_id,
                self.shard(first).name
            ));
        }
        Ok(())
    }

    /// Asks for the shard's claims and waits until they were looked at once more.
    pub async fn reload(&self, shard: ShardId) {
        let shard = self.shard(shard);
        let mut loads = shard.loads.subscribe();
        let before = *loads.borrow_and_update();
        shard.reload.notify_one();
        // An error means that the loader is gone: the router is shutting down.
        drop(loads.wait_for(|now| *now > before).await);
    }
}
