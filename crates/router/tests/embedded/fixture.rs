//! A router over SQLite files, and a client of its public listener.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use freehold_core::{ShardIdentity, slot::even_share};
use freehold_proto::v1::{self, key_value_client::KeyValueClient};
use freehold_router::{
    Listeners, Movers, Router, RouterSettings, ShardSpec, Sweepers,
    failure::Failure,
    movers::{Start, Wish},
    serve,
};
use freehold_storage::{ConnectOptions, Dsn, Server};
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tonic::transport::Channel;

/// A running router. Dropping it ends it.
pub(crate) struct Fixture {
    pub(crate) client: KeyValueClient<Channel>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    folder: TempDir,
    shutdown: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

struct NoSweepers;

impl Sweepers for NoSweepers {
    fn list(&self, _: String, _: bool) -> BoxFuture<'_, Vec<v1::SweeperInfo>> {
        Box::pin(async { Vec::new() })
    }

    fn pause(&self, _: String, _: bool) -> BoxFuture<'_, Vec<v1::SweeperInfo>> {
        Box::pin(async { Vec::new() })
    }
}

struct NoMovers;

impl Movers for NoMovers {
    fn list(&self) -> BoxFuture<'_, v1::ListMovesResponse> {
        Box::pin(async { v1::ListMovesResponse::default() })
    }

    fn plan(&self, _: Wish) -> BoxFuture<'_, Result<v1::PlanMovesResponse, Failure>> {
        Box::pin(async { Ok(v1::PlanMovesResponse::default()) })
    }

    fn start(&self, _: Start) -> BoxFuture<'_, Result<v1::StartMoveResponse, Failure>> {
        Box::pin(async { Ok(v1::StartMoveResponse::default()) })
    }

    fn get(&self, _: u64) -> BoxFuture<'_, Result<v1::GetMoveResponse, Failure>> {
        Box::pin(async { Ok(v1::GetMoveResponse::default()) })
    }

    fn go_on(
        &self,
        _: Vec<u64>,
        _: bool,
    ) -> BoxFuture<'_, Result<v1::ResumeMovesResponse, String>> {
        Box::pin(async { Ok(v1::ResumeMovesResponse::default()) })
    }
}

impl Fixture {
    /// Two shards, default settings.
    pub(crate) async fn start() -> Self {
        Self::with_settings(RouterSettings::default()).await
    }

    pub(crate) async fn with_settings(settings: RouterSettings) -> Self {
        Self::with(settings, false).await
    }

    /// Each shard's file stands there as its replica, too.
    pub(crate) async fn with_replicas() -> Self {
        Self::with(RouterSettings::default(), true).await
    }

    async fn with(settings: RouterSettings, replicas: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut specs = Vec::new();
        for (index, name) in ["a", "b"].into_iter().enumerate() {
            let master = server(&folder, name);
            let mut schema = master.connect_schema().await.unwrap();
            let identity = ShardIdentity {
                name: name.to_owned(),
                cluster_id: 7,
                schema_version: 0,
            };
            schema.create(&identity).await.unwrap();
            schema.take_slots(even_share(index, 2)).await.unwrap();
            specs.push(ShardSpec {
                name: name.to_owned(),
                servers: vec![master; 1 + usize::from(replicas)],
            });
        }
        let mut registry = Registry::default();
        let router = Router::start(settings, specs, &mut registry, 1);
        let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, admin_address) = (public.local_addr().unwrap(), admin.local_addr().unwrap());
        let (shutdown, told) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(
            router,
            Listeners { public, admin },
            Arc::new(registry),
            (Arc::new(NoSweepers), Arc::new(NoMovers)),
            async {
                // A dropped fixture ends the router, too.
                drop(told.await);
            },
        ));
        let client = KeyValueClient::connect(format!("http://{address}"))
            .await
            .unwrap();
        let shutdown = Some(shutdown);
        let mut fixture = Self {
            client,
            address,
            admin: admin_address,
            folder,
            shutdown,
            serving,
        };
        fixture.wait_until_served().await;
        fixture
    }

    /// Both shards were reached once a key of each can be read.
    async fn wait_until_served(&mut self) {
        for key in [key_of_shard(0, 0), key_of_shard(1, 0)] {
            while let Err(status) = self.client.get(get(&key)).await {
                assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// A connection of its own to a shard's file.
    pub(crate) fn server(&self, name: &str) -> Server {
        server(&self.folder, name)
    }

    /// A number from its metrics.
    pub(crate) async fn metric(&self, name: &str) -> usize {
        let mut connection = TcpStream::connect(self.admin).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.expect("such a metric").trim().parse().unwrap()
    }

    /// Shuts down as SIGTERM does.
    pub(crate) async fn stop(mut self) {
        drop(self.shutdown.take());
        self.serving.await.unwrap().unwrap();
    }
}

fn server(folder: &TempDir, name: &str) -> Server {
    let path: PathBuf = folder.path().join(format!("{name}.sqlite"));
    let options = ConnectOptions {
        connect_timeout: Duration::from_secs(5),
        seed: 1,
    };
    Server::new(&Dsn::sqlite(path), options)
}

/// The `number`th key of the form `k0`, `k1`... that belongs to shard 0 or 1.
pub(crate) fn key_of_shard(shard: usize, number: usize) -> String {
    (0..)
        .map(|candidate| format!("k{candidate}"))
        .filter(|key| {
            let slot = freehold_core::Key::new(key.clone()).unwrap().slot();
            even_share(shard, 2).contains(&slot.0)
        })
        .nth(number)
        .unwrap()
}

pub(crate) fn get(key: &str) -> v1::GetRequest {
    v1::GetRequest {
        key: key.to_owned().into(),
        read: None,
    }
}

pub(crate) fn put(key: &str, value: &str) -> v1::PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    v1::PutRequest {
        key,
        value,
        ttl: None,
    }
}

pub(crate) fn delete(key: &str) -> v1::DeleteRequest {
    v1::DeleteRequest {
        key: key.to_owned().into(),
    }
}

pub(crate) fn milliseconds(ms: i32) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::from(ms / 1_000),
        nanos: ms % 1_000 * 1_000_000,
    }
}
