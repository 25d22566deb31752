//! The gRPC service `Admin`: what this router knows, and steering of the sweepers.

use std::sync::Arc;

use freehold_core::{Key, Route, ShardId, ShardMap, key};
use freehold_proto::v1::{self, admin_server::Admin};
use futures::future::BoxFuture;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::{
    calls::Calls,
    failure::Failure,
    replica,
    request::{Answer, Level, Operation},
    shards::{ServerLanes, Shard},
    status,
    validate::wire_ttl,
};

/// What steers the sweepers; the wiring gives it, since a router does not sweep by itself.
pub trait Sweepers: Send + Sync + 'static {
    /// What the sweepers do; only of one shard if it is named. With `dry_run` due rows are counted.
    fn list(&self, shard: String, dry_run: bool) -> BoxFuture<'_, Vec<v1::SweeperInfo>>;

    /// Pauses or resumes; only one shard if it is named.
    fn pause(&self, shard: String, paused: bool) -> BoxFuture<'_, Vec<v1::SweeperInfo>>;
}

/// How often a key is explained once more because its owner changed.
const EXPLAINED_AGAIN_MAX: usize = 3;

/// Serves `Admin`.
pub struct AdminService {
    calls: Arc<Calls>,
    sweepers: Arc<dyn Sweepers>,
}

impl AdminService {
    /// A service that shows these lanes and steers these sweepers.
    #[must_use]
    pub fn new(calls: Arc<Calls>, sweepers: Arc<dyn Sweepers>) -> Self {
        Self { calls, sweepers }
    }

    fn check_shard(&self, name: &str) -> Result<(), Status> {
        let names = || self.calls.shards.shards.iter().map(|shard| &*shard.name);
        if name.is_empty() || names().any(|known| known == name) {
            return Ok(());
        }
        let known = names().collect::<Vec<_>>().join(", ");
        let problem = format!("no shard is called '{name}': the config has {known}");
        Err(status::to_status(&Failure::invalid("shard", problem)))
    }

    /// Explains a key as of one map: where the key's owner changed meanwhile, once more.
    async fn explain_key(&self, key: Key) -> v1::ExplainResponse {
        let mut explained = self.explain_by_map(key.clone()).await;
        for _ in 0..EXPLAINED_AGAIN_MAX {
            let map = self.calls.shards.map.load();
            let owner = match map.route(key.slot()) {
                Route::Owner { shard, .. } => &*map.shard(shard).name,
                Route::Unowned | Route::Conflict { .. } => "",
            };
            if owner == explained.shard {
                break;
            }
            explained = self.explain_by_map(key.clone()).await;
        }
        explained
    }

    async fn explain_by_map(&self, key: Key) -> v1::ExplainResponse {
        let map = self.calls.shards.map.load_full();
        let slot = key.slot();
        let mut response = v1::ExplainResponse {
            hash: key.hash(),
            tag: key.bytes().slice_ref(key::tag(key.bytes())),
            slot: u32::from(slot.0),
            ..Default::default()
        };
        match map.route(slot) {
            Route::Owner { shard, state } => {
                state.as_str().clone_into(&mut response.slot_state);
                self.explain_owner(&mut response, &map, shard, &key);
            }
            Route::Unowned => {
                "unowned".clone_into(&mut response.slot_state);
                response.row_error = self.calls.shards.unowned(&map, slot).to_string();
                return response;
            }
            Route::Conflict { .. } => "conflict".clone_into(&mut response.slot_state),
        }
        let deadline = Instant::now() + self.calls.request_timeout();
        match self
            .calls
            .ask(Operation::Inspect(key), Level::Strong, deadline)
            .await
        {
            Ok(Answer::Raw(row)) => {
                response.row = row.map(|row| v1::RowInfo {
                    live: row.live,
                    version: row.version,
                    ttl: wire_ttl(row.ttl_ms),
                    value_bytes: row.value_bytes as u64,
                });
            }
            Ok(other) => unreachable!("an inspection is answered with a row: {other:?}"),
            Err(failure) => response.row_error = failure.to_string(),
        }
        response
    }

