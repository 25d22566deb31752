//! What stands in the queues and how the servers stand, read anew each time somebody asks.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use freehold_core::{Route, Slot};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::{
    budget::{Budget, Budgets},
    shards::{ServerLanes, Shards},
};

/// Reads the router's own state.
#[derive(Debug)]
pub struct Gauges {
    /// Map, queues and standings.
    pub shards: Arc<Shards>,
    /// What all calls share.
    pub budgets: Budgets,
}

/// One server of a shard.
struct Server<'a> {
    shard: &'a str,
    role: &'static str,
    lanes: &'a ServerLanes,
}

impl Server<'_> {
    fn labels(&self) -> [(&str, &str); 3] {
        [
            ("shard", self.shard),
            ("server", &self.lanes.address),
            ("role", self.role),
        ]
    }
}

impl Gauges {
    fn servers(&self) -> impl Iterator<Item = Server<'_>> {
        self.shards.shards.iter().flat_map(|shard| {
            let replicas = shard.replicas.iter().map(|lanes| (lanes, "replica"));
            let servers = std::iter::once((&shard.master, "master")).chain(replicas);
            servers.map(|(lanes, role)| Server {
                shard: &shard.name,
                role,
                lanes,
            })
        })
    }

    fn encode_queues(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests that wait in the lanes of a server";
        let mut family =
            encoder.encode_descriptor("queued_requests", help, None, MetricType::Gauge)?;
        for server in self.servers() {
            let [shard, address, _] = server.labels();
            for (lane, queue) in server.lanes.queues() {
                let labels = [shard, address, ("lane", lane.as_str())];
                let waiting = queue.keys() as u64;
                family.encode_family(&labels)?.encode_gauge(&waiting)?;
            }
        }
        Ok(())
    }

    fn encode_servers(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&ServerLanes) -> u64,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for server in self.servers() {
            let value = value(server.lanes);
            family
                .encode_family(&server.labels())?
                .encode_gauge(&value)?;
        }
        Ok(())
    }

    fn encode_budgets(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, kind): (&str, MetricType),
        help: &str,
        value: impl Fn(&Budget) -> u64,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for budget in self.budgets.all() {
            let labels = [("limit", budget.key())];
            let mut metric = family.encode_family(&labels)?;
            match kind {
                MetricType::Counter => {
                    metric.encode_counter::<NoLabelSet, _, u64>(&value(budget), None)?;
                }
                _ => metric.encode_gauge(&value(budget))?,
            }
        }
        Ok(())
    }

    fn encode_slots(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Slots that the shard owns, as far as this router knows";
        let mut family = encoder.encode_descriptor("slots_owned", help, None, MetricType::Gauge)?;
        let map = self.shards.map.load();
        // One walk for all shards: there may be thousands.
        let mut owned = vec![0_u64; map.shards().len()];
        for slot in Slot::all() {
            if let Route::Owner { shard, .. } = map.route(slot) {
                owned[shard.index()] += 1;
            }
        }
        for ((_, view), owned) in map.shards().zip(owned) {
            let labels = [("shard", &*view.name)];
            family.encode_family(&labels)?.encode_gauge(&owned)?;
        }
        Ok(())
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_queues(&mut encoder)?;
        let help = "Connections that the lanes of a server may have";
        self.encode_servers(&mut encoder, "connections", help, |server| {
            server.connections as u64
        })?;
        let help = "Connections that are open";
        self.encode_servers(&mut encoder, "connections_open", help, |server| {
            server.open.load(Ordering::Relaxed) as u64
        })?;
        let help = "1 if requests are sent to the server";
        self.encode_servers(&mut encoder, "server_usable", help, |server| {
            server.is_usable().into()
        })?;
        let help = "What callers hold of each limit of this router, by its name in the config";
        let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
        self.encode_budgets(&mut encoder, ("limit_level", gauge), help, |budget| {
            budget.level() as u64
        })?;
        let help = "Each limit of this router";
        self.encode_budgets(&mut encoder, ("limit_max", gauge), help, |budget| {
            budget.max() as u64
        })?;
        let help = "How often a limit of this router turned something away";
        self.encode_budgets(
            &mut encoder,
            ("limit_refusals", counter),
            help,
            Budget::refusals,
        )?;
        self.encode_slots(&mut encoder)
    }
}
