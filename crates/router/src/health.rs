//! Who asks whether the router is well: load balancers, probes, people.
//!
//! The router is well while it runs: a shard that is down hurts only its own keys, and is shown as
//! such by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use freehold_core::{ShardId, ShardMap};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    calls::Calls,
    shards::{Shards, Standing},
};

/// The gRPC health name of the service, next to the empty one for the whole router.
pub const SERVICE: &str = "freehold.v1.KeyValue";

/// How often the health service is brought up to date.
const REFRESH: Duration = Duration::from_millis(200);

/// What `/healthz` says.
#[derive(Debug, Serialize)]
pub struct Health {
    /// `serving`, `starting` (no shard was reached yet) or `draining`.
    pub status: &'static str,
    /// Why the config file as it is now is not followed; empty if it is. Requests do not suffer.
    pub config_refused: String,
    /// By name: `up`, or why not.
    pub shards: BTreeMap<String, ShardHealth>,
}

/// One shard in `/healthz`.
#[derive(Debug, Serialize)]
pub struct ShardHealth {
    /// Whether its master serves.
    pub up: bool,
    /// Why not; empty if it does.
    pub reason: String,
}

/// The state of everything now.
#[must_use]
pub fn look(calls: &Calls) -> Health {
    let map = calls.shards.map.load();
    let shards = map
        .shards()
        .map(|(id, _)| shard_health(&calls.shards, id))
        .collect();
    let status = if calls.draining.is_cancelled() {
        "draining"
    } else if any_loaded(&map) {
        "serving"
    } else {
        "starting"
    };
    Health {
        status,
        config_refused: calls.reloads.pending(),
        shards,
    }
}

fn shard_health(shards: &Shards, id: ShardId) -> (String, ShardHealth) {
    let standing = shards.leader(id).standing.load();
    let up = **standing == Standing::Usable;
    (
        shards.shard(id).name.to_string(),
        ShardHealth {
            up,
            reason: standing.reason().to_string(),
        },
    )
}

fn any_loaded(map: &ShardMap) -> bool {
    map.shards().any(|(_, view)| view.fence.is_some())
}

/// The gRPC health name of one shard.
#[must_use]
pub fn shard_service(name: &str) -> String {
    format!("shard/{name}")
}

/// Keeps the gRPC health service equal to what lanes and loaders find, until drained.
pub async fn report(calls: Arc<Calls>, reporter: HealthReporter) {
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = BTreeSet::new();
    loop {
        let draining = tokio::select! {
            _ = ticks.tick() => false,
            () = calls.draining.cancelled() => true,
        };
        let serving = !draining && any_loaded(&calls.shards.map.load());
        for name in ["", SERVICE] {
            reporter
                .set_service_status(name, serving_status(serving))
                .await;
        }
        report_shards(&calls.shards, &reporter, draining, &mut reported).await;
        if draining {
            return;
        }
    }
}

async fn report_shards(
    shards: &Shards,
    reporter: &HealthReporter,
    draining: bool,
    reported: &mut BTreeSet<Arc<str>>,
) {
    let mut left = std::mem::take(reported);
    for (id, view) in shards.map.load_full().shards() {
        let up = !draining && shards.leader(id).is_usable();
        reporter
            .set_service_status(shard_service(&view.name), serving_status(up))
            .await;
        left.remove(&view.name);
        reported.insert(view.name.clone());
    }
    // Those that left the config.
    for name in left {
        let mut reporter = reporter.clone();
        reporter.clear_service_status(&shard_service(&name)).await;
    }
}

const fn serving_status(serving: bool) -> ServingStatus {
    if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}
