//! Watching over a shard's servers: one task each, beside the lanes.
//!
//! At the server that leads it keeps the heartbeat going. There is no writer by appointment: each
//! router looks once in a beat, and whoever finds that the row stood still since its last look
//! writes the next beat, by a statement that changes the row only if it still shows what was found
//! and the fence agrees. So one router beats, the next one takes over after two beats at most, and no
//! two write the same beat.
//!
//! At the other servers it looks at heartbeat, position and threads, and judges what each may be
//! used for ([`fitness`](crate::fitness)). While SESSION reads wait for a position it looks more
//! often, and sends them on their way.

use std::{sync::Arc, time::Duration};

use freehold_core::{Beat, Fence, ShardId, Term};
use freehold_storage::{
    Refusal, StorageError, WatchConnection,
    watch::{Replication, Sight},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    fitness::{Fitness, judge},
    history::{History, LeaderHas},
    shards::{ServerLanes, Shard, Shards},
    sightings::{Ended, Seen, ServerWatch},
};

/// How often a server is looked at while reads wait for its position.
pub const LOOK_OFTEN: Duration = Duration::from_millis(5);

/// How long one look may take, connecting included.
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);

/// How long it may take to find out who leads, before the next look.
const CONFIRM_TIME_MAX: Duration = Duration::from_secs(1);

/// How old what is known of a replica's threads may be.
const THREADS_AGE_MAX: Duration = Duration::from_secs(1);

/// Watches one server for as long as the router runs.
pub struct Watcher {
    /// Where what it sees goes.
    pub shards: Arc<Shards>,
    /// Whose server.
    pub shard: ShardId,
    /// Its place in the shard.
    pub place: usize,
    /// How often to look, and how often to write a beat where it leads.
    pub beat: Duration,
    /// How often to look where nothing replicates: only its earlier terms are of interest.
    pub poll: Duration,
}

/// What a watcher keeps from one look to the next.
#[derive(Default)]
struct Memory {
    connection: Option<Box<dyn WatchConnection>>,
    /// The beat that the leader showed last, and when it was seen for the first time.
    stands_since: Option<(Beat, Instant)>,
    /// A replica's threads, when they were looked at, and the beat that it showed then.
    replication: Option<(Replication, Instant, Beat)>,
    /// Whether a replica's transactions are all its leader's.
    history: History,
    /// What went wrong at the last look, so that it is told of once.
    problem: Option<StorageError>,
}

