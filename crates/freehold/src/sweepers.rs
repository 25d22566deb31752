//! The sweepers of this process, as the admin service shows and steers them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freehold_proto::v1::SweeperInfo;
use freehold_router::{Sweepers, shards::Shards};
use freehold_storage::Server;
use freehold_sweeper::{Holder, Leader, Sweeper, SweeperHandle, SweeperMetrics, Waiting};
use futures::{
    StreamExt as _,
    future::{BoxFuture, join_all},
    stream,
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::sweeper_settings,
    cluster::servers::ShardServers,
    config::{ShardConfig, SweeperSection},
};

/// Masters that are asked at once.
const MASTERS_AT_ONCE: usize = 16;

/// One sweeper per shard, in the order of the config.
pub(crate) struct SweeperDesk {
    /// Which server leads each shard.
    shards: Arc<Shards>,
    metrics: SweeperMetrics,
    holder: Holder,
    /// Ends them all.
    stop: CancellationToken,
    sweepers: Mutex<Vec<Seat>>,
}

/// The sweeper of one shard.
#[derive(Clone)]
struct Seat {
    /// What the config says of it.
    shard: ShardConfig,
    section: SweeperSection,
    handle: SweeperHandle,
    stop: CancellationToken,
}

impl SweeperDesk {
    /// Nobody sweeps yet.
    pub(crate) fn new(
        shards: Arc<Shards>,
        metrics: SweeperMetrics,
        holder: Holder,
        stop: CancellationToken,
    ) -> Self {
        Self {
            shards,
            metrics,
            holder,
            stop,
            sweepers: Mutex::default(),
        }
    }

    /// Follows the config: one of which it says the same as before goes on undisturbed, the others
    /// end and begin again. `servers` are those of `shards`; `seeds` are random.
    pub(crate) async fn follow(
        &self,
        shards: &[ShardConfig],
        servers: Vec<ShardServers>,
        section: &SweeperSection,
        mut seeds: impl FnMut() -> u64,
    ) {
        let is_same =
            |seat: &Seat, shard: &ShardConfig| seat.shard == *shard && seat.section == *section;
        let stays = |seat: &Seat| shards.iter().any(|shard| is_same(seat, shard));
        // Meanwhile they can be asked, as before.
        let end: Vec<SweeperHandle> = {
            let seats = self.lock();
            let end = seats.iter().filter(|seat| !stays(seat));
            end.map(|seat| {
                seat.stop.cancel();
                seat.handle.clone()
            })
            .collect()
        };
        // One at a time sweeps a shard, also of this process.
        join_all(end.iter().map(SweeperHandle::stopped)).await;
        let mut stay = std::mem::take(&mut *self.lock());
        let mut seats = Vec::with_capacity(shards.len());
        for (shard, servers) in shards.iter().zip(servers) {
            let found = stay.iter().position(|seat| is_same(seat, shard));
            seats.push(match found {
                Some(index) => stay.swap_remove(index),
                None => self.start(shard, servers, section, seeds()),
            });
        }
        *self.lock() = seats;
    }

    fn start(
        &self,
        shard: &ShardConfig,
        servers: ShardServers,
        section: &SweeperSection,
        seed: u64,
    ) -> Seat {
        let places: Vec<Server> = std::iter::once(servers.master)
            .chain(servers.replicas)
            .collect();
        let sweeper = Sweeper {
            leader: self.leader(servers.name.clone(), &places),
            shard: servers.name,
            servers: places,
            settings: sweeper_settings(section),
            holder: self.holder.clone(),
        };
        let stop = self.stop.child_token();
        Seat {
            shard: shard.clone(),
            section: section.clone(),
            handle: sweeper.spawn(&self.metrics, seed, stop.clone()),
            stop,
        }
    }

