//! How what a router runs follows its config.
//!
//! Shards and servers are added beside what is there; nothing that serves is touched. What left the
//! config is not chosen any more from one moment to the next, its lanes answer what they have, and
//! then end. Places are never given again, so whoever remembers one finds what it knew.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use freehold_core::ShardId;
use freehold_storage::Server;
use tokio::time::sleep;

use super::{Roster, lanes_of, shard_of};
use crate::{router::ShardSpec, shards::ServerLanes};

/// Longer than any read waits for what a shard's servers show next, beside `session_wait`.
const WAITS_MAX: Duration = Duration::from_secs(2);

/// Places of shards that came into the config of one process: each costs memory for good.
const PLACES_MAX: usize = u16::MAX as usize - 1;

/// What a config changed, each in words with the shard's name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes(pub Vec<String>);

/// Why a config is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The shard that it is about.
    pub shard: String,
    /// What speaks against it, and what to do.
    pub words: String,
}

/// One step from the config before to the next.
enum Step {
    AddShard(ShardSpec),
    RemoveShard(ShardId),
    AddServer(ShardId, Server),
    RemoveServer(ShardId, usize),
    /// Its next connections are opened with another account or other options.
    Reopen(ShardId, usize, Server),
}

impl Roster {
    /// Follows a config with these shards, or refuses it whole. What is under way is not disturbed.
    ///
    /// # Errors
    /// Everything that speaks against it; then nothing was changed.
    pub fn follow(&self, specs: Vec<ShardSpec>) -> Result<Changes, Vec<Obstacle>> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = self.steps(specs)?;
        Ok(Changes(
            steps.into_iter().map(|step| self.take(step)).collect(),
        ))
    }

    /// What leads from the config of now to the next.
    fn steps(&self, specs: Vec<ShardSpec>) -> Result<Vec<Step>, Vec<Obstacle>> {
        let map = self.calls.shards.map.load_full();
        let (mut steps, mut obstacles) = (Vec::new(), Vec::new());
        let mut wanted: HashMap<String, ShardSpec> = HashMap::new();
        let order: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
        wanted.extend(specs.into_iter().map(|spec| (spec.name.clone(), spec)));
        for (id, view) in map.shards() {
            match wanted.remove(&*view.name) {
                Some(spec) => self.steps_of_shard(id, spec, &mut steps, &mut obstacles),
                None => match map.obstacle_to_removal(id) {
                    None => steps.push(Step::RemoveShard(id)),
                    Some(words) => obstacles.push(Obstacle {
                        shard: view.name.to_string(),
                        words: format!("cannot be taken out: {words}"),
                    }),
                },
            }
        }
        let added = order.iter().filter_map(|name| wanted.remove(name));
        steps.extend(added.map(Step::AddShard));
        let added = steps
            .iter()
            .filter(|step| matches!(step, Step::AddShard(_)));
        if map.places() + added.count() > PLACES_MAX {
            obstacles.push(Obstacle {
                shard: String::new(),
                words: format!("{PLACES_MAX} shards came and went already: restart the router"),
            });
        }
        match obstacles.is_empty() {
            true => Ok(steps),
            false => Err(obstacles),
        }
    }

    fn steps_of_shard(
        &self,
        id: ShardId,
        spec: ShardSpec,
        steps: &mut Vec<Step>,
        obstacles: &mut Vec<Obstacle>,
    ) {
        let shard = self.calls.shards.shard(id);
        let map = self.calls.shards.map.load();
        let view = map.shard(id);
        // Of one that was never reached nobody knows more than the file.
        let leader = view.fence.map(|_| view.leader);
        let mut removed = Vec::new();
        let servers = spec.servers.into_iter();
        let mut wanted: Vec<(String, Server)> =
            servers.map(|server| (server.place(), server)).collect();
        for (place, lanes) in shard.servers.iter().enumerate() {
            if lanes.is_retired() {
                continue;
            }
            let now = lanes.server.load();
            let found = wanted.iter().position(|(place, _)| *place == now.place());
            match found.map(|index| wanted.remove(index).1) {
                Some(next) if next.is_same_as(&now) => {}
                Some(next) => steps.push(Step::Reopen(id, place, next)),
                None if leader == Some(place) => obstacles.push(Obstacle {
                    shard: spec.name.clone(),
                    words: format!(
                        "{} leads it and cannot be taken out: promote another one of its servers \
                         first",
                        lanes.address
                    ),
                }),
                None => removed.push(Step::RemoveServer(id, place)),
            }
        }
        let added = wanted.into_iter();
        steps.extend(added.map(|(_, server)| Step::AddServer(id, server)));
        // Whoever takes their place is there first.
        steps.extend(removed);
    }

    fn take(&self, step: Step) -> String {
        let shards = &self.calls.shards;
        match step {
            Step::AddShard(spec) => self.add_shard(&spec),
            Step::RemoveShard(id) => self.remove_shard(id),
            Step::AddServer(id, server) => {
                let shard = shards.shard(id);
                let lanes = lanes_of(&server, &self.calls.settings, &self.arrivals);
                let place = shard.servers.push(lanes);
                self.start_server(id, place);
                shard.look_around.notify_one();
                format!("shard '{}': {} added", shard.name, server.address())
            }
            Step::RemoveServer(id, place) => {
                let (shard, server) = (shards.shard(id), &shards.shard(id).servers[place]);
                if shards.map.load().shard(id).leader == place {
                    let others = shard.servers.iter().enumerate();
                    let stays =
                        |(at, other): &(usize, &ServerLanes)| *at != place && !other.is_retired();
                    let next = others.filter(stays).map(|(at, _)| at).next();
                    let next = next.expect("a config has a master for every shard");
                    shards.change_map(|map| map.with_leader(id, next));
                }
                // First: what finds its queue closed goes elsewhere.
                server.retired.cancel();
                server.close();
                shard.look_around.notify_one();
                format!("shard '{}': {} removed", shard.name, server.address)
            }
            Step::Reopen(id, place, next) => {
                let (shard, server) = (shards.shard(id), &shards.shard(id).servers[place]);
                server.server.store(Arc::new(next));
                shard.look_around.notify_one();
                format!(
                    "shard '{}': new connections to {} use the new DSN",
                    shard.name, server.address
                )
            }
        }
    }

    fn add_shard(&self, spec: &ShardSpec) -> String {
        let shards = &self.calls.shards;
        let settings = &self.calls.settings;
        let (shard, requests) = shard_of(spec, settings, &self.arrivals, &self.metrics);
        // Before the map: whoever sees it there finds it.
        let place = shards.shards.push(shard);
        shards.change_map(|map| map.with_shard(spec.name.as_str()));
        debug_assert_eq!(shards.map.load().places(), place + 1);
        self.start_shard(place, requests);
        format!("shard '{}' added", spec.name)
    }

    fn remove_shard(&self, id: ShardId) -> String {
        let shards = &self.calls.shards;
        let shard = shards.shard(id);
        shards.change_map(|map| map.without_shard(id));
        for server in shard.servers.iter() {
            server.retired.cancel();
            server.close();
        }
        let (lanes, retired) = (shard.lanes.clone(), shard.retired.clone());
        let waits_end = WAITS_MAX + self.calls.settings.session_wait;
        self.loaders.spawn(async move {
            // The last of them may still ask who leads.
            lanes.close();
            lanes.wait().await;
            // And reads that wait there go on from there.
            sleep(waits_end).await;
            retired.cancel();
        });
        format!("shard '{}' removed", shard.name)
    }
}
