//! Who asks whether the router is well: load balancers, probes, people.
//!
//! The router is well while it runs: a shard that is down hurts only its own keys, and is shown as
//! such by name.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use freehold_core::{ShardId, ShardMap};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    calls::Calls,
    shards::{Shards, Standing},
};

/// The gRPC health name of the service, next to the empty one for the whole router.
pub const SERVICE: &str = "freehold.v1.KeyValue";

/// How often the health service is brought up to date.
const REFRESH: Duration = Duration::from_millis(200);

/// How long a router that shuts down is still shown as such, before its names are gone.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

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

/// Keeps the gRPC health service equal to what lanes and loaders find, until drained. Whoever watches
/// hears of changes only; at the end, that this router serves no more, and then nothing, so that no
/// watcher keeps it from ending.
pub async fn report(calls: Arc<Calls>, reporter: HealthReporter) {
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported: BTreeMap<String, bool> = BTreeMap::new();
    loop {
        let draining = tokio::select! {
            _ = ticks.tick() => false,
            () = calls.draining.cancelled() => true,
        };
        let now = statuses(&calls.shards, draining);
        for (name, serves) in &now {
            if reported.get(name) != Some(serves) {
                let status = serving_status(*serves);
                reporter.set_service_status(name.clone(), status).await;
            }
        }
        // Those that left the config.
        let left = reported.keys().filter(|name| !now.contains_key(*name));
        clear(&reporter, left).await;
        reported = now;
        if draining {
            sleep(TOLD_WITHIN).await;
            return clear(&reporter, reported.keys()).await;
        }
    }
}

/// What serves, by its name.
fn statuses(shards: &Shards, draining: bool) -> BTreeMap<String, bool> {
    let map = shards.map.load_full();
    let serving = !draining && any_loaded(&map);
    let whole = ["", SERVICE].map(|name| (name.to_owned(), serving));
    let each = map.shards().map(|(id, view)| {
        let up = !draining && shards.leader(id).is_usable();
        (shard_service(&view.name), up)
    });
    whole.into_iter().chain(each).collect()
}

async fn clear(reporter: &HealthReporter, names: impl Iterator<Item = &String>) {
    let mut reporter = reporter.clone();
    for name in names {
        reporter.clear_service_status(name).await;
    }
}

const fn serving_status(serving: bool) -> ServingStatus {
    if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}
