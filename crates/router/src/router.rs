//! Builds a router: queues, lanes and map loaders over the shards of a config.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use freehold_core::ShardId;
use freehold_storage::{Server, WriterName};
use futures::FutureExt as _;
use prometheus_client::registry::Registry;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backoff::Backoff,
    budget::Budgets,
    calls::Calls,
    gauges::Gauges,
    lane::{Lane, LaneParts, Opening, Role},
    map_loader::MapLoader,
    metrics::Metrics,
    queue::{Arrivals, Queue, QueueLimits},
    settings::RouterSettings,
    shards::{Carries, ServerLanes, Shard, Shards},
    validate::Validator,
    versions::Versions,
};

/// How long opening a connection may take, with its first look at the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a lane rests after a panic, lest the same cause fills the log.
const PAUSE_AFTER_PANIC: Duration = Duration::from_millis(100);

/// A shard of the config.
#[derive(Debug, Clone)]
pub struct ShardSpec {
    /// Its name.
    pub name: String,
    /// The server that takes writes.
    pub master: Server,
    /// Servers that copy it.
    pub replicas: Vec<Server>,
}

/// A running router: everything but its listeners.
pub struct Router {
    /// What services are made of.
    pub calls: Arc<Calls>,
    /// What it counts.
    pub metrics: Metrics,
    lanes: TaskTracker,
    loaders: TaskTracker,
    stop_loading: CancellationToken,
    /// Drops lanes with what they have.
    cut_off: CancellationToken,
}

impl Router {
    /// Starts lanes and map loaders; connects in the background, so that a server that is down
    /// keeps no other from serving. `seed` is random.
    #[must_use]
    pub fn start(
        settings: RouterSettings,
        specs: Vec<ShardSpec>,
        registry: &mut Registry,
        seed: u64,
    ) -> Self {
        let metrics = Metrics::register(registry);
        let mut random = StdRng::seed_from_u64(seed);
        let arrivals = Arc::default();
        let shards = specs
            .iter()
            .map(|spec| shard_of(spec, &settings, &arrivals, &metrics));
        let (shards, fall_back) = (shards.collect(), settings.eventual_falls_back_to_master);
        let shards = Arc::new(Shards::new(shards, metrics.unrouted(), fall_back));
        let budgets = Budgets::new(&settings);
        registry.register_collector(Box::new(Gauges {
            shards: shards.clone(),
            budgets: budgets.clone(),
        }));
        let router = Self {
            calls: Arc::new(Calls {
                shards,
                validator: Validator::new(settings.value_bytes_max),
                versions: Versions::new(random.next_u64()),
                draining: CancellationToken::new(),
                budgets,
                settings,
            }),
            metrics,
            lanes: TaskTracker::new(),
            loaders: TaskTracker::new(),
            stop_loading: CancellationToken::new(),
            cut_off: CancellationToken::new(),
        };
        for (index, spec) in (0..).zip(specs) {
            router.start_shard(ShardId(index), spec, &mut random);
        }
        router
    }

    fn start_shard(&self, shard: ShardId, spec: ShardSpec, random: &mut StdRng) {
        let settings = &self.calls.settings;
        let loader = MapLoader {
            shards: self.calls.shards.clone(),
            shard,
            server: spec.master.clone(),
            poll: settings.map_poll,
            timeout: CONNECT_TIMEOUT,
            backoff: Backoff::new(random.next_u64()),
        };
        self.loaders.spawn(loader.run(self.stop_loading.clone()));
        let lanes = self.calls.shards.shard(shard);
        self.start_lanes(shard, Role::Master, &spec.master, &lanes.master, random);
        for (index, (server, lanes)) in spec.replicas.iter().zip(&lanes.replicas).enumerate() {
            self.start_lanes(shard, Role::Replica(index), server, lanes, random);
        }
    }

    fn start_lanes(
        &self,
        shard: ShardId,
        role: Role,
        server: &Server,
        lanes: &ServerLanes,
        random: &mut StdRng,
    ) {
        let metrics = self.metrics.lane(&self.calls.shards.shard(shard).name);
        let settings = &self.calls.settings;
        for (carries, queue) in lanes.queues() {
            let opening = match carries {
                Carries::Reads | Carries::Writes => Opening::Eager,
                Carries::Scans => Opening::OnDemand,
            };
            let writes = carries == Carries::Writes;
            let connections = connections(settings, carries, role);
            if connections == 0 {
                continue;
            }
            let writer = |_| writes.then(|| WriterName::new(random.next_u64()));
            let parts = LaneParts {
                shards: self.calls.shards.clone(),
                shard,
                role,
                server: server.clone(),
                writers: (0..connections).map(writer).collect(),
                queue: queue.clone(),
                opening,
                statement_timeout: settings.statement_timeout,
                connect_timeout: CONNECT_TIMEOUT,
                answer_bytes: self.calls.budgets.answer_bytes.clone(),
                metrics: metrics.clone(),
                seed: random.next_u64(),
            };
            let lane =
                run_again_after_panics(queue.clone(), move || Lane::new(parts.clone()).run());
            let cut_off = self.cut_off.clone();
            self.lanes.spawn(cut_off.run_until_cancelled_owned(lane));
        }
    }

