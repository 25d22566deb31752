//! The gRPC service `Admin`: what this router knows, and steering of sweepers and movers.

use std::sync::Arc;

use freehold_core::{Key, Route, ShardId, ShardMap, SlotState, key};
use freehold_proto::v1::{self, admin_server::Admin};
use futures::future::BoxFuture;
use tokio::{sync::oneshot, time::Instant};
use tonic::{Request, Response, Status};

use crate::{
    calls::Calls,
    failure::Failure,
    fitness::Fitness,
    movers::Movers,
    request::{Answer, Level, Operation},
    shards::{ServerLanes, Shards},
    status,
    validate::{self, wire_duration, wire_ttl},
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
    movers: Arc<dyn Movers>,
}

impl AdminService {
    /// A service that shows these lanes and steers these sweepers and movers.
    #[must_use]
    pub fn new(calls: Arc<Calls>, sweepers: Arc<dyn Sweepers>, movers: Arc<dyn Movers>) -> Self {
        Self {
            calls,
            sweepers,
            movers,
        }
    }

    async fn go_on(&self, ids: Vec<u64>, cancel: bool) -> Result<v1::ResumeMovesResponse, Status> {
        let begun = self.movers.go_on(ids, cancel).await;
        begun.map_err(|why| status::to_status(&Failure::Misconfigured(why.into())))
    }

    fn check_shard(&self, name: &str) -> Result<(), Status> {
        let map = self.calls.shards.map.load();
        let names = || map.shards().map(|(_, view)| &*view.name);
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
                Route::ToBeCompared { .. } | Route::Unowned | Route::Conflict { .. } => "",
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
            Route::ToBeCompared { .. } => {
                "to be compared".clone_into(&mut response.slot_state);
                response.row_error = self.calls.shards.unserved(&map, slot).to_string();
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
        let leader = &shard.servers[view.leader];
        shard.name.as_ref().clone_into(&mut response.shard);
        leader.address.as_ref().clone_into(&mut response.master);
        response.slot_epoch = view.claim(key.slot()).map_or(0, |claim| claim.slot_epoch);
        (response.term, response.epoch) =
            view.fence.map_or((0, 0), |fence| (fence.term, fence.epoch));
        response.reads_waiting = leader.reads.keys() as u64;
        response.writes_waiting = leader.writes.keys() as u64;
        response.replicas = replica_choices(&self.calls.shards, map, owner);
    }
}

/// How a server that does not lead follows the one that does.
fn replication(shards: &Shards, id: ShardId, server: &ServerLanes) -> v1::Replication {
    let seen = server.watch.seen();
    let fitness = match seen.fitness {
        Fitness::Follows => v1::Fitness::Follows,
        Fitness::OnlyEventual(_) => v1::Fitness::OnlyEventual,
        Fitness::Astray(_) => v1::Fitness::Astray,
        Fitness::Foreign(_) => v1::Fitness::Foreign,
    };
    v1::Replication {
        fitness: fitness.into(),
        reason: seen.fitness.reason().to_string(),
        staleness: shards.staleness(id, &seen).map(wire_duration),
    }
}

fn replica_choices(shards: &Shards, map: &ShardMap, id: ShardId) -> Vec<v1::ReplicaChoice> {
    let turn = &shards.shard(id).next_replica;
    let turn = turn.load(std::sync::atomic::Ordering::Relaxed);
    let next = shards.choose_replica(map, id, turn);
    let term = map.shard(id).term();
    let choice = |(index, server): (usize, &ServerLanes)| {
        let reason = match server.is_usable() {
            true => server.watch.seen().fitness.reason(),
            false => server.standing.load().reason(),
        };
        let usable = server.is_usable() && shards.serves_eventual(server, term, Instant::now());
        v1::ReplicaChoice {
            address: server.address.to_string(),
            usable,
            reason: if usable {
                "answers; the less busy of two takes a read".to_owned()
            } else {
                reason.to_string()
            },
            next: next == Some(index),
            replication: Some(replication(shards, id, server)),
        }
    };
    let servers = shards.servers(map, id).enumerate();
    let replicas = servers.filter(|(_, (server, leads))| !leads && !server.is_retired());
    replicas
        .map(|(index, (server, _))| choice((index, server)))
        .collect()
}

fn server_info(
    server: &ServerLanes,
    role: v1::ServerRole,
    replication: Option<v1::Replication>,
) -> v1::ServerInfo {
    v1::ServerInfo {
        address: server.address.to_string(),
        role: role.into(),
        usable: server.is_usable(),
        reason: server.standing.load().reason().to_string(),
        replication,
        alarm: server
            .alarm
            .load()
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
    }
}

fn shard_info(map: &ShardMap, id: ShardId, shards: &Shards) -> v1::ShardInfo {
    let fence = map.shard(id).fence;
    let shard = shards.shard(id);
    let count = |states: &[SlotState]| {
        let claims = map.shard(id).claims.iter();
        let slots = claims.filter(|claim| states.contains(&claim.state)).count();
        u32::try_from(slots).unwrap_or(u32::MAX)
    };
    let info = |(server, leads): (&ServerLanes, bool)| {
        let role = match leads {
            true => v1::ServerRole::Master,
            false => v1::ServerRole::Replica,
        };
        let replication = (!leads).then(|| replication(shards, id, server));
        server_info(server, role, replication)
    };
    v1::ShardInfo {
        name: shard.name.to_string(),
        slots_owned: u32::try_from(map.slots_owned(id)).unwrap_or(u32::MAX),
        slots_outgoing: count(&[SlotState::Outgoing, SlotState::Fenced]),
        slots_fenced: count(&[SlotState::Fenced]),
        slots_incoming: count(&[SlotState::Incoming]),
        term: fence.map_or(0, |fence| fence.term),
        epoch: fence.map_or(0, |fence| fence.epoch),
        servers: shards.servers_now(map, id).map(info).collect(),
        queued: shard
            .servers_now()
            .flat_map(ServerLanes::queues)
            .map(|(_, queue)| queue.keys() as u64)
            .sum(),
    }
}

fn answer<T>(answer: Result<T, Failure>) -> Result<Response<T>, Status> {
    answer
        .map(Response::new)
        .map_err(|failure| status::to_status(&failure))
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
            .map(|(id, _)| shard_info(&map, id, &self.calls.shards))
            .collect();
        let config_refused = self.calls.reloads.pending();
        Ok(Response::new(v1::ListShardsResponse {
            shards,
            config_refused,
        }))
    }