    /// The shards of the config, and the names of those that are swept here now.
    pub(crate) fn held(&self) -> (Vec<ShardConfig>, Vec<String>) {
        let seats = self.lock();
        let held = seats.iter().filter(|seat| seat.handle.state().held_here);
        let held = held.map(|seat| seat.shard.name.clone()).collect();
        (seats.iter().map(|seat| seat.shard.clone()).collect(), held)
    }

    /// Which of these servers leads the shard, whenever it is asked: the first one, where the router
    /// does not know any of them.
    fn leader(&self, name: String, servers: &[Server]) -> Leader {
        let known = self.shards.clone();
        let places: Vec<String> = servers.iter().map(Server::place).collect();
        Arc::new(move || {
            let map = known.map.load();
            let found = map.shards().find(|(_, view)| *view.name == *name);
            let leads = found.map(|(id, view)| {
                let server = &known.shard(id).servers[view.leader];
                server.server.load().place()
            });
            let place = places
                .iter()
                .position(|place| Some(place) == leads.as_ref());
            place.unwrap_or(0)
        })
    }

    /// Waits until all have ended, after their shutdown.
    pub(crate) async fn stopped(&self) {
        let seats = self.lock().clone();
        join_all(seats.iter().map(|seat| seat.handle.stopped())).await;
    }

    /// Those of one shard, or all.
    fn of(&self, shard: &str) -> Vec<(String, SweeperHandle)> {
        let seats = self.lock();
        let wanted = |seat: &&Seat| shard.is_empty() || seat.shard.name == shard;
        let found = seats.iter().filter(wanted);
        found
            .map(|seat| (seat.shard.name.clone(), seat.handle.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.sweepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sweepers for SweeperDesk {
    fn list(&self, shard: String, dry_run: bool) -> BoxFuture<'_, Vec<SweeperInfo>> {
        let asked: Vec<_> = self
            .of(&shard)
            .into_iter()
            .map(|(name, handle)| look(name, handle, dry_run))
            .collect();
        Box::pin(stream::iter(asked).buffered(MASTERS_AT_ONCE).collect())
    }

    fn pause(&self, shard: String, paused: bool) -> BoxFuture<'_, Vec<SweeperInfo>> {
        let told: Vec<_> = self
            .of(&shard)
            .into_iter()
            .map(|(name, handle)| set(name, handle, paused))
            .collect();
        Box::pin(stream::iter(told).buffered(MASTERS_AT_ONCE).collect())
    }
}

async fn look(name: String, handle: SweeperHandle, dry_run: bool) -> SweeperInfo {
    let mut info = info(name, &handle);
    if dry_run {
        match handle.count_due().await {
            Ok(due) => {
                info.rows_due = due.rows;
                info.rows_due_more = due.more;
                info.oldest_due = due.oldest.and_then(|oldest| oldest.try_into().ok());
            }
            Err(error) => info.error = error.to_string(),
        }
    }
    info
}

async fn set(name: String, handle: SweeperHandle, paused: bool) -> SweeperInfo {
    let set = handle.set_paused(paused).await;
    let mut info = info(name, &handle);
    match set {
        Ok(()) => {
            info.paused = paused;
            // The sweeper may not have looked since.
            if !paused && matches!(handle.state().waiting_for, Some(Waiting::Operator)) {
                info.waiting_for.clear();
            }
        }
        Err(error) => info.error = error.to_string(),
    }
    info
}

/// What is known without asking the database.
fn info(shard: String, handle: &SweeperHandle) -> SweeperInfo {
    let state = handle.state();
    let error = match &state.waiting_for {
        Some(Waiting::Master { error }) => error.clone(),
        _ => String::new(),
    };
    SweeperInfo {
        shard,
        paused: state.paused,
        holder: state.holder.unwrap_or_default(),
        held_here: state.held_here,
        rows_deleted: state.rows_deleted,
        waiting_for: state
            .waiting_for
            .map(|reason| reason.to_string())
            .unwrap_or_default(),
        error,
        ..SweeperInfo::default()
    }
}