impl Watcher {
    /// Watches until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut memory = Memory::default();
        loop {
            let began = Instant::now();
            let look = async {
                let looked = timeout(LOOK_TIME_MAX, self.look(&mut memory)).await;
                self.note(&mut memory, looked.unwrap_or_else(|_| Err(too_late())));
                self.shards.serve_waiting(self.shard);
                self.pause(began).await;
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = look => {}
            }
        }
    }

    fn of_shard(&self) -> &Shard {
        self.shards.shard(self.shard)
    }

    fn lanes(&self) -> &ServerLanes {
        &self.of_shard().servers[self.place]
    }

    fn of_server(&self) -> &ServerWatch {
        &self.lanes().watch
    }

    /// How often to look now.
    fn beat(&self) -> Duration {
        match self.of_shard().is_replicated() {
            true => self.beat,
            false => self.poll,
        }
    }

    /// Waits for the next look.
    async fn pause(&self, began: Instant) {
        let next =
            |after: Duration| sleep((began + after).saturating_duration_since(Instant::now()));
        if self.shards.map.load().shard(self.shard).leader == self.place {
            // Reads wait for nobody here, and beats keep their time.
            return next(self.beat()).await;
        }
        if self.of_shard().waits.is_empty() {
            tokio::select! {
                () = next(self.beat()) => return,
                () = self.of_server().wake.notified() => {}
            }
        }
        next(LOOK_OFTEN).await;
    }

    async fn look(&self, memory: &mut Memory) -> Result<(), StorageError> {
        // Taken out, so that a look that is cut short leaves no half-used connection behind.
        let mut connection = match memory.connection.take() {
            Some(connection) => connection,
            None => self.lanes().server.load_full().connect_watch().await?,
        };
        let (began, generation) = (Instant::now(), self.of_server().generation());
        let sight = connection.look().await?;
        self.of_server().note_time(began.elapsed());
        let believed = self.shards.map.load().shard(self.shard).fence;
        let Some(believed) = believed else {
            memory.connection = Some(connection);
            return Ok(());
        };
        let leads =
            sight.fence.agrees_with(&believed) && sight.answered_by == sight.fence.server_id;
        if leads {
            self.of_server().set(Seen::leading(sight.answered_by));
            self.keep_beating(&mut *connection, memory, &sight, began)
                .await?;
        } else {
            memory.stands_since = None;
            let fitness = self
                .fitness(&mut *connection, memory, &sight, &believed)
                .await?;
            self.of_server().set(Seen {
                fitness,
                term: Some(Term::from(&believed)),
                answered_by: sight.answered_by,
                beat: sight.beat,
                position: sight.position,
                generation,
                ..self.of_server().seen_again()
            });
        }
        memory.connection = Some(connection);
        Ok(())
    }

    /// Notes which beat the leader shows, and writes the next one if nobody else did.
    async fn keep_beating(
        &self,
        connection: &mut dyn WatchConnection,
        memory: &mut Memory,
        sight: &Sight,
        began: Instant,
    ) -> Result<(), StorageError> {
        let (shard, term) = (self.of_shard(), sight.fence.term);
        if shard.is_replicated() && !self.leads_still(began).await {
            memory.stands_since = None;
            return Ok(());
        }
        shard.saw_beat(term, sight.beat.seq, began);
        let of_term = Term::from(&sight.fence);
        let leader_has = sight.position.clone().map(|position| LeaderHas {
            term: of_term,
            began,
            position,
        });
        shard.leader_has.store(leader_has.map(Arc::new));
        if shard.ended.load().of_term != Some(of_term) {
            let terms = connection.ended_terms().await?;
            shard.ended.store(Arc::new(Ended::new(of_term, terms)));
        }
        // Nobody reads them where nothing replicates.
        if !shard.is_replicated() {
            return Ok(());
        }
        let stands_since = memory.stands_since.filter(|(beat, _)| *beat == sight.beat);
        // A little less than a beat, since looks are not that punctual.
        let stands = |(_, since): (Beat, Instant)| since.elapsed() >= self.beat.mul_f64(0.9);
        // What shows another term was never beaten by this one.
        if sight.beat.term == term && !stands_since.is_some_and(stands) {
            memory.stands_since = stands_since.or(Some((sight.beat, began)));
            return Ok(());
        }
        memory.stands_since = None;
        let began = Instant::now();
        if connection.beat(&sight.fence, sight.beat).await? {
            // It found the row as it was shown, after it began.
            shard.saw_beat(term, sight.beat.seq, began);
            let written = Beat {
                term,
                seq: sight.beat.seq + 1,
            };
            memory.stands_since = Some((written, began));
        }
        Ok(())
    }

    /// Whether the server leads, and not only thinks so: one that hung and was replaced goes on when it
    /// wakes up, and so do its replicas. Their beats would make the past look fresh.
    async fn leads_still(&self, began: Instant) -> bool {
        let asked = self.shards.still_leads(self.shard, self.place);
        self.of_shard().is_awake(self.place, began)
            || timeout(CONFIRM_TIME_MAX, asked).await.unwrap_or(false)
    }

    /// What a server that does not lead may be used for.
    async fn fitness(
        &self,
        connection: &mut dyn WatchConnection,
        memory: &mut Memory,
        sight: &Sight,
        believed: &Fence,
    ) -> Result<Fitness, StorageError> {
        let checked = self
            .shards
            .check_identity(self.shard, &sight.identity, false);
        if let Err(problem) = checked {
            return Ok(Fitness::Foreign(problem.into()));
        }
        let is_fresh = |(_, at, beat): &(Replication, Instant, Beat)| {
            let moves = *beat != sight.beat || at.elapsed() < self.beat;
            moves && at.elapsed() < THREADS_AGE_MAX
        };
        if !memory.replication.as_ref().is_some_and(is_fresh) {
            let replication = match connection.replication().await {
                Ok(replication) => replication,
                Err(StorageError::Refused {
                    refusal: Refusal::Denied,
                    message,
                    ..
                }) => {
                    let reason = format!("its threads cannot be seen: {message}");
                    return Ok(Fitness::Astray(reason.into()));
                }
                Err(error) => return Err(error),
            };
            memory.replication = Some((replication, Instant::now(), sight.beat));
        }
        let fitness = match &memory.replication {
            Some((replication, ..)) => judge(sight, replication, believed),
            None => Fitness::Astray("not looked at yet".into()),
        };
        if matches!(fitness, Fitness::Foreign(_)) {
            memory.history.doubt();
            return Ok(fitness);
        }
        let leader_has = self.of_shard().leader_has.load();
        let (term, has) = (Term::from(believed), sight.position.as_ref());
        let history = &mut memory.history;
        let objection = history.judge(term, has, Instant::now(), leader_has.as_deref());
        Ok(match (fitness, objection) {
            // What it lacks to follow does not matter if it has too much.
            (_, Some(foreign @ Fitness::Foreign(_))) => foreign,
            (astray @ Fitness::Astray(_), _) => {
                history.doubt();
                astray
            }
            (fitness, objection) => objection.unwrap_or(fitness),
        })
    }

    fn note(&self, memory: &mut Memory, looked: Result<(), StorageError>) {
        let problem = looked.err();
        if let Some(error) = &problem {
            memory.replication = None;
            memory.stands_since = None;
            memory.history.doubt();
            let fitness = Fitness::Astray(format!("cannot be looked at: {error}").into());
            self.of_server().set(Seen {
                fitness,
                answers: false,
                position: None,
                ..self.of_server().seen_again()
            });
        }
        if memory.problem != problem {
            let (shard, server) = (&self.of_shard().name, &self.lanes().address);
            match &problem {
                Some(error) => {
                    tracing::warn!(%shard, %server, %error, "the server cannot be watched")
                }
                None => tracing::info!(%shard, %server, "the server is watched again"),
            }
            memory.problem = problem;
        }
    }
}

fn too_late() -> StorageError {
    StorageError::Unreachable {
        reason: format!("no answer within {LOOK_TIME_MAX:?}").into(),
    }
}
