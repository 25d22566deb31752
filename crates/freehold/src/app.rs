//! Builds everything and wires it together. There are no statics: what a part needs, it is given
//! here.

use std::{io, path::Path, sync::Arc, time::Duration};

use freehold_mover::MoverSettings;
use freehold_router::{
    Listeners, Router, RouterSettings, ShardSpec, movers::Limits, serve, shards::Shards,
};
use freehold_sweeper::{Holder, SweeperMetrics, SweeperSettings};
use prometheus_client::registry::Registry;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::background::{AuditMetrics, Background},
    cluster::servers::{Account, ShardServers, servers},
    config::{AdoptMode, Config, LanesSection, MoverSection, ShardConfig, SweeperSection},
    exit::Failure,
    movers::{MoverDesk, Steered, metrics::MoverMetrics},
    open_files,
    reload::{Parts, Reloader},
    sweepers::SweeperDesk,
};

/// A router that is ready to serve.
pub(crate) struct App {
    router: Router,
    sweepers: Arc<SweeperDesk>,
    registry: Registry,
    listeners: Listeners,
    stop_sweeping: CancellationToken,
    auditing: JoinHandle<()>,
    movers: Arc<MoverDesk>,
    moving: JoinHandle<()>,
}

impl App {
    /// Binds the listeners and starts everything else. Servers are connected to in the background:
    /// one that is down keeps no other from serving.
    pub(crate) async fn build(
        config: &Config,
        shards: &[ShardConfig],
        random: &mut StdRng,
    ) -> Result<Self, Failure> {
        let listeners = Listeners {
            public: bind("server.listen", &config.server.listen).await?,
            admin: bind("server.admin", &config.server.admin).await?,
        };
        make_room(config, shards);
        let connect_timeout = Duration::from_millis(config.lanes.connect_timeout_ms);
        let mut registry = Registry::with_prefix("freehold");
        let specs = servers(shards, None, connect_timeout, random)
            .into_iter()
            .map(spec);
        let router = Router::start(
            router_settings(config),
            specs.collect(),
            &mut registry,
            random.next_u64(),
        );
        let stop_sweeping = CancellationToken::new();
        let sweepers = sweeper_desk(
            router.calls.shards.clone(),
            &mut registry,
            random.next_u64(),
            &stop_sweeping,
        );
        sweep(&sweepers, config, shards, random).await;
        let metrics = AuditMetrics::default();
        metrics.register(&mut registry);
        let sweepers = Arc::new(sweepers);
        let audits = Background {
            desk: sweepers.clone(),
            metrics,
            section: config.audit.clone(),
            connect_timeout,
            random: StdRng::from_rng(random),
        };
        let auditing = tokio::spawn(audits.run(stop_sweeping.clone()));
        let metrics = MoverMetrics::default();
        metrics.register(&mut registry);
        let movers = Arc::new(MoverDesk::new(
            router.calls.shards.clone(),
            metrics,
            own_name(),
            StdRng::from_rng(random),
        ));
        follow_moves(&movers, config, shards, random);
        let moving = tokio::spawn(movers.clone().watch(stop_sweeping.clone()));
        Ok(Self {
            router,
            sweepers,
            registry,
            listeners,
            stop_sweeping,
            auditing,
            movers,
            moving,
        })
    }

    /// What follows the file that the config came from, on change and on SIGHUP.
    pub(crate) fn reloader(
        &self,
        file: &Path,
        config: &Config,
        shards: &[ShardConfig],
        random: &mut StdRng,
    ) -> Result<Reloader, Failure> {
        let parts = Parts {
            roster: self.router.roster.clone(),
            sweepers: self.sweepers.clone(),
            movers: self.movers.clone(),
            random: StdRng::from_rng(random),
        };
        Reloader::new(file, config.clone(), shards.to_vec(), parts)
    }

    /// Where callers and operators find it.
    pub(crate) fn addresses(&self) -> io::Result<(String, String)> {
        let public = self.listeners.public.local_addr()?;
        Ok((
            public.to_string(),
            self.listeners.admin.local_addr()?.to_string(),
        ))
    }

    /// Serves until `shutdown`, then drains. `reloader` follows the config's file until then.
    pub(crate) async fn run(
        self,
        reloader: Option<Reloader>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let sweepers = Arc::clone(&self.sweepers);
        let stop_sweeping = self.stop_sweeping.clone();
        let stop_reloading = CancellationToken::new();
        let following = reloader.map(|reloader| tokio::spawn(reloader.run(stop_reloading.clone())));
        let shutdown = async move {
            shutdown.await;
            stop_reloading.cancel();
            if let Some(following) = following {
                // Half a change would start what nobody stops.
                drop(following.await);
            }
            // Requests may take their time; a batch of dead rows may not, and a move goes on elsewhere.
            stop_sweeping.cancel();
        };
        let registry = Arc::new(self.registry);
        let served = serve(
            self.router,
            self.listeners,
            registry,
            (self.sweepers, Arc::new(Steered(self.movers))),
            shutdown,
        )
        .await;
        self.stop_sweeping.cancel();
        sweepers.stopped().await;
        drop(self.auditing.await);
        drop(self.moving.await);
        served
    }
}

async fn bind(key: &str, address: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => ": stop what listens there, or choose another address",
            _ => "",
        };
        Failure::Serve(format!("{key}: cannot listen on {address}: {error}{hint}"))
    })
}