    /// Takes no new work; streams end once what they took is answered.
    pub fn drain(&self) {
        self.calls.draining.cancel();
    }

    fn queues(&self) -> impl Iterator<Item = &Arc<Queue>> {
        let shards = self.calls.shards.shards.iter();
        shards
            .flat_map(|shard| std::iter::once(&shard.master).chain(&shard.replicas))
            .flat_map(ServerLanes::queues)
            .map(|(_, queue)| queue)
    }

    /// Ends all tasks, after what waits was answered or `patience` is over. What is cut off then is
    /// answered as it is dropped, each request with the truth for its stage.
    pub async fn stop(self, patience: Duration) {
        self.drain();
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

/// Runs a lane until it ends. A panic in it, which is a mistake in this program, ends every request
/// it had with the truth for its stage, and a new lane goes on with the same queue.
async fn run_again_after_panics<F: Future<Output = ()>>(queue: Arc<Queue>, lane: impl Fn() -> F) {
    while AssertUnwindSafe(lane()).catch_unwind().await.is_err() {
        queue.abandon();
        tracing::error!("a lane panicked: its requests were ended, and it starts again");
        sleep(PAUSE_AFTER_PANIC).await;
    }
}

/// How many connections a lane has.
fn connections(settings: &RouterSettings, carries: Carries, role: Role) -> usize {
    match (carries, role) {
        (Carries::Reads, _) => settings.read_connections,
        (Carries::Writes, Role::Master) => settings.write_connections,
        (Carries::Writes, Role::Replica(_)) => 0,
        (Carries::Scans, _) => 1,
    }
}

fn shard_of(
    spec: &ShardSpec,
    settings: &RouterSettings,
    arrivals: &Arc<Arrivals>,
    metrics: &Metrics,
) -> Shard {
    let limits = QueueLimits {
        keys_max: settings.queue_keys_max,
        bytes_max: settings.queue_bytes_max,
    };
    let lanes = |server: &Server, role| {
        let all = [Carries::Reads, Carries::Writes, Carries::Scans];
        let connections = all.map(|carries| connections(settings, carries, role));
        let connections = connections.iter().sum();
        ServerLanes::new(server.address(), connections, limits, arrivals)
    };
    let replicas = spec.replicas.iter().enumerate();
    Shard {
        name: spec.name.as_str().into(),
        master: lanes(&spec.master, Role::Master),
        replicas: replicas
            .map(|(index, server)| lanes(server, Role::Replica(index)))
            .collect(),
        next_replica: 0.into(),
        reload: tokio::sync::Notify::new(),
        loads: tokio::sync::watch::Sender::new(0),
        operations: metrics.operations(&spec.name),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::atomic::{AtomicBool, Ordering},
    };

    use freehold_core::Key;
    use tokio::{sync::oneshot, time::Instant};

    use super::*;
    use crate::{
        failure::Failure,
        request::{Answer, Level, Operation, Reply, Request, Stage},
    };

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_panics_ends_what_it_had_and_serves_what_comes_next() {
        let limits = QueueLimits {
            keys_max: 2,
            bytes_max: 1 << 20,
        };
        let queue = Arc::new(Queue::new(limits, Arc::default()));
        let ask = || {
            let (sender, receiver) = oneshot::channel();
            let key = Operation::Delete(Key::new("k").unwrap());
            let (now, reply) = (Instant::now(), Reply::One(sender));
            let request = Request::new(key, Level::Strong, now, now, reply);
            queue.push(request, 0).unwrap();
            receiver
        };
        let panicked = AtomicBool::new(false);
        let lane = || async {
            queue.wake_at(1);
            queue.ready().await;
            let mut backlog = VecDeque::new();
            queue.drain_into(&mut backlog);
            if !panicked.swap(true, Ordering::Relaxed) {
                backlog[0].stage = Stage::Sent;
                panic!("a mistake");
            }
            for request in &mut backlog {
                request.end(Ok(Answer::Existed(true)));
            }
        };
        let lanes = run_again_after_panics(queue.clone(), lane);
        let callers = async {
            let (sent, waiting) = (ask(), ask());
            let sent = sent.await.unwrap();
            assert!(
                matches!(sent, Err(Failure::OutcomeUnknown { .. })),
                "{sent:?}"
            );
            let waiting = waiting.await.unwrap();
            assert!(matches!(waiting, Err(Failure::ShuttingDown)), "{waiting:?}");
            // Both places are free again.
            for answered in [ask(), ask()] {
                assert!(matches!(answered.await.unwrap(), Ok(Answer::Existed(true))));
            }
        };
        tokio::join!(lanes, callers);
    }
}