    async fn adopt(
        &self,
        request: Request<v1::AdoptRequest>,
    ) -> Result<Response<v1::AdoptResponse>, Status> {
        let name = request.into_inner().shard;
        if name.is_empty() {
            let problem = "the shard's name is missing";
            return Err(status::to_status(&Failure::invalid("shard", problem)));
        }
        self.check_shard(&name)?;
        let map = self.calls.shards.map.load_full();
        let id = map.shards().find(|(_, view)| *view.name == *name);
        let shard = id.map(|(id, _)| self.calls.shards.shard(id));
        let (reply, answer) = oneshot::channel();
        let asked = shard.is_some_and(|shard| shard.adopt.try_send(reply).is_ok());
        let answer = match asked {
            true => answer.await.ok(),
            false => Some(Err("it is being asked for already".to_owned())),
        };
        match answer {
            Some(Ok(address)) => Ok(Response::new(v1::AdoptResponse {
                address: address.to_string(),
            })),
            Some(Err(refusal)) => {
                let refusal = format!("no server of shard '{name}' was adopted: {refusal}");
                let failure = Failure::Misconfigured(refusal.into());
                Err(status::to_status(&failure))
            }
            None => Err(status::to_status(&Failure::ShuttingDown)),
        }
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

    async fn plan_moves(
        &self,
        request: Request<v1::PlanMovesRequest>,
    ) -> Result<Response<v1::PlanMovesResponse>, Status> {
        let planned = match validate::moves::wish(request.into_inner()) {
            Ok(wish) => self.movers.plan(wish).await,
            Err(failure) => Err(failure),
        };
        answer(planned)
    }

    async fn start_move(
        &self,
        request: Request<v1::StartMoveRequest>,
    ) -> Result<Response<v1::StartMoveResponse>, Status> {
        let started = match validate::moves::start(request.into_inner()) {
            Ok(start) => self.movers.start(start).await,
            Err(failure) => Err(failure),
        };
        answer(started)
    }

    async fn get_move(
        &self,
        request: Request<v1::GetMoveRequest>,
    ) -> Result<Response<v1::GetMoveResponse>, Status> {
        answer(self.movers.get(request.into_inner().id).await)
    }

    async fn list_moves(
        &self,
        _: Request<v1::ListMovesRequest>,
    ) -> Result<Response<v1::ListMovesResponse>, Status> {
        Ok(Response::new(self.movers.list().await))
    }

    async fn resume_moves(
        &self,
        request: Request<v1::ResumeMovesRequest>,
    ) -> Result<Response<v1::ResumeMovesResponse>, Status> {
        let resumed = self.go_on(request.into_inner().ids, false).await?;
        Ok(Response::new(resumed))
    }

    async fn cancel_moves(
        &self,
        request: Request<v1::CancelMovesRequest>,
    ) -> Result<Response<v1::CancelMovesResponse>, Status> {
        let v1::ResumeMovesResponse { moves, errors } =
            self.go_on(request.into_inner().ids, true).await?;
        Ok(Response::new(v1::CancelMovesResponse { moves, errors }))
    }
}
