//! Finding the lane that a request belongs to, or why there is none.

use std::sync::Arc;

use freehold_core::{Route, ShardId, ShardMap, Slot, Term};

use super::{ServerLanes, Shard, Shards, Standing, choose::Target};
use crate::{
    failure::Failure,
    queue::{Queue, QueueLimits, Refused},
    request::{Judged, Level, Request},
};

/// How often a request is routed anew, at most, because the map or the config changed meanwhile. It would
/// go round for ever while the server that leads by the map has left the config.
const TURNS_MAX: usize = 1_000;

impl Shards {
    /// Sends a request on its way, or ends it.
    pub fn dispatch(&self, request: Request) {
        self.dispatch_by(request, Queue::push);
    }

    /// Sends requests on their way again. They keep their places in the order of arrival.
    pub fn dispatch_again(&self, requests: Vec<Request>) {
        for mut request in requests {
            let second_slot = request.operation.slots().nth(1);
            if let Some(slot) = second_slot {
                // Only the walk itself knows how to go on with part of a stretch.
                request.end(Err(Failure::Moved(slot)));
                continue;
            }
            let is_write = request.operation.kind().is_write();
            let slot = request.operation.slots().next();
            // Together, so that nothing newer goes between the look and the push.
            let _one_at_a_time = is_write.then(|| self.lock_map());
            match slot {
                Some(slot) if is_write && self.handovers.load().is_too_late(slot) => {
                    request.end(Err(Failure::Moved(slot)));
                }
                _ => self.dispatch_by(request, Queue::push_again),
            }
        }
    }

    fn dispatch_by(
        &self,
        mut request: Request,
        push: impl Fn(&Queue, Request, u64) -> Result<(), (Request, Refused)>,
    ) {
        for _ in 0..TURNS_MAX {
            let map = self.map.load();
            let id = match self.route(&map, &request) {
                Ok(id) => id,
                Err(failure) => {
                    request.counted_by = Some(self.unrouted.clone());
                    return request.end(Err(failure));
                }
            };
            let shard = self.shard(id);
            request.counted_by = Some(shard.operations.clone());
            let server = match self.target(&map, id, &request) {
                Target::Server(server, generation) => {
                    let term = map.shard(id).fence.as_ref().map(Term::from);
                    request.judged = Judged { term, generation };
                    server
                }
                Target::Wait(until) => return self.wait(shard, request, until),
                Target::End(failure) => return request.end(Err(failure)),
            };
            if let Some(failure) = self.unfit(&map, id, server, &request) {
                return request.end(Err(failure));
            }
            let queue = server.queue(request.operation.kind());
            match push(queue, request, map.generation()) {
                Ok(()) => return,
                // The map was swapped in between, or the server left the config.
                Err((back, Refused::Stale)) => request = back,
                Err((back, Refused::Closed)) if server.is_retired() => request = back,
                Err((mut back, refused)) => {
                    return back.end(Err(refusal(&shard.name, refused, queue.limits())));
                }
            }
        }
        request.end(Err(Failure::Unavailable {
            shard: "".into(),
            reason: "who leads its shard, or which servers the config has, kept changing".into(),
        }));
    }

    /// The shard that serves the request, or why there is none.
    pub(super) fn route(&self, map: &ShardMap, request: &Request) -> Result<ShardId, Failure> {
        let slot = match request.operation.key() {
            Some(key) => key.slot(),
            None => {
                let mut slots = request.operation.slots();
                slots.next().expect("a stretch has slots")
            }
        };
        match map.route(slot) {
            // Where the slot is changing hands, what has to wait does so in the lane.
            Route::Owner { shard, .. } => Ok(shard),
            Route::ToBeCompared { .. } | Route::Unowned | Route::Conflict { .. } => {
                map.heir(slot).ok_or_else(|| self.unserved(map, slot))
            }
        }
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
            Route::ToBeCompared { shard } => Failure::Unavailable {
                shard: map.shard(shard).name.clone(),
                reason: format!(
                    "slot {slot} was on its way when the shard failed over, and the shard that may \
                     have it by now, '{}', was not asked yet",
                    map.peer(shard, slot).unwrap_or_default()
                )
                .into(),
            },
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
        let standing = self.leader(shard).standing.load_full();
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
        let map = self.map.load();
        let Some((id, _)) = map.shards().find(|(_, view)| *view.name == *name) else {
            return Failure::Misconfigured(
                format!(
                    "slot {slot} was given to shard '{name}', which is not in this router's \
                     config: add it"
                )
                .into(),
            );
        };
        let shard = self.shard(id);
        if self.leader(id).is_usable() {
            // Its claim may be there by now.
            shard.reload.notify_one();
        }
        Failure::Unavailable {
            shard: shard.name.clone(),
            reason: format!("slot {slot} is on its way there").into(),
        }
    }

    /// Why the leader may not answer what it is asked for, though it would: it answers, and must not.
    /// An EVENTUAL read asks for some past state only.
    fn unfit(
        &self,
        map: &ShardMap,
        id: ShardId,
        server: &ServerLanes,
        request: &Request,
    ) -> Option<Failure> {
        let shard = self.shard(id);
        let leader = &shard.servers[map.shard(id).leader];
        let is_eventual = request.level == Level::Eventual && !request.operation.kind().is_write();
        if is_eventual || !std::ptr::eq(server, leader) {
            return None;
        }
        match &**leader.standing.load() {
            Standing::Leaderless(reason) | Standing::Unfit(reason) => Some(Failure::Unavailable {
                shard: shard.name.clone(),
                reason: reason.clone(),
            }),
            Standing::Starting | Standing::Usable | Standing::Down(_) => None,
        }
    }

    /// Whether a read that a replica could not answer may go to the master. The config can keep
    /// EVENTUAL reads from it; other levels are promises.
    #[must_use]
    pub fn may_fall_back(&self, level: &Level) -> bool {
        *level != Level::Eventual || self.settings.eventual_falls_back_to_master
    }

    /// Why an EVENTUAL read has nobody to answer it.
    #[must_use]
    pub fn no_replica(&self, shard: &Shard) -> Failure {
        Failure::Unavailable {
            shard: shard.name.clone(),
            reason: "no replica answers, and the config keeps such reads from the master".into(),
        }
    }
}

/// What a full or closed queue means for the caller.
fn refusal(shard: &Arc<str>, refused: Refused, limits: QueueLimits) -> Failure {
    let limit = match refused {
        Refused::Keys => format!("{} requests", limits.keys_max),
        Refused::Bytes => format!("{} bytes", limits.bytes_max),
        Refused::Closed => return Failure::ShuttingDown,
        Refused::Stale => unreachable!("it is routed again"),
    };
    Failure::Full {
        shard: shard.clone(),
        what: "the queue",
        limit,
    }
}