/// The connections that lanes may have.
fn lanes(config: &Config, shards: &[ShardConfig]) -> u64 {
    let LanesSection {
        reads,
        writes,
        scans,
        ..
    } = config.lanes;
    let of_shard = |shard: &ShardConfig| {
        let servers = 1 + shard.replicas.len() as u64;
        servers * (reads + scans) + writes
    };
    shards.iter().map(of_shard).sum()
}

/// Has the shards of a config swept.
pub(crate) async fn sweep(
    desk: &SweeperDesk,
    config: &Config,
    shards: &[ShardConfig],
    random: &mut StdRng,
) {
    let account = Account::of_sweeper(&config.sweeper);
    let connect_timeout = Duration::from_millis(config.lanes.connect_timeout_ms);
    let swept = servers(shards, account.as_ref(), connect_timeout, random);
    let seeds = || random.next_u64();
    desk.follow(shards, swept, &config.sweeper, seeds).await;
}

/// Has the moves between the shards of a config looked after.
pub(crate) fn follow_moves(
    desk: &MoverDesk,
    config: &Config,
    shards: &[ShardConfig],
    random: &mut StdRng,
) {
    let account = Account::of_mover(&config.mover);
    let connect_timeout = Duration::from_millis(config.lanes.connect_timeout_ms);
    let servers = servers(shards, account.as_ref(), connect_timeout, random);
    desk.follow(servers.into_iter().map(Into::into).collect(), &config.mover);
}

/// This process, for people.
pub(crate) fn own_name() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy().into_owned();
    format!("{host}, process {}", std::process::id())
}

/// Raises the limit of open files to what a config needs.
pub(crate) fn make_room(config: &Config, shards: &[ShardConfig]) {
    open_files::make_room(config.server.connections_max, lanes(config, shards));
}

pub(crate) fn spec(shard: ShardServers) -> ShardSpec {
    ShardSpec {
        name: shard.name,
        servers: std::iter::once(shard.master)
            .chain(shard.replicas)
            .collect(),
    }
}

pub(crate) fn router_settings(config: &Config) -> RouterSettings {
    let Config {
        server,
        lanes,
        reads,
        ..
    } = config;
    RouterSettings {
        value_bytes_max: number(server.value_bytes_max),
        connections_max: number(server.connections_max),
        calls_max: number(server.calls_max),
        received_bytes_max: number(server.received_bytes_max),
        answer_bytes_max: number(server.answer_bytes_max),
        request_timeout: Duration::from_millis(server.request_timeout_ms),
        pipeline_requests_max: number(server.pipeline_requests_max),
        pipeline_answer_bytes_max: number(server.pipeline_answer_bytes_max),
        map_poll: Duration::from_millis(server.map_poll_ms),
        read_connections: number(lanes.reads),
        write_connections: number(lanes.writes),
        scan_connections: number(lanes.scans),
        queue_keys_max: number(lanes.queue_keys_max),
        queue_bytes_max: number(lanes.queue_bytes_max),
        statement_timeout: Duration::from_millis(lanes.statement_timeout_ms),
        adopts_automatically: config.failover.adopt == AdoptMode::Automatic,
        eventual_falls_back_to_master: reads.eventual_falls_back_to_master,
        heartbeat: Duration::from_millis(reads.heartbeat_ms),
        session_wait: Duration::from_millis(reads.session_wait_ms),
        replica_unusable_after: Duration::from_millis(reads.replica_unusable_after_ms),
        grace_period: Duration::from_millis(server.grace_period_ms),
    }
}

/// The config's check has bounded it far below what memory can address.
fn number(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

pub(crate) fn sweeper_settings(section: &SweeperSection) -> SweeperSettings {
    SweeperSettings {
        enabled: section.enabled,
        batch_rows_max: number(section.batch_rows_max),
        batch_time_max: Duration::from_millis(section.batch_ms_max),
        pause_factor: section.pause_factor,
        pause_min: Duration::from_millis(section.pause_ms_min),
        pause_max: Duration::from_millis(section.pause_ms_max),
        idle_interval: Duration::from_millis(section.idle_ms),
        replica_lag_max: Some(Duration::from_millis(section.replica_lag_ms_max)),
        purge_backlog_max: Some(section.purge_backlog_max),
        // The rest are times that have to fit together, and that no load asks to be others.
        ..SweeperSettings::default()
    }
}

pub(crate) fn mover_settings(section: &MoverSection) -> MoverSettings {
    // The rest are times and sizes that have to fit together.
    limited(
        MoverSettings::default(),
        &Limits {
            bytes_per_second_max: Some(section.bytes_per_s_max),
            latency_factor_max: Some(section.latency_factor_max),
        },
    )
}

/// The same with the limits that somebody gave a move.
pub(crate) fn limited(mut settings: MoverSettings, limits: &Limits) -> MoverSettings {
    if let Some(bytes) = limits.bytes_per_second_max {
        settings.bytes_per_second_max = Some(bytes).filter(|bytes| *bytes > 0);
    }
    if let Some(factor) = limits.latency_factor_max {
        settings.latency_factor_max = Some(factor).filter(|factor| *factor > 0.0);
    }
    settings
}

/// A desk at which nobody sweeps yet.
fn sweeper_desk(
    shards: Arc<Shards>,
    registry: &mut Registry,
    id: u64,
    stop: &CancellationToken,
) -> SweeperDesk {
    let metrics = SweeperMetrics::default();
    metrics.register(registry);
    let name = own_name();
    let holder = Holder { id, name };
    SweeperDesk::new(shards, metrics, holder, stop.clone())
}
