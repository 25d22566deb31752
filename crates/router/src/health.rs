//! Who asks whether the router is well: load balancers, probes, people.
//!
//! The router is well while it runs: a shard that is down hurts only its own keys, and is shown as
//! such by name.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use freehold_core::ShardMap;
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
    let shards: BTreeMap<_, _> = calls.shards.shards.iter().map(shard_health).collect();
    let status = if calls.draining.is_cancelled() {
        "draining"
    } else if any_loaded(&calls.shards.map.load()) {
        "serving"
    } else {
        "starting"
    };
    Health { status, shards }
}

fn shard_health(shard: &crate::shards::Shard) -> (String, ShardHealth) {
    let standing = shard.master.standing.load();
    let up = **standing == Standing::Usable;
    (
        shard.name.to_string(),
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
        report_shards(&calls.shards, &reporter, draining).await;
        if draining {
            return;
        }
    }
}

async fn report_shards(shards: &Shards, reporter: &HealthReporter, draining: bool) {
    for shard in &shards.shards {
        let up = !draining && shard.master.is_usable();
        reporter
            .set_service_status(shard_service(&shard.name), serving_status(up))
            .await;
    }
}

const fn serving_status(serving: bool) -> ServingStatus {
    if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}
