//! What all parts of a router share: the map, and each shard's queues and state.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use arc_swap::ArcSwap;
use freehold_core::{Key, Route, SCHEMA_VERSION, ShardId, ShardIdentity, ShardMap, Slot};
use tokio::sync::{Notify, watch};

use crate::{
    failure::Failure,
    queue::{Queue, QueueLimits, Refused},
    replica,
    request::{Kind, Level, Request},
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

/// One server's queues, one per lane.
#[derive(Debug)]
pub struct ServerLanes {
    /// Host and port, or a file.
    pub address: Arc<str>,
    /// Get and Ttl.
    pub reads: Vec<Arc<Queue>>,
    /// Put, Delete and Expire; a replica has none.
    pub writes: Vec<Arc<Queue>>,
    /// Scan and Inspect, which may take longer than a request on one key should wait.
    pub scans: Arc<Queue>,
    /// What its lanes found.
    pub standing: ArcSwap<Standing>,
    /// How many lanes have an open connection.
    pub open: AtomicUsize,
}

impl ServerLanes {
    /// Empty queues for so many lanes.
    #[must_use]
    pub fn new(address: &str, reads: usize, writes: usize, limits: QueueLimits) -> Self {
        let queues = |count| (0..count).map(|_| Arc::new(Queue::new(limits))).collect();
        Self {
            address: address.into(),
            reads: queues(reads),
            writes: queues(writes),
            scans: Arc::new(Queue::new(limits)),
            standing: ArcSwap::from_pointee(Standing::Starting),
            open: AtomicUsize::new(0),
        }
    }

    /// The queue of the lane that carries the key's operations of this kind. A key always has the
    /// same lane, so writes to it keep their order.
    #[must_use]
    pub fn queue(&self, kind: Kind, key: Option<&Key>) -> &Arc<Queue> {
        let lanes = match kind {
            Kind::Get | Kind::Ttl => &self.reads,
            Kind::Put | Kind::Delete | Kind::Expire => &self.writes,
            Kind::Scan | Kind::Inspect => return &self.scans,
        };
        &lanes[key.map_or(0, |key| lane_of(key, lanes.len()))]
    }

    /// All queues.
    pub fn queues(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.reads.iter().chain(&self.writes).chain([&self.scans])
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

/// Which of so many lanes carries a key. The slot is the hash's upper 16 bits, so the lower ones
/// spread the keys of one shard evenly.
#[must_use]
#[allow(clippy::cast_possible_truncation)]
pub fn lane_of(key: &Key, lanes: usize) -> usize {
    (key.hash() as u32 as usize) % lanes
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
}

/// Shared by all lanes, loaders and services of a router.
#[derive(Debug)]
pub struct Shards {
    /// Who owns what.
    pub map: ArcSwap<ShardMap>,
    /// In the order of the config and of the map.
    pub shards: Vec<Shard>,
    /// Of the first master that answered.
    cluster_id: OnceLock<u64>,
    /// Held while a new map is made of the old one.
    map_change: std::sync::Mutex<()>,
    eventual_falls_back_to_master: bool,
}

impl Shards {
    /// Nothing reached yet.
    #[must_use]
    pub fn new(shards: Vec<Shard>, eventual_falls_back_to_master: bool) -> Self {
        let map = ShardMap::new(shards.iter().map(|shard| shard.name.clone()));
        Self {
            map: ArcSwap::from_pointee(map),
            shards,
            cluster_id: OnceLock::new(),
            map_change: std::sync::Mutex::default(),
            eventual_falls_back_to_master,
        }
    }

    /// One shard.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> &Shard {
        &self.shards[shard.index()]
    }

    /// Swaps the map for what `change` makes of it.
    pub fn change_map(&self, change: impl FnOnce(&ShardMap) -> ShardMap) {
        let _one_at_a_time = self
            .map_change
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let next = change(&self.map.load());
        self.map.store(Arc::new(next));
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
        let known = match (self.cluster_id.get(), is_master) {
            (Some(known), _) => *known,
            (None, true) => *self.cluster_id.get_or_init(|| identity.cluster_id),
            (None, false) => return Err("no master was reached yet to compare with".into()),
        };
        if identity.cluster_id != known {
            return Err(format!(
                "the server belongs to cluster {:016x}, the others to {known:016x}",
                identity.cluster_id
            ));
        }
        Ok(())
    }

    /// Sends a request on its way, or ends it.
    pub fn dispatch(&self, request: Request) {
        let Some((shard, mut request)) = self.route(request) else {
            return;
        };
        let target = self.shard(shard);
        let server = self.server_for(target, &request);
        let Some(server) = server else {
            request.end(Err(self.no_replica(target)));
            return;
        };
        let queue = server.queue(request.operation.kind(), request.operation.key());
        if let Err((mut request, refused)) = queue.push(request) {
            request.end(Err(refusal(&target.name, refused, queue.limits())));
        }
    }

    /// Sends requests on their way again, ahead of newer ones.
    pub fn dispatch_again(&self, requests: Vec<Request>) {
        // From the back, so that pushing each to the front keeps their order.
        for mut request in requests.into_iter().rev() {
            let second_slot = request.operation.slots().nth(1);
            if let Some(slot) = second_slot {
                // Only the walk itself knows how to go on with part of a stretch.
                request.end(Err(Failure::Moved(slot)));
                continue;
            }
            let Some((shard, mut request)) = self.route(request) else {
                continue;
            };
            let target = self.shard(shard);
            match self.server_for(target, &request) {
                Some(server) => server
                    .queue(request.operation.kind(), request.operation.key())
                    .push_front(vec![request]),
                None => request.end(Err(self.no_replica(target))),
            }
        }
    }

    /// The shard that serves the request, or none after ending it.
    fn route(&self, mut request: Request) -> Option<(ShardId, Request)> {
        let slot = match request.operation.key() {
            Some(key) => key.slot(),
            None => request.operation.slots().next()?,
        };
        let map = self.map.load();
        let failure = match map.route(slot) {
            Route::Owner { shard, state }
                if state.is_writable() || !request.operation.kind().is_write() =>
            {
                return Some((shard, request));
            }
            Route::Owner { shard, .. } => Failure::Unavailable {
                shard: self.shard(shard).name.clone(),
                reason: format!("slot {slot} is changing hands").into(),
            },
            Route::Unowned | Route::Conflict { .. } => self.unserved(&map, slot),
        };
        request.end(Err(failure));
        None
    }

    /// Why a slot is not served: nobody owns it, or two shards say they do.
    #[must_use]
    pub fn unserved(&self, map: &ShardMap, slot: Slot) -> Failure {
        match map.route(slot) {
            Route::Conflict { shard, other } => Failure::Misconfigured(
                format!(
                    "slot {slot} is claimed by shards '{}' and '{}': neither is served",
                    map.shard(shard).name,
                    map.shard(other).name
                )
                .into(),
            ),
            Route::Unowned | Route::Owner { .. } => self.unowned(map, slot),
        }
    }

    /// Why nobody serves a slot.
    #[must_use]
    pub fn unowned(&self, map: &ShardMap, slot: Slot) -> Failure {
        if let Some(name) = map.successor(slot) {
            return self.given_away(slot, name);
        }
        let missing = map.shards().find(|(_, view)| view.fence.is_none());
        let Some((shard, view)) = missing else {
            return Failure::Misconfigured(
                format!(
                    "slot {slot} has no owner among the shards of this router's config: add the \
                     shard that owns it"
                )
                .into(),
            );
        };
        let standing = self.shard(shard).master.standing.load_full();
        match &*standing {
            Standing::Unfit(reason) => {
                Failure::Misconfigured(format!("shard '{}': {reason}", view.name).into())
            }
            other => Failure::Unavailable {
                shard: view.name.clone(),
                reason: format!("slot {slot} may be its own: {}", other.reason()).into(),
            },
        }
    }

    /// A slot that its former owner gave away, and that the new one does not claim as far as is
    /// known here.
    fn given_away(&self, slot: Slot, name: &str) -> Failure {
        let Some(shard) = self.shards.iter().find(|shard| *shard.name == *name) else {
            return Failure::Misconfigured(
                format!(
                    "slot {slot} was given to shard '{name}', which is not in this router's \
                     config: add it"
                )
                .into(),
            );
        };
        if shard.master.is_usable() {
            // Its claim may be there by now.
            shard.reload.notify_one();
        }
        Failure::Unavailable {
            shard: shard.name.clone(),
            reason: format!("slot {slot} is on its way there").into(),
        }
    }

    fn server_for<'a>(&self, shard: &'a Shard, request: &Request) -> Option<&'a ServerLanes> {
        if request.level == Level::Strong {
            return Some(&shard.master);
        }
        let turn = shard.next_replica.fetch_add(1, Ordering::Relaxed);
        match replica::choose(shard.replicas.iter().map(ServerLanes::is_usable), turn) {
            Some(index) => shard.replicas.get(index),
            None => self.eventual_falls_back_to_master.then_some(&shard.master),
        }
    }

    /// Whether a read that a replica could not answer may go to the master.
    #[must_use]
    pub fn may_fall_back(&self) -> bool {
        self.eventual_falls_back_to_master
    }

    /// Why an EVENTUAL read has nobody to answer it.
    #[must_use]
    pub fn no_replica(&self, shard: &Shard) -> Failure {
        Failure::Unavailable {
            shard: shard.name.clone(),
            reason: "no replica answers, and the config keeps such reads from the master".into(),
        }
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

/// What a full or closed queue means for the caller.
#[must_use]
pub fn refusal(shard: &Arc<str>, refused: Refused, limits: QueueLimits) -> Failure {
    let limit = match refused {
        Refused::Keys => format!("{} requests", limits.keys_max),
        Refused::Bytes => format!("{} bytes", limits.bytes_max),
        Refused::Closed => return Failure::ShuttingDown,
    };
    Failure::Full {
        shard: shard.clone(),
        what: "the queue",
        limit,
    }
}
