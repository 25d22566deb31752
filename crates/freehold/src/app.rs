//! Builds everything and wires it together. There are no statics: what a part needs, it is given
//! here.

use std::{io, sync::Arc, time::Duration};

use freehold_router::{Listeners, Router, RouterSettings, ShardSpec, serve};
use freehold_sweeper::{Holder, Sweeper, SweeperMetrics, SweeperSettings};
use prometheus_client::registry::Registry;
use rand::{Rng as _, rngs::StdRng};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::servers::{Account, ShardServers, servers},
    config::{Config, LanesSection, ShardConfig, SweeperSection},
    exit::Failure,
    open_files,
    sweepers::SweeperDesk,
};

/// A router that is ready to serve.
pub(crate) struct App {
    router: Router,
    sweepers: Arc<SweeperDesk>,
    registry: Registry,
    listeners: Listeners,
    stop_sweeping: CancellationToken,
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
        open_files::make_room(config.server.connections_max, lanes(config, shards));
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
        let account = Account::of_sweeper(&config.sweeper);
        let swept = servers(shards, account.as_ref(), connect_timeout, random);
        let stop_sweeping = CancellationToken::new();
        let sweepers = start_sweepers(config, swept, &mut registry, random, &stop_sweeping);
        Ok(Self {
            router,
            sweepers: Arc::new(sweepers),
            registry,
            listeners,
            stop_sweeping,
        })
    }

    /// Where callers and operators find it.
    pub(crate) fn addresses(&self) -> io::Result<(String, String)> {
        let public = self.listeners.public.local_addr()?;
        Ok((
            public.to_string(),
            self.listeners.admin.local_addr()?.to_string(),
        ))
    }

    /// Serves until `shutdown`, then drains.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()> + Send) -> io::Result<()> {
        let sweepers = Arc::clone(&self.sweepers);
        let stop_sweeping = self.stop_sweeping.clone();
        let shutdown = async move {
            shutdown.await;
            // Requests may take their time; a batch of dead rows may not.
            stop_sweeping.cancel();
        };
        let registry = Arc::new(self.registry);
        let served = serve(
            self.router,
            self.listeners,
            registry,
            self.sweepers,
            shutdown,
        )
        .await;
        self.stop_sweeping.cancel();
        sweepers.stopped().await;
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

/// The connections that lanes may have; each server has one for scans besides.
fn lanes(config: &Config, shards: &[ShardConfig]) -> u64 {
    let LanesSection { reads, writes, .. } = config.lanes;
    let of_shard = |shard: &ShardConfig| {
        let servers = 1 + shard.replicas.len() as u64;
        servers * (reads + 1) + writes
    };
    shards.iter().map(of_shard).sum()
}

fn spec(shard: ShardServers) -> ShardSpec {
    ShardSpec {
        name: shard.name,
        master: shard.master,
        replicas: shard.replicas,
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
        queue_keys_max: number(lanes.queue_keys_max),
        queue_bytes_max: number(lanes.queue_bytes_max),
        statement_timeout: Duration::from_millis(lanes.statement_timeout_ms),
        eventual_falls_back_to_master: reads.eventual_falls_back_to_master,
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

fn start_sweepers(
    config: &Config,
    shards: Vec<ShardServers>,
    registry: &mut Registry,
    random: &mut StdRng,
    stop: &CancellationToken,
) -> SweeperDesk {
    let metrics = SweeperMetrics::default();
    metrics.register(registry);
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let holder = Holder {
        id: random.next_u64(),
        name: format!("{host}, process {}", std::process::id()),
    };
    let handles = shards
        .into_iter()
        .map(|shard| {
            let sweeper = Sweeper {
                shard: shard.name.clone(),
                master: shard.master,
                replicas: shard.replicas,
                settings: sweeper_settings(&config.sweeper),
                holder: holder.clone(),
            };
            (
                shard.name,
                sweeper.spawn(&metrics, random.next_u64(), stop.clone()),
            )
        })
        .collect();
    SweeperDesk::new(handles)
}
