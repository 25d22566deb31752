//! Builds a router: queues, lanes and map loaders over the shards of a config.

use std::{sync::Arc, time::Duration};

use freehold_storage::Server;
use prometheus_client::registry::Registry;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio_util::sync::CancellationToken;

use crate::{
    budget::Budgets,
    calls::Calls,
    gauges::Gauges,
    metrics::Metrics,
    reloads::Reloads,
    roster::{Roster, shard_of},
    settings::RouterSettings,
    shards::Shards,
    validate::Validator,
    versions::Versions,
};

/// A shard of the config.
#[derive(Debug, Clone)]
pub struct ShardSpec {
    /// Its name.
    pub name: String,
    /// Its servers, at least one. The first is looked at first for the one that leads.
    pub servers: Vec<Server>,
}

/// A running router: everything but its listeners.
pub struct Router {
    /// What services are made of.
    pub calls: Arc<Calls>,
    /// What it counts.
    pub metrics: Metrics,
    /// What it runs for each shard.
    pub roster: Arc<Roster>,
}

impl Router {
    /// Starts lanes and map loaders; connects in the background, so that a server that is down
    /// keeps no other from serving. `seed` is random.
    #[must_use]
    pub fn start(
        settings: RouterSettings,
        specs: Vec<ShardSpec>,
        registry: &mut Registry,
        seed: u64,
    ) -> Self {
        let metrics = Metrics::register(registry);
        let mut random = StdRng::seed_from_u64(seed);
        let arrivals = Arc::default();
        let shards = specs
            .iter()
            .map(|spec| shard_of(spec, &settings, &arrivals, &metrics));
        let (shards, adopt_requests): (Vec<_>, Vec<_>) = shards.unzip();
        let shards = Arc::new(Shards::new(shards, metrics.unrouted(), (&settings).into()));
        let budgets = Budgets::new(&settings);
        let reloads = Reloads::default();
        registry.register_collector(Box::new(Gauges {
            shards: shards.clone(),
            budgets: budgets.clone(),
            reloads: reloads.clone(),
        }));
        let calls = Arc::new(Calls {
            shards,
            validator: Validator::new(settings.value_bytes_max),
            versions: Versions::new(random.next_u64()),
            draining: CancellationToken::new(),
            budgets,
            settings,
            reloads,
        });
        let roster = Roster::new(calls.clone(), metrics.clone(), arrivals, random);
        for (index, requests) in adopt_requests.into_iter().enumerate() {
            roster.start_shard(index, requests);
        }
        Self {
            calls,
            metrics,
            roster: Arc::new(roster),
        }
    }

    /// Takes no new work; streams end once what they took is answered.
    pub fn drain(&self) {
        self.calls.draining.cancel();
    }

    /// Ends all tasks, after what waits was answered or `patience` is over. What is cut off then is
    /// answered as it is dropped, each request with the truth for its stage.
    pub async fn stop(self, patience: Duration) {
        self.drain();
        self.roster.stop(patience).await;
    }
}
