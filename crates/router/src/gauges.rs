//! What stands in the queues and how the servers stand, read anew each time somebody asks.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use freehold_core::{Route, Slot};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

use crate::{
    queue::Queue,
    shards::{ServerLanes, Shards},
};

/// Reads the router's own state.
#[derive(Debug)]
pub struct Gauges {
    /// Map, queues and standings.
    pub shards: Arc<Shards>,
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

    /// The queues of each kind of lane.
    fn queues(&self) -> [(&'static str, &[Arc<Queue>]); 3] {
        let ServerLanes { reads, writes, .. } = self.lanes;
        let scans = std::slice::from_ref(&self.lanes.scans);
        [("reads", reads), ("writes", writes), ("scans", scans)]
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
            for (lanes, queues) in server.queues() {
                let waiting: u64 = queues.iter().map(|queue| queue.keys() as u64).sum();
                let labels = [shard, address, ("lanes", lanes)];
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
        let help = "Lanes of a server: the connections they may have";
        self.encode_servers(&mut encoder, "lanes", help, |server| {
            server.queues().count() as u64
        })?;
        let help = "Lanes whose connection is open";
        self.encode_servers(&mut encoder, "lanes_open", help, |server| {
            server.open.load(Ordering::Relaxed) as u64
        })?;
        let help = "1 if requests are sent to the server";
        self.encode_servers(&mut encoder, "server_usable", help, |server| {
            server.is_usable().into()
        })?;
        self.encode_slots(&mut encoder)
    }
}
