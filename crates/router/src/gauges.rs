//! What stands in the queues and how the servers stand, read anew each time somebody asks.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use freehold_core::{Route, ShardId, Slot};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::{
    budget::{Budget, Budgets},
    fitness::Fitness,
    reloads::Reloads,
    shards::{ServerLanes, Shards},
};

/// Reads the router's own state.
#[derive(Debug)]
pub struct Gauges {
    /// Map, queues and standings.
    pub shards: Arc<Shards>,
    /// What all calls share.
    pub budgets: Budgets,
    /// What came of changes of the config file.
    pub reloads: Reloads,
}

/// One server of a shard.
struct Server<'a> {
    shard: &'a str,
    leads: bool,
    lanes: &'a ServerLanes,
}

impl Server<'_> {
    fn labels(&self) -> [(&str, &str); 3] {
        let role = if self.leads { "master" } else { "replica" };
        [
            ("shard", self.shard),
            ("server", &self.lanes.address),
            ("role", role),
        ]
    }

    fn connections(&self) -> usize {
        let writes = if self.leads {
            self.lanes.write_connections
        } else {
            0
        };
        self.lanes.read_connections + writes
    }
}

impl Gauges {
    fn servers(&self) -> impl Iterator<Item = Server<'_>> {
        let map = self.shards.map.load_full();
        let ids: Vec<ShardId> = map.shards().map(|(id, _)| id).collect();
        ids.into_iter().flat_map(move |id| {
            let servers = self.shards.servers_now(&map, id);
            servers.map(move |(lanes, leads)| Server {
                shard: &self.shards.shard(id).name,
                leads,
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
        value: impl Fn(&Server<'_>) -> u64,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for server in self.servers() {
            let value = value(&server);
            family
                .encode_family(&server.labels())?
                .encode_gauge(&value)?;
        }
        Ok(())
    }

    fn encode_replicas(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let map = self.shards.map.load_full();
        let replicas: Vec<_> = map
            .shards()
            .flat_map(|(id, view)| {
                let servers = self.shards.servers_now(&map, id);
                let replicas = servers.filter(|(_, leads)| !leads);
                replicas.map(move |(lanes, _)| (id, &*view.name, lanes, lanes.watch.seen()))
            })
            .collect();
        let help = "1 if the replica may serve every level, by what watching it shows; 0 if at most \
                    EVENTUAL";
        let mut family =
            encoder.encode_descriptor("replica_follows", help, None, MetricType::Gauge)?;
        for (_, shard, lanes, seen) in &replicas {
            let labels = [("shard", *shard), ("server", &*lanes.address)];
            let follows = u64::from(seen.fitness == Fitness::Follows);
            family.encode_family(&labels)?.encode_gauge(&follows)?;
        }
        let help = "1, with what the replica may be used for: follows (every level), only_eventual, \
                    astray (EVENTUAL, for a while), foreign (nothing)";
        let mut family =
            encoder.encode_descriptor("replica_fitness", help, None, MetricType::Gauge)?;
        for (_, shard, lanes, seen) in &replicas {
            let labels = [
                ("shard", *shard),
                ("server", &*lanes.address),
                ("fitness", seen.fitness.as_str()),
            ];
            family.encode_family(&labels)?.encode_gauge(&1_u64)?;
        }
        let help = "How old what the replica shows can be; absent if that is not known";
        let unit = Unit::Seconds;
        let mut family =
            encoder.encode_descriptor("replica_staleness", help, Some(&unit), MetricType::Gauge)?;
        for (id, shard, lanes, seen) in &replicas {
            if let Some(staleness) = self.shards.staleness(*id, seen) {
                let labels = [("shard", *shard), ("server", &*lanes.address)];
                let seconds = staleness.as_secs_f64();
                family.encode_family(&labels)?.encode_gauge(&seconds)?;
            }
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

    fn encode_reloads(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1 if the config file is not followed as it is now: /healthz says why";
        let mut family =
            encoder.encode_descriptor("config_refused", help, None, MetricType::Gauge)?;
        family.encode_gauge(&u64::from(!self.reloads.pending().is_empty()))?;
        let help = "Changes of the config file, by what came of them";
        let mut family =
            encoder.encode_descriptor("config_reloads", help, None, MetricType::Counter)?;
        let (followed, refused) = self.reloads.counts();
        for (result, count) in [("followed", followed), ("refused", refused)] {
            let labels = [("result", result)];
            let mut metric = family.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn encode_slots(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Slots that the shard owns, as far as this router knows";
        let mut family = encoder.encode_descriptor("slots_owned", help, None, MetricType::Gauge)?;
        let map = self.shards.map.load();
        // One walk for all shards: there may be thousands.
        let mut owned = vec![0_u64; map.places()];
        for slot in Slot::all() {
            if let Route::Owner { shard, .. } = map.route(slot) {
                owned[shard.index()] += 1;
            }
        }
        for (id, view) in map.shards() {
            let labels = [("shard", &*view.name)];
            let owned = owned[id.index()];
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
            server.connections() as u64
        })?;
        let help = "Connections that are open";
        self.encode_servers(&mut encoder, "connections_open", help, |server| {
            server.lanes.open.load(Ordering::Relaxed) as u64
        })?;
        let help = "1 if requests are sent to the server";
        self.encode_servers(&mut encoder, "server_usable", help, |server| {
            server.lanes.is_usable().into()
        })?;
        let help = "1 if the server takes writes and must not be sent any: somebody has to look \
                    after it at once";
        self.encode_servers(&mut encoder, "server_alarm", help, |server| {
            server.lanes.alarm.load().is_some().into()
        })?;
        self.encode_replicas(&mut encoder)?;
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
        self.encode_reloads(&mut encoder)?;
        self.encode_slots(&mut encoder)
    }
}
