//! The movers of this process: they go on with moves whose own mover died.
//!
//! Once a second this router looks at the moves that each shard has written down, and takes those
//! for abandoned that show no sign of life for a while. All routers do so; the first one goes on. It
//! takes the slots over, as anybody may at any time, so that nothing depends on who was first, nor on
//! whether the mover was really dead.
//!
//! Operators `steer` what there is: they list moves, have one `begin`, and go on with moves or back.
//! What they asked for of a move is `kept` for as long as this process lives.

mod begin;
mod kept;
pub(crate) mod metrics;
mod steer;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use freehold_mover::{
    Aim, Lookout, MoveError, Mover, Outcome, RECORDS_MAX, Shard, Sighting, lookout::sightings,
};
use freehold_router::shards::Shards;
use freehold_storage::{
    MoveConnection, Refusal, StorageError,
    moves::{MoveRecord, MoveState},
};
use futures::{StreamExt as _, future::join_all, stream};
use rand::{Rng as _, RngExt as _, rngs::StdRng};
use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::steer::Steered;
use self::{kept::Kept, metrics::MoverMetrics};
use crate::{
    app::{limited, mover_settings},
    config::MoverSection,
};

/// Masters that are asked at once.
const MASTERS_AT_ONCE: usize = 16;

/// How long a look at one master may take, its connection included.
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);

/// Moves that are run here at once.
const MOVES_AT_ONCE_MAX: usize = 4;

/// Plans that are made here at once.
const PLANS_AT_ONCE_MAX: usize = 4;

/// How long a master is left alone that does not let this account see its moves.
const DENIED_REST: Duration = Duration::from_secs(60);

/// How long a move rests that could not go on: what it waits for (a master, a replica, a clock)
/// takes its time, and each try takes the slots over.
const REST: Duration = Duration::from_secs(5);

/// How long moves have to end in order when the router ends. Cut off they are safe, too, but writes
/// may wait for whoever comes by.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);

/// What this process moves.
pub(crate) struct MoverDesk {
    /// Which server leads each shard.
    known: Arc<Shards>,
    metrics: MoverMetrics,
    /// For people: host and process.
    name: String,
    state: Mutex<State>,
    /// Room for those who want to know what it takes to move something: it reads rows.
    plans: Semaphore,
}

struct State {
    shards: Vec<Shard>,
    section: MoverSection,
    random: StdRng,
    /// The moves that are run here.
    runs: BTreeMap<u64, Run>,
    /// Until when moves rest that could not go on, and why.
    resting: HashMap<u64, (Instant, String)>,
    kept: Kept,
    /// Whether this process ends, so that nothing begins any more.
    ends: bool,
}

struct Run {
    record: MoveRecord,
    mover: Arc<Mover>,
    task: JoinHandle<()>,
}

/// A connection to the master of a shard.
struct Link {
    place: String,
    moves: Box<dyn MoveConnection>,
}

/// What is kept from one look to the next.
#[derive(Default)]
struct Memory {
    links: HashMap<String, Link>,
    lookout: Lookout,
    /// Why each shard could not be asked last time.
    errors: HashMap<String, String>,
    /// Until when shards are left alone.
    denied: HashMap<String, Instant>,
}

impl MoverDesk {
    /// Nothing is moved yet, and no shard known.
    pub(crate) fn new(
        known: Arc<Shards>,
        metrics: MoverMetrics,
        name: String,
        random: StdRng,
    ) -> Self {
        Self {
            known,
            metrics,
            name,
            state: Mutex::new(State {
                shards: Vec::new(),
                section: MoverSection::default(),
                random,
                runs: BTreeMap::new(),
                resting: HashMap::new(),
                kept: Kept::default(),
                ends: false,
            }),
            plans: Semaphore::new(PLANS_AT_ONCE_MAX),
        }
    }

