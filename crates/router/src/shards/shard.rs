//! One shard: its servers, and what is known of all of them together.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use freehold_core::ShardTag;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::ServerLanes;
use crate::{
    beat_times::BeatTimes, grows::Grows, history::LeaderHas, map_loader::AdoptRequest,
    metrics::OperationMetrics, sightings::Ended, waits::Waits,
};

/// Even a prompt answer proves nothing if the server was not seen to answer for so long before it
/// was asked: it may have hung, been replaced, and have woken up. Looks are at most half a second
/// apart, and nobody replaces a server that has hung for less than a second
/// ([`SILENCE_MAX`](crate::leadership::SILENCE_MAX)).
const AWAKE: Duration = Duration::from_millis(750);

/// One shard as this router sees it.
#[derive(Debug)]
pub struct Shard {
    /// Its name in the config.
    pub name: Arc<str>,
    /// In the order in which they came into the config, those that left it included. Which of them
    /// leads is found at run time, and stands in the map.
    pub servers: Grows<ServerLanes>,
    /// The lanes of all of them.
    pub lanes: TaskTracker,
    /// Cancelled when nothing of it is needed any more.
    pub retired: CancellationToken,
    /// It in tokens, once the cluster is known.
    pub tag: OnceLock<ShardTag>,
    /// Where the round robin over replicas is.
    pub next_replica: AtomicUsize,
    /// Wakes the task that loads this shard's claims.
    pub reload: Notify,
    /// How many loads have ended.
    pub loads: watch::Sender<u64>,
    /// Has all its servers looked at.
    pub look_around: Notify,
    /// The server that leads, and up to when it is certain that no other one did.
    pub confirmed: watch::Sender<Option<(usize, Instant)>>,
    /// The server that leads, and when the last look that it answered began. Absent while nobody
    /// leads, or another server is known to.
    pub answering: ArcSwapOption<(usize, Instant)>,
    /// What the server that leads has, where that tells histories apart.
    pub leader_has: ArcSwapOption<LeaderHas>,
    /// Asks for the adoption of a promoted server.
    pub adopt: mpsc::Sender<AdoptRequest>,
    /// Where its operations are counted.
    pub operations: Arc<OperationMetrics>,
    /// When its heartbeats cannot have been written yet.
    pub beats: Mutex<BeatTimes>,
    /// Where its earlier terms ended.
    pub ended: ArcSwap<Ended>,
    /// Reads that wait for a replica.
    pub waits: Waits,
}

impl Shard {
    /// Whether somebody may read what is written to it elsewhere.
    #[must_use]
    pub fn is_replicated(&self) -> bool {
        self.servers_now().nth(1).is_some()
    }

    /// Its servers in the config of now.
    pub fn servers_now(&self) -> impl Iterator<Item = &ServerLanes> {
        self.servers.iter().filter(|server| !server.is_retired())
    }

    /// Whether a look that began since that time, and was answered, showed this server to lead.
    pub fn answers_since(&self, place: usize, since: Instant) -> bool {
        let answering = self.answering.load();
        answering
            .as_deref()
            .is_some_and(|(leader, began)| *leader == place && *began >= since)
    }

    /// Whether this server was seen to answer shortly before that time, and nobody else to lead.
    pub fn is_awake(&self, place: usize, then: Instant) -> bool {
        // The first moments of a machine have nothing before them.
        then.checked_sub(AWAKE)
            .is_some_and(|since| self.answers_since(place, since))
    }

    /// Notes which beat a look at the leader of a term showed, that began then.
    pub fn saw_beat(&self, term: u64, seq: u64, began: Instant) {
        self.beat_times().saw(term, seq, began);
    }

    /// What is known of its heartbeats.
    pub fn beat_times(&self) -> MutexGuard<'_, BeatTimes> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
