//! Finding the lane that a request belongs to, or why there is none.

use std::sync::{Arc, atomic::Ordering};

use freehold_core::{Route, ShardId, ShardMap, Slot};

use super::{ServerLanes, Shard, Shards, Standing};
use crate::{
    failure::Failure,
    queue::{Queue, QueueLimits, Refused},
    replica,
    request::{Level, Request},
};

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
        loop {
            let map = self.map.load();
            let shard = match self.route(&map, &request) {
                Ok(shard) => self.shard(shard),
                Err(failure) => {
                    request.counted_by = Some(self.unrouted.clone());
                    return request.end(Err(failure));
                }
            };
            request.counted_by = Some(shard.operations.clone());
            let Some(server) = self.server_for(shard, &request) else {
                return request.end(Err(self.no_replica(shard)));
            };
            let queue = server.queue(request.operation.kind());
            match push(queue, request, map.generation()) {
                Ok(()) => return,
                // The map was swapped in between.
                Err((back, Refused::Stale)) => request = back,
                Err((mut back, refused)) => {
                    return back.end(Err(refusal(&shard.name, refused, queue.limits())));
                }
            }
        }
    }

    /// The shard that serves the request, or why there is none.
    fn route(&self, map: &ShardMap, request: &Request) -> Result<ShardId, Failure> {
        let slot = match request.operation.key() {
            Some(key) => key.slot(),
            None => {
                let mut slots = request.operation.slots();
                slots.next().expect("a stretch has slots")
            }
        };
        match map.route(slot) {
            Route::Owner { shard, state }
                if state.is_writable() || !request.operation.kind().is_write() =>
            {
                Ok(shard)
            }
            Route::Owner { shard, .. } => Err(Failure::Unavailable {
                shard: self.shard(shard).name.clone(),
                reason: format!("slot {slot} is changing hands").into(),
            }),
            Route::Unowned | Route::Conflict { .. } => Err(self.unserved(map, slot)),
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
        let standing = self.shard(shard).master.standing.load_full();
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
        let Some(shard) = self.shards.iter().find(|shard| *shard.name == *name) else {
            return Failure::Misconfigured(
                format!(
                    "slot {slot} was given to shard '{name}', which is not in this router's \
                     config: add it"
                )
                .into(),
            );
        };
        if shard.master.is_usable() {
            // Its claim may be there by now.
            shard.reload.notify_one();
        }
        Failure::Unavailable {
            shard: shard.name.clone(),
            reason: format!("slot {slot} is on its way there").into(),
        }
    }

    fn server_for<'a>(&self, shard: &'a Shard, request: &Request) -> Option<&'a ServerLanes> {
        if request.level == Level::Strong {
            return Some(&shard.master);
        }
        let turn = shard.next_replica.fetch_add(1, Ordering::Relaxed);
        match replica::choose(shard.replicas.iter().map(ServerLanes::is_usable), turn) {
            Some(index) => shard.replicas.get(index),
            None => self.eventual_falls_back_to_master.then_some(&shard.master),
        }
    }

    /// Whether a read that a replica could not answer may go to the master.
    #[must_use]
    pub fn may_fall_back(&self) -> bool {
        self.eventual_falls_back_to_master
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