    /// Follows the config from the next look on. What is under way stays so, unless this router shall
    /// move nothing any more, or a shard of it has other servers now: a mover waits for those that it
    /// began with. Whoever comes by goes on with it and waits for all.
    pub(crate) fn follow(&self, shards: Vec<Shard>, section: &MoverSection) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.shards, shards);
        state.section = section.clone();
        for run in state.runs.values() {
            let ways = [&run.record.source, &run.record.target];
            let changed = |name: &&String| has_other_servers(name, &before, &state.shards);
            if !section.enabled || ways.iter().any(changed) {
                run.mover.leave();
            }
        }
    }

    /// Looks again and again until `stop`, then leaves what it moves to others.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        stop.run_until_cancelled(self.clone().look_again_and_again())
            .await;
        let runs = {
            let mut state = self.lock();
            state.ends = true;
            std::mem::take(&mut state.runs)
        };
        runs.values().for_each(|run| run.mover.leave());
        let mut tasks: Vec<JoinHandle<()>> = runs.into_values().map(|run| run.task).collect();
        if timeout(LEAVE_TIME_MAX, join_all(&mut tasks)).await.is_err() {
            tracing::warn!("moves did not end in order: somebody else has to go on with them");
            tasks.iter().for_each(JoinHandle::abort);
        }
    }

    async fn look_again_and_again(self: Arc<Self>) {
        let mut memory = Memory::default();
        loop {
            let pause = match self.look(&mut memory).await {
                true => self.patience() / 6,
                false => self.patience() / 3,
            };
            // Routers that were started together do not all come at once.
            let spread = self.lock().random.random_range(0.75..1.25);
            sleep(pause.mul_f64(spread)).await;
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.lock().section.abandoned_after_ms)
    }

    /// Whether a move is under way anywhere.
    async fn look(self: &Arc<Self>, memory: &mut Memory) -> bool {
        let (shards, enabled) = {
            let state = self.lock();
            (state.shards.clone(), state.section.enabled)
        };
        if !enabled {
            *memory = Memory::default();
            self.metrics.open(0, 0);
            return false;
        }
        let seen = self.ask(&shards, memory).await;
        let patience = self.patience().mul_f64(self.spread());
        let now = Instant::now();
        let abandoned = memory.lookout.abandoned(now, patience, &seen);
        let stopped = seen.iter().filter(|seen| is(seen, MoveState::Stopped));
        let mut alone = 0;
        for record in abandoned {
            if !self.lock().runs.contains_key(&record.id) {
                alone += 1;
                self.pick_up(record, now);
            }
        }
        self.metrics.open(alone, stopped.count());
        seen.iter().any(|seen| is(seen, MoveState::Running))
    }

    /// Whoever is a little less patient goes first.
    fn spread(&self) -> f64 {
        self.lock().random.random_range(1.0..1.2)
    }

    async fn ask(&self, shards: &[Shard], memory: &mut Memory) -> Vec<Sighting> {
        let mut links = std::mem::take(&mut memory.links);
        let now = Instant::now();
        memory.denied.retain(|_, until| now < *until);
        let asked: Vec<_> = shards
            .iter()
            .filter(|shard| !memory.denied.contains_key(&shard.name))
            .map(|shard| {
                let link = links.remove(&shard.name);
                async move {
                    let asked = timeout(LOOK_TIME_MAX, self.ask_one(shard, link)).await;
                    (shard, asked)
                }
            })
            .collect();
        let answers: Vec<_> = stream::iter(asked)
            .buffered(MASTERS_AT_ONCE)
            .collect()
            .await;
        let mut shown = Vec::new();
        for (shard, answer) in answers {
            let error = match answer {
                Ok(Ok((link, records))) => {
                    memory.links.insert(shard.name.clone(), link);
                    memory.errors.remove(&shard.name);
                    shown.push((&*shard.name, records));
                    continue;
                }
                Ok(Err(error)) => {
                    if is_denied(&error) {
                        memory.denied.insert(shard.name.clone(), now + DENIED_REST);
                    }
                    error.to_string()
                }
                Err(_) => format!("no answer within {LOOK_TIME_MAX:?}"),
            };
            self.metrics.failed(&shard.name);
            let before = memory.errors.insert(shard.name.clone(), error.clone());
            // A server that is down stays so for many looks.
            if before.as_ref() != Some(&error) {
                let (shard, hint) = (&shard.name, "freehold doctor says which rights it takes");
                tracing::warn!(shard, error, hint, "mover: cannot see the moves of a shard");
            }
        }
        sightings(shown)
    }

    async fn ask_one(
        &self,
        shard: &Shard,
        link: Option<Link>,
    ) -> Result<(Link, Vec<MoveRecord>), StorageError> {
        let Some(server) = shard.servers.get(self.leader(shard)) else {
            let reason = "it has no servers".into();
            return Err(StorageError::Unreachable { reason });
        };
        let place = server.place();
        let mut link = match link.filter(|link| link.place == place) {
            Some(link) => link,
            None => Link {
                place,
                moves: server.connect_moves().await?,
            },
        };
        let records = link.moves.open_records(RECORDS_MAX).await?;
        Ok((link, records))
    }

    /// The place of the server that leads a shard, as far as the router knows. A server that does not
    /// lead any more may show an old state of a move; whoever runs it is seen on the other shard then.
    fn leader(&self, shard: &Shard) -> usize {
        let map = self.known.map.load();
        let mut found = map.shards();
        let found = found.find(|(_, view)| *view.name == *shard.name);
        let leads = found.map(|(id, view)| {
            let server = &self.known.shard(id).servers[view.leader];
            server.server.load().place()
        });
        let mut servers = shard.servers.iter();
        let place = servers.position(|server| Some(server.place()) == leads);
        place.unwrap_or(0)
    }

    /// Goes on with a move, unless it rests or enough is under way.
    fn pick_up(self: &Arc<Self>, record: &MoveRecord, now: Instant) {
        let mut state = self.lock();
        state.resting.retain(|_, (until, _)| *until + REST > now);
        let rests = state.resting.get(&record.id);
        if rests.is_some_and(|(until, _)| now < *until) || state.runs.len() >= MOVES_AT_ONCE_MAX {
            return;
        }
        let told = rests.map(|(_, why)| why.clone());
        if told.is_none() {
            tracing::info!(
                id = format!("{:016x}", record.id),
                source = record.source,
                target = record.target,
                left_by = record.mover,
                "mover: goes on with a move that nobody runs any more"
            );
            self.metrics.picked_up();
        }
        if let Err(why) = self.start(&mut state, record, told.clone()) {
            if told.as_ref() != Some(&why) {
                let id = format!("{:016x}", record.id);
                tracing::warn!(id, why, "mover: cannot go on with a move");
            }
            state.resting.insert(record.id, (now + REST, why));
        }
    }

    /// Runs a move in the background. `told` is what its end was told of before.
    fn start(
        self: &Arc<Self>,
        state: &mut State,
        record: &MoveRecord,
        told: Option<String>,
    ) -> Result<(), String> {
        if state.ends {
            return Err("this router ends".to_owned());
        }
        let shard = |name: &str| {
            let found = state.shards.iter().find(|shard| shard.name == name);
            found
                .cloned()
                .ok_or_else(|| format!("the config has no shard '{name}'"))
        };
        let (source, target) = (shard(&record.source)?, shard(&record.target)?);
        let seed = state.random.next_u64();
        let settings = limited(
            mover_settings(&state.section),
            &state.kept.limits(record.id),
        );
        let mover = Arc::new(Mover::new(
            source,
            target,
            settings,
            seed,
            self.name.clone(),
        ));
        let task = tokio::spawn(self.clone().run(mover.clone(), record.clone(), told));
        let run = Run {
            record: record.clone(),
            mover,
            task,
        };
        state.runs.insert(record.id, run);
        self.metrics.running(state.runs.len());
        Ok(())
    }

    async fn run(self: Arc<Self>, mover: Arc<Mover>, record: MoveRecord, told: Option<String>) {
        let aim = match record.cancels {
            true => Aim::Cancel,
            false => Aim::Move,
        };
        let mut progress = mover.progress();
        let mut counted = self.metrics.counted();
        let run = mover.run(record.id, &record.slots, aim);
        tokio::pin!(run);
        let ended = loop {
            tokio::select! {
                ended = &mut run => break ended,
                Ok(()) = progress.changed() => counted.up_to(&progress.borrow_and_update()),
            }
        };
        counted.up_to(&progress.borrow());
        self.metrics.ended(&ended);
        self.ended(&record, ended, told);
    }

    fn ended(&self, record: &MoveRecord, ended: Result<Outcome, MoveError>, told: Option<String>) {
        let id = format!("{:016x}", record.id);
        let mut state = self.lock();
        state.runs.remove(&record.id);
        self.metrics.running(state.runs.len());
        match ended {
            Ok(outcome) => {
                state.resting.remove(&record.id);
                let (moved, returned) = (outcome.moved.len(), outcome.returned.len());
                let longest_pause = outcome.progress.pause_max();
                tracing::info!(id, moved, returned, ?longest_pause, "mover: a move ended");
                state.kept.ended(record.id, outcome);
            }
            Err(MoveError::TakenOver) => tracing::info!(id, "mover: somebody else goes on with it"),
            Err(MoveError::LeftToOthers) => tracing::info!(id, "mover: left a move to others"),
            Err(error) => {
                let (passes, why) = (error.passes(), error.to_string());
                if told.as_ref() != Some(&why) {
                    tracing::warn!(id, why, passes, "mover: a move does not go on");
                }
                state
                    .resting
                    .insert(record.id, (Instant::now() + REST, why));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a shard of both configs has other servers in the later one, or others that may be promoted.
fn has_other_servers(name: &str, before: &[Shard], now: &[Shard]) -> bool {
    let servers = |shards: &[Shard]| -> Option<BTreeSet<(String, bool)>> {
        let shard = shards.iter().find(|shard| shard.name == name)?;
        let servers = shard.servers.iter();
        Some(
            servers
                .map(|server| (server.place(), server.may_lead()))
                .collect(),
        )
    };
    match (servers(before), servers(now)) {
        (Some(before), Some(now)) => before != now,
        // Nobody could go on with it here.
        _ => false,
    }
}

fn is_denied(error: &StorageError) -> bool {
    matches!(
        error,
        StorageError::Refused {
            refusal: Refusal::Denied,
            ..
        }
    )
}

fn is(seen: &Sighting, state: MoveState) -> bool {
    seen.record.state == state
}

#[cfg(test)]
mod tests {
    use freehold_storage::{ConnectOptions, Dsn, Server};

    use super::*;

    fn shard(dsns: &[&str]) -> Vec<Shard> {
        let options = ConnectOptions {
            connect_timeout: Duration::from_secs(1),
            seed: 1,
        };
        let servers = dsns.iter().map(|dsn| {
            let dsn = Dsn::parse(dsn).unwrap();
            Server::new(&dsn, options.clone())
        });
        vec![Shard {
            name: "a".to_owned(),
            servers: servers.collect(),
        }]
    }

    #[test]
    fn a_mover_leaves_where_others_may_be_promoted_than_it_waits_for() {
        let (one, two) = ("mysql://u:p@one/db", "mysql://u:p@two/db");
        let before = shard(&[one, two]);
        let changed = |now: &[&str]| has_other_servers("a", &before, &shard(now));
        assert!(!changed(&[two, one]), "the same in another order");
        assert!(
            !changed(&[one, "mysql://u:other@two/db"]),
            "another password"
        );
        assert!(changed(&[one, two, "mysql://u:p@three/db"]));
        assert!(changed(&[one]));
        assert!(changed(&[one, "mysql://u:p@two/db?promote=never"]));
        assert!(!has_other_servers("a", &before, &[]), "nobody goes on here");
        assert!(!has_other_servers("b", &before, &shard(&[one])));
    }
}