    fn explain_owner(
        &self,
        response: &mut v1::ExplainResponse,
        map: &ShardMap,
        owner: ShardId,
        key: &Key,
    ) {
        let shard = self.calls.shards.shard(owner);
        let view = map.shard(owner);
        shard.name.as_ref().clone_into(&mut response.shard);
        shard
            .master
            .address
            .as_ref()
            .clone_into(&mut response.master);
        response.slot_epoch = view.claim(key.slot()).map_or(0, |claim| claim.slot_epoch);
        (response.term, response.epoch) =
            view.fence.map_or((0, 0), |fence| (fence.term, fence.epoch));
        response.reads_waiting = shard.master.reads.keys() as u64;
        response.writes_waiting = shard.master.writes.keys() as u64;
        response.replicas = replica_choices(shard);
    }
}

fn replica_choices(shard: &Shard) -> Vec<v1::ReplicaChoice> {
    let turn = shard
        .next_replica
        .load(std::sync::atomic::Ordering::Relaxed);
    let next = replica::choose(shard.replicas.iter().map(ServerLanes::is_usable), turn);
    let choice = |(index, server): (usize, &ServerLanes)| {
        let reason = server.standing.load().reason().to_string();
        let usable = server.is_usable();
        v1::ReplicaChoice {
            address: server.address.to_string(),
            usable,
            reason: if usable {
                "answers; takes its turn".to_owned()
            } else {
                reason
            },
            next: next == Some(index),
        }
    };
    shard.replicas.iter().enumerate().map(choice).collect()
}

fn server_info(server: &ServerLanes, role: v1::ServerRole) -> v1::ServerInfo {
    v1::ServerInfo {
        address: server.address.to_string(),
        role: role.into(),
        usable: server.is_usable(),
        reason: server.standing.load().reason().to_string(),
    }
}

fn shard_info(map: &ShardMap, id: ShardId, shard: &Shard) -> v1::ShardInfo {
    let fence = map.shard(id).fence;
    let servers = std::iter::once(server_info(&shard.master, v1::ServerRole::Master)).chain(
        shard
            .replicas
            .iter()
            .map(|server| server_info(server, v1::ServerRole::Replica)),
    );
    let queues = std::iter::once(&shard.master).chain(&shard.replicas);
    v1::ShardInfo {
        name: shard.name.to_string(),
        slots_owned: u32::try_from(map.slots_owned(id)).unwrap_or(u32::MAX),
        term: fence.map_or(0, |fence| fence.term),
        epoch: fence.map_or(0, |fence| fence.epoch),
        servers: servers.collect(),
        queued: queues
            .flat_map(ServerLanes::queues)
            .map(|(_, queue)| queue.keys() as u64)
            .sum(),
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let key =
            Key::new(request.into_inner().key).map_err(|error| status::to_status(&error.into()))?;
        Ok(Response::new(self.explain_key(key).await))
    }

    async fn list_shards(
        &self,
        _: Request<v1::ListShardsRequest>,
    ) -> Result<Response<v1::ListShardsResponse>, Status> {
        let map = self.calls.shards.map.load_full();
        let shards = map
            .shards()
            .map(|(id, _)| shard_info(&map, id, self.calls.shards.shard(id)))
            .collect();
        Ok(Response::new(v1::ListShardsResponse { shards }))
    }

    async fn list_sweepers(
        &self,
        request: Request<v1::ListSweepersRequest>,
    ) -> Result<Response<v1::ListSweepersResponse>, Status> {
        let request = request.into_inner();
        self.check_shard(&request.shard)?;
        let sweepers = self.sweepers.list(request.shard, request.dry_run).await;
        Ok(Response::new(v1::ListSweepersResponse { sweepers }))
    }

    async fn pause_sweepers(
        &self,
        request: Request<v1::PauseSweepersRequest>,
    ) -> Result<Response<v1::PauseSweepersResponse>, Status> {
        let request = request.into_inner();
        self.check_shard(&request.shard)?;
        let sweepers = self.sweepers.pause(request.shard, request.paused).await;
        Ok(Response::new(v1::PauseSweepersResponse { sweepers }))
    }
}
