//! What a router runs for each shard of its config.

mod change;
mod panics;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use freehold_core::ShardId;
use freehold_storage::{Server, WriterName};
use rand::{Rng as _, rngs::StdRng};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::change::{Changes, Obstacle};
use self::panics::run_again_after_panics;
use crate::{
    beat_times::BeatTimes,
    calls::Calls,
    lane::{Lane, LaneParts, Opening},
    leadership::Adoption,
    map_loader::{AdoptRequest, LoaderSettings, MapLoader},
    metrics::Metrics,
    queue::{Arrivals, Queue, QueueLimits},
    router::ShardSpec,
    settings::RouterSettings,
    shards::{Carries, ServerLanes, Shard},
    sightings::BEATS_KEPT_MAX,
    waits::Waits,
    watch::Watcher,
};

/// How long opening a connection may take, with its first look at the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// How long reading the rows of all slots may take: in a debug build on a machine that does much
/// else, that has taken more than four seconds.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Lanes, watchers and map loaders of all shards.
pub struct Roster {
    calls: Arc<Calls>,
    metrics: Metrics,
    arrivals: Arc<Arrivals>,
    random: Mutex<StdRng>,
    /// Held while the config is changed.
    changing: Mutex<()>,
    lanes: TaskTracker,
    loaders: TaskTracker,
    stop_loading: CancellationToken,
    /// Drops lanes with what they have.
    cut_off: CancellationToken,
}

impl Roster {
    pub(crate) fn new(
        calls: Arc<Calls>,
        metrics: Metrics,
        arrivals: Arc<Arrivals>,
        random: StdRng,
    ) -> Self {
        Self {
            calls,
            metrics,
            arrivals,
            random: Mutex::new(random),
            changing: Mutex::default(),
            lanes: TaskTracker::new(),
            loaders: TaskTracker::new(),
            stop_loading: CancellationToken::new(),
            cut_off: CancellationToken::new(),
        }
    }

    fn draw(&self) -> u64 {
        let random = self.random.lock();
        random.unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// What the router serves, and what it knows of itself.
    #[must_use]
    pub fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// Starts what a shard needs that is in the map.
    pub(crate) fn start_shard(&self, index: usize, requests: mpsc::Receiver<AdoptRequest>) {
        let id = ShardId(u16::try_from(index).expect("the config allows no more"));
        let settings = &self.calls.settings;
        let adoption = match settings.adopts_automatically {
            true => Adoption::Automatic,
            false => Adoption::Manual,
        };
        let shards = self.calls.shards.clone();
        let loader = MapLoader::new(
            shards.clone(),
            id,
            LoaderSettings {
                poll: settings.map_poll,
                timeout: CONNECT_TIMEOUT,
                load_timeout: LOAD_TIMEOUT,
                adoption,
            },
            requests,
            self.draw(),
        );
        let shard = shards.shard(id);
        self.spawn_until(&shard.retired, loader.run(self.stop_loading.clone()));
        for place in 0..shard.servers.iter().count() {
            self.start_server(id, place);
        }
        let (waiting, stop) = (shards.clone(), self.stop_loading.clone());
        let waits = async move {
            let serve = || waiting.serve_waiting(id);
            waiting.shard(id).waits.run(serve).await;
        };
        let waits = stop.run_until_cancelled_owned(waits);
        self.spawn_until(&shard.retired, waits);
    }

    fn spawn_until<T: Send + 'static>(
        &self,
        retired: &CancellationToken,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        let retired = retired.clone();
        self.loaders.spawn(retired.run_until_cancelled_owned(task));
    }

    /// Starts what a server needs that has its place.
    fn start_server(&self, id: ShardId, place: usize) {
        self.start_lanes(id, place);
        let server = &self.calls.shards.shard(id).servers[place];
        if !matches!(**server.server.load(), Server::Mysql(_)) {
            return;
        }
        let settings = &self.calls.settings;
        let watcher = Watcher {
            shards: self.calls.shards.clone(),
            shard: id,
            place,
            beat: settings.heartbeat,
            poll: settings.map_poll,
        };
        self.spawn_until(&server.retired, watcher.run(self.stop_loading.clone()));
    }

