//! What all parts of a router share: the map, and each shard's queues and state.

mod change;
mod choose;
mod dispatch;
mod server;
mod shard;

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use freehold_core::{SCHEMA_VERSION, Service, ShardId, ShardIdentity, ShardMap, Slot};
use tokio::time::Instant;

pub use self::{
    server::{Carries, ServerLanes, Standing},
    shard::Shard,
};
use crate::{
    batch::Place, grows::Grows, handover::Handovers, metrics::OperationMetrics, request::Needs,
    settings::RouterSettings,
};

/// How reads are served, as the config has it.
#[derive(Debug, Clone)]
pub struct ReadSettings {
    /// Whether an EVENTUAL read goes to the master where no replica answers.
    pub eventual_falls_back_to_master: bool,
    /// How often a heartbeat is written, and each server looked at.
    pub heartbeat: Duration,
    /// How long a SESSION read waits for a replica before the master answers.
    pub session_wait: Duration,
    /// How long a replica that does not follow the master may serve EVENTUAL reads.
    pub replica_unusable_after: Duration,
}

impl From<&RouterSettings> for ReadSettings {
    fn from(settings: &RouterSettings) -> Self {
        Self {
            eventual_falls_back_to_master: settings.eventual_falls_back_to_master,
            heartbeat: settings.heartbeat,
            session_wait: settings.session_wait,
            replica_unusable_after: settings.replica_unusable_after,
        }
    }
}

/// Shared by all lanes, loaders and services of a router.
#[derive(Debug)]
pub struct Shards {
    /// Who owns what.
    pub map: ArcSwap<ShardMap>,
    /// Slots whose writes wait. A lane that sees a map sees its handovers too, if it looks at the
    /// map first.
    handovers: ArcSwap<Handovers>,
    /// In the order of the map, those that left the config included.
    pub shards: Grows<Shard>,
    /// Of the first master that answered, and whose master that was.
    cluster_id: OnceLock<(u64, ShardId)>,
    /// Held while a new map is made of the old one.
    map_change: Mutex<()>,
    /// Where operations are counted that no shard serves.
    pub unrouted: Arc<OperationMetrics>,
    settings: ReadSettings,
}

impl Shards {
    /// Nothing reached yet.
    #[must_use]
    pub fn new(
        shards: Vec<Shard>,
        unrouted: Arc<OperationMetrics>,
        settings: ReadSettings,
    ) -> Self {
        let map = ShardMap::new(shards.iter().map(|shard| shard.name.clone()));
        Self {
            map: ArcSwap::from_pointee(map),
            handovers: ArcSwap::default(),
            shards: shards.into_iter().collect(),
            cluster_id: OnceLock::new(),
            map_change: Mutex::default(),
            unrouted,
            settings,
        }
    }

    /// One shard.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> &Shard {
        &self.shards[shard.index()]
    }

    /// The server that leads a shard, as far as this router knows.
    #[must_use]
    pub fn leader(&self, shard: ShardId) -> &ServerLanes {
        &self.shard(shard).servers[self.map.load().shard(shard).leader]
    }

    /// Each server of a shard at its place, and whether it leads by this map; those that left the
    /// config, too.
    pub fn servers<'a>(
        &'a self,
        map: &ShardMap,
        shard: ShardId,
    ) -> impl Iterator<Item = (&'a ServerLanes, bool)> + use<'a> {
        let leader = map.shard(shard).leader;
        let servers = self.shard(shard).servers.iter().enumerate();
        servers.map(move |(index, server)| (server, index == leader))
    }

    /// Each server of a shard in the config of now, and whether it leads by this map.
    pub fn servers_now<'a>(
        &'a self,
        map: &ShardMap,
        shard: ShardId,
    ) -> impl Iterator<Item = (&'a ServerLanes, bool)> + use<'a> {
        let servers = self.servers(map, shard);
        servers.filter(|(server, _)| !server.is_retired())
    }

    /// Where requests belong, for the lanes of a server that look at this map: it must have been
    /// loaded before this is called.
    pub fn places<'a>(
        &self,
        map: &'a ShardMap,
        shard: ShardId,
        server: usize,
    ) -> impl Fn(Slot, Needs) -> Place + use<'a> {
        let handovers = self.handovers.load_full();
        let leads = map.shard(shard).leader == server;
        move |slot, needs| {
            let writes = needs == Needs::Writes;
            match map.service(shard, slot, writes) {
                Service::Elsewhere => Place::Elsewhere,
                _ if !(leads || needs == Needs::Anyone) => Place::Elsewhere,
                Service::Later => Place::HereLater,
                _ if writes && handovers.hold(slot) => Place::HereLater,
                Service::Logs => Place::HereLogged,
                Service::Serves => Place::Here,
            }
        }
    }

    /// Whether a server belongs to this cluster and shard and has tables that are known here. The
    /// first server that led a shard decides which cluster this is.
    ///
    /// # Errors
    /// What is wrong and what to do, in words.
    pub fn check_identity(
        &self,
        shard: ShardId,
        identity: &ShardIdentity,
        leads: bool,
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
        let (known, first) = match (self.cluster_id.get(), leads) {
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

    /// The cluster, once some server has decided which it is.
    #[must_use]
    pub fn cluster_id(&self) -> Option<u64> {
        self.cluster_id.get().map(|(cluster_id, _)| *cluster_id)
    }

    /// Whether some server has decided which cluster this is.
    #[must_use]
    pub fn is_cluster_known(&self) -> bool {
        self.cluster_id.get().is_some()
    }

    /// Waits until it is certain whether the server at this place of the config has led its shard
    /// up to this moment. It may take as long as a look at each server.
    pub async fn still_leads(&self, shard: ShardId, place: usize) -> bool {
        let now = Instant::now();
        let mut confirmed = self.shard(shard).confirmed.subscribe();
        self.shard(shard).look_around.notify_one();
        let leads = |(leader, since): (usize, Instant)| {
            (leader != place || since >= now).then_some(leader == place)
        };
        let decided = confirmed.wait_for(|seen| seen.is_some_and(|seen| leads(seen).is_some()));
        // An error means that the loader is gone: the router is shutting down.
        let seen = decided.await.ok().and_then(|seen| *seen);
        seen.is_some_and(|(leader, _)| leader == place)
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
