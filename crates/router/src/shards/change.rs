//! How one map follows another: slots that change hands, and leaders that change.

use std::sync::{Arc, MutexGuard, PoisonError};

use freehold_core::{ShardId, ShardMap, ShardView};
use tokio::{sync::oneshot, time::timeout};

use super::Shards;
use crate::handover::{HOLD_MAX, Handover, Handovers};

impl Shards {
    /// Swaps the map for what `change` makes of it. Slots that change hands begin a handover.
    pub fn change_map(self: &Arc<Self>, change: impl FnOnce(&ShardMap) -> ShardMap) {
        let _one_at_a_time = self.lock_map();
        let before = self.map.load();
        let next = change(&before);
        let departures = before.departures(&next);
        let mut handovers = Handovers::clone(&self.handovers.load());
        let mut begun = Vec::new();
        for (former, slots) in departures {
            let (more, handover) = handovers.with(slots);
            handovers = more;
            begun.push((former, handover));
        }
        // Before the map: whoever sees the new owner sees that its writes wait.
        self.handovers.store(Arc::new(handovers));
        let generation = next.generation();
        self.map.store(Arc::new(next));
        for (former, handover) in begun {
            let leader = &self.shard(former).servers[before.shard(former).leader];
            let passed = leader.writes.barrier(generation);
            tokio::spawn(self.clone().end_handover(handover, passed));
        }
        self.announce_leaders(&before, generation);
    }

    /// Wakes the lanes of the servers that lead since this generation, and of those that led before.
    fn announce_leaders(&self, before: &ShardMap, generation: u64) {
        let map = self.map.load();
        let known_before = |(id, _): &(ShardId, &ShardView)| id.index() < before.places();
        for (id, view) in map.shards().filter(known_before) {
            let former = before.shard(id).leader;
            if former == view.leader {
                continue;
            }
            // What was routed by the map before is routed again, and what waits there comes back.
            for (_, queue) in self.shard(id).servers[former].queues() {
                drop(queue.barrier(generation));
            }
            self.shard(id).servers[view.leader].writes.wake();
        }
    }

    /// Lets the new owners' lanes go on once the lane of the former owner has passed its barrier, or
    /// is gone.
    async fn end_handover(
        self: Arc<Self>,
        ended: Arc<Handover>,
        mut passed: oneshot::Receiver<()>,
    ) {
        // It is dropped where it is passed, or with the lane and everything that it had.
        if timeout(HOLD_MAX, &mut passed).await.is_err() {
            {
                let _nothing_returns_meanwhile = self.lock_map();
                ended.give_up();
            }
            self.wake_writers();
            drop(passed.await);
        }
        {
            let _one_at_a_time = self.lock_map();
            let left = self.handovers.load().without(&ended);
            self.handovers.store(Arc::new(left));
        }
        self.wake_writers();
    }

    fn wake_writers(&self) {
        for server in self.shards.iter().flat_map(|shard| shard.servers.iter()) {
            server.writes.wake();
        }
    }

    pub(super) fn lock_map(&self) -> MutexGuard<'_, ()> {
        let lock = self.map_change.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }
}