    fn start_lanes(&self, id: ShardId, place: usize) {
        let shard = self.calls.shards.shard(id);
        let metrics = self.metrics.lane(&shard.name);
        let settings = &self.calls.settings;
        for (carries, queue) in shard.servers[place].queues() {
            let opening = match carries {
                Carries::Reads => Opening::Eager,
                Carries::Writes => Opening::WhileLeading,
                Carries::Scans => Opening::OnDemand,
            };
            let writes = carries == Carries::Writes;
            let connections = connections(settings, carries);
            let writer = |_| writes.then(|| WriterName::new(self.draw()));
            let parts = LaneParts {
                shards: self.calls.shards.clone(),
                shard: id,
                place,
                writers: (0..connections).map(writer).collect(),
                queue: queue.clone(),
                opening,
                statement_timeout: settings.statement_timeout,
                connect_timeout: CONNECT_TIMEOUT,
                answer_bytes: self.calls.budgets.answer_bytes.clone(),
                metrics: metrics.clone(),
                seed: self.draw(),
            };
            let lane = run_again_after_panics(queue.clone(), move |after_panic| {
                Lane::new(parts.clone(), after_panic).run()
            });
            let lane = self.cut_off.clone().run_until_cancelled_owned(lane);
            self.lanes.spawn(shard.lanes.track_future(lane));
        }
    }

    fn queues(&self) -> impl Iterator<Item = &Arc<Queue>> {
        let shards = self.calls.shards.shards.iter();
        shards
            .flat_map(|shard| shard.servers.iter())
            .flat_map(ServerLanes::queues)
            .map(|(_, queue)| queue)
    }

    /// Ends all tasks, after what waits was answered or `patience` is over.
    pub(crate) async fn stop(&self, patience: Duration) {
        self.queues().for_each(|queue| queue.close());
        self.lanes.close();
        if timeout(patience, self.lanes.wait()).await.is_err() {
            tracing::warn!("statements were still outstanding near the end of the grace period");
            self.cut_off.cancel();
            self.lanes.wait().await;
        }
        // What came in while the lanes ended is ended, too.
        self.queues().for_each(|queue| queue.abandon());
        self.stop_loading.cancel();
        self.loaders.close();
        self.loaders.wait().await;
    }
}

/// How many connections a lane has.
fn connections(settings: &RouterSettings, carries: Carries) -> usize {
    match carries {
        Carries::Reads => settings.read_connections,
        Carries::Writes => settings.write_connections,
        Carries::Scans => settings.scan_connections,
    }
}

/// The queues of a shard, nothing reached yet.
pub(crate) fn shard_of(
    spec: &ShardSpec,
    settings: &RouterSettings,
    arrivals: &Arc<Arrivals>,
    metrics: &Metrics,
) -> (Shard, mpsc::Receiver<AdoptRequest>) {
    let lanes = |server: &Server| lanes_of(server, settings, arrivals);
    let (adopt, requests) = mpsc::channel(1);
    let shard = Shard {
        name: spec.name.as_str().into(),
        servers: spec.servers.iter().map(lanes).collect(),
        next_replica: 0.into(),
        reload: tokio::sync::Notify::new(),
        loads: tokio::sync::watch::Sender::new(0),
        look_around: tokio::sync::Notify::new(),
        confirmed: tokio::sync::watch::Sender::new(None),
        answering: arc_swap::ArcSwapOption::empty(),
        leader_has: arc_swap::ArcSwapOption::empty(),
        adopt,
        operations: metrics.operations(&spec.name),
        beats: std::sync::Mutex::new(BeatTimes::new(BEATS_KEPT_MAX)),
        ended: arc_swap::ArcSwap::default(),
        waits: Waits::default(),
        lanes: TaskTracker::new(),
        retired: CancellationToken::new(),
        tag: std::sync::OnceLock::new(),
    };
    (shard, requests)
}

/// The queues of a server.
fn lanes_of(server: &Server, settings: &RouterSettings, arrivals: &Arc<Arrivals>) -> ServerLanes {
    let limits = QueueLimits {
        keys_max: settings.queue_keys_max,
        bytes_max: settings.queue_bytes_max,
    };
    let [reads, writes, scans] = [Carries::Reads, Carries::Writes, Carries::Scans]
        .map(|carries| connections(settings, carries));
    ServerLanes::new(server, (reads + scans, writes), limits, arrivals)
}
