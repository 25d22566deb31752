//! A move as a whole: its batches, its repeats, and what is written down of it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use freehold_core::{SlotSet, SlotState, moving::Aim};
use freehold_storage::{
    MoveConnection,
    moves::{Entry, MoveBeat, MoveRecord, MoveRun, MoveState, Recorded},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep},
};

use crate::{
    apart::Apart,
    batch::{self, Through},
    error::{Halt, MoveError},
    progress::{Pause, Point, Points, Progress},
    settings::MoverSettings,
    shard::Shard,
    side::{RANGES_MAX, Side},
    throttle::Throttle,
};

/// Open moves of a shard that are looked at.
pub const RECORDS_MAX: usize = 100;

/// Moves slots from one shard to another.
pub struct Mover {
    pub(crate) source: Shard,
    pub(crate) target: Shard,
    pub(crate) settings: MoverSettings,
    random: Mutex<StdRng>,
    progress: watch::Sender<Progress>,
    points: Arc<dyn Points>,
    stopping: AtomicBool,
    leaving: AtomicBool,
    /// Whether the slots may be such that writes to them wait, or nobody owns them.
    holds_up: AtomicBool,
    /// Whether there are more of them, in batches that have not had their turn.
    waiting: AtomicBool,
    pub(crate) throttle: Mutex<Throttle>,
    /// Whether it was found out how long requests wait without it.
    pub(crate) has_measured: AtomicBool,
    /// When the fences may change again.
    pub(crate) apart: Mutex<Apart>,
    /// How many slots change hands together.
    part_slots: AtomicUsize,
    /// What others did of the move that it runs.
    before: Mutex<Before>,
    /// For people: host and process. Also what tells one mover of a move from another.
    name: String,
}

/// What others did of a move until somebody goes on with it.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    slots_done: u64,
    rows: u64,
    bytes: u64,
    /// When somebody last showed that they ran it.
    alive_at: Option<Instant>,
}

/// What a move came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Slots that the target owns now.
    pub moved: SlotSet,
    /// Slots that were given back to the source.
    pub returned: SlotSet,
    /// What was done.
    pub progress: Progress,
}

impl Outcome {
    /// How the move ended: one that was cancelled half-way is not done.
    #[must_use]
    pub fn state(&self) -> MoveState {
        match self.moved.len() as u64 == self.progress.slots {
            true => MoveState::Done,
            false => MoveState::Cancelled,
        }
    }
}

impl Mover {
    /// A mover, with a random number and a name for people. Nothing is connected to yet.
    #[must_use]
    pub fn new(
        source: Shard,
        target: Shard,
        settings: MoverSettings,
        seed: u64,
        name: String,
    ) -> Self {
        let throttle = Throttle::new(settings.latency_factor_max);
        let mut random = StdRng::seed_from_u64(seed);
        // Two containers of one host have one name, and each is its process 1.
        let name = format!("{name}, {:08x}", random.next_u32());
        let part_slots = settings.part_slots.min(settings.batch_slots_max);
        Self {
            source,
            target,
            settings,
            throttle: Mutex::new(throttle),
            has_measured: AtomicBool::new(false),
            apart: Mutex::default(),
            part_slots: AtomicUsize::new(part_slots),
            before: Mutex::default(),
            random: Mutex::new(random),
            progress: watch::Sender::new(Progress::default()),
            points: Arc::new(()),
            stopping: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            holds_up: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            name,
        }
    }

    /// The same with somebody who watches where it is.
    #[must_use]
    pub fn watched_by(self, points: Arc<dyn Points>) -> Self {
        Self { points, ..self }
    }

    /// How far it is, from now on.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Stops a run soon, in order: no writes wait any more when it ends, with
    /// [`MoveError::Interrupted`]. The move is then left alone until somebody says what shall become
    /// of it. Where a shard is down, so that writes have to go on waiting, it ends with
    /// [`MoveError::LeftToOthers`].
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Stops a run soon, in the same way, with [`MoveError::LeftToOthers`]: whoever comes by goes on
    /// with the move.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether a run may go on.
    pub(crate) fn go_on(&self) -> Result<(), MoveError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(MoveError::Interrupted);
        }
        match self.leaving.load(Ordering::Relaxed) {
            true => Err(MoveError::LeftToOthers),
            false => Ok(()),
        }
    }

    /// Moves the slots, or cancels their move, from wherever it is. `id` names the move to people:
    /// a new one has a random number, one that is resumed has its own.
    ///
    /// May be dropped at any time: the slots are then as they are, for whoever takes them over.
    ///
    /// # Errors
    /// [`MoveError`]: the move stopped, and what has been done of it stays.
    pub async fn run(&self, id: u64, slots: &SlotSet, aim: Aim) -> Result<Outcome, MoveError> {
        let mut record = MoveRecord {
            cancels: aim == Aim::Cancel,
            mover: self.name.clone(),
            ..MoveRecord::begin(id, &self.source.name, &self.target.name, slots)
        };
        self.progress.send_modify(|progress| {
            *progress = Progress {
                slots: slots.len() as u64,
                ..Progress::default()
            };
        });
        if let Err(error) = self.write_down(Entry::Begin, &record).await {
            if matches!(error, MoveError::TakenOver) {
                self.pass_end_on(id).await;
            }
            return Err(error);
        }
        self.progress
            .send_modify(|progress| progress.written_down = true);
        let moved = tokio::select! {
            biased;
            moved = self.batches(slots, aim, &mut record) => moved,
            never = self.beats(id) => match never {},
        };
        let moved = match moved {
            // Nobody would come by.
            Err(MoveError::Interrupted) if self.is_holding_up() => Err(MoveError::LeftToOthers),
            moved => moved,
        };
        self.fill(&mut record);
        match &moved {
            Ok(outcome) => record.state = outcome.state(),
            // Whoever took it over writes it down from now on.
            Err(MoveError::TakenOver) => return Err(MoveError::TakenOver),
            Err(error) => {
                // What passes needs nobody's decision: it stays open for whoever comes by.
                record.state = match error.passes() {
                    true => MoveState::Running,
                    false => MoveState::Stopped,
                };
                record.error = error.to_string();
            }
        }
        let written = self.write_down(Entry::GoOn, &record).await;
        let outcome = moved?;
        written?;
        self.doing("done");
        let progress = self.progress.borrow().clone();
        Ok(Outcome {
            progress,
            ..outcome
        })
    }

    async fn batches(
        &self,
        slots: &SlotSet,
        aim: Aim,
        record: &mut MoveRecord,
    ) -> Result<Outcome, MoveError> {
        let (mut moved, mut returned) = (Vec::new(), Vec::new());
        let urgent = self.urgent(slots).await?;
        let parts = |slots: &SlotSet| slots.parts(self.settings.batch_slots_max, RANGES_MAX);
        let first = parts(&urgent);
        let rest = parts(&slots.without(&urgent));
        for (done, part) in first.iter().chain(&rest).enumerate() {
            self.waiting
                .store(done + 1 < first.len(), Ordering::Relaxed);
            self.holds_up(done < first.len());
            self.go_on()?;
            // Those that wait have done so since whoever made them wait died.
            let waits_since = self.before().alive_at.filter(|_| done < first.len());
            let through = self.attempts(record, part, aim, waits_since).await?;
            moved.extend(through.moved.iter());
            returned.extend(through.returned.iter());
            self.progress.send_modify(|progress| {
                progress.slots_done += part.len() as u64;
                progress.slots_moved += through.moved.len() as u64;
            });
            self.fill(record);
            self.write_down(Entry::GoOn, record).await?;
        }
        Ok(Outcome {
            moved: moved.into_iter().collect(),
            returned: returned.into_iter().collect(),
            progress: self.progress.borrow().clone(),
        })
    }

    /// Those of the slots whose writes wait, or that nobody owns, because a mover died: they come
    /// first. Until that is known, any of them may be.
    async fn urgent(&self, slots: &SlotSet) -> Result<SlotSet, MoveError> {
        self.holds_up(true);
        let mut repeats = 0;
        loop {
            let why = match self.look_for_urgent(slots).await {
                Ok(urgent) => {
                    self.holds_up(!urgent.is_empty());
                    return Ok(urgent);
                }
                Err(Halt::Stop(error)) => return Err(error),
                Err(Halt::Again(why)) => why,
            };
            self.go_on()?;
            repeats += 1;
            if repeats > self.settings.repeats_max {
                return Err(MoveError::Repeats { repeats, why });
            }
            self.progress
                .send_modify(|progress| progress.repeated = Some(why));
            sleep(self.settings.repeat_after(repeats)).await;
        }
    }

    async fn look_for_urgent(&self, slots: &SlotSet) -> Result<SlotSet, Halt> {
        let mut source = self.source.leading().await?;
        let mut target = self.target.leading().await?;
        let mut urgent = Vec::new();
        for part in slots.parts(usize::MAX, RANGES_MAX) {
            let ours = source.moves.slots(&part).await?.rows;
            let theirs = target.moves.slots(&part).await?.rows;
            let incoming = theirs
                .iter()
                .filter(|(_, row)| row.state == SlotState::Incoming);
            let incoming: SlotSet = incoming.map(|(slot, _)| *slot).collect();
            let waits = ours.iter().filter(|(slot, row)| match row.state {
                SlotState::Fenced => true,
                SlotState::Gone => incoming.contains(*slot),
                SlotState::Owned | SlotState::Outgoing | SlotState::Incoming => false,
            });
            urgent.extend(waits.map(|(slot, _)| *slot));
        }
        Ok(urgent.into_iter().collect())
    }

    async fn attempts(
        &self,
        record: &MoveRecord,
        slots: &SlotSet,
        aim: Aim,
        mut waits_since: Option<Instant>,
    ) -> Result<Through, MoveError> {
        let run = MoveRun {
            id: record.id,
            mover: self.name.clone(),
        };
        let mut repeats = 0;
        loop {
            let why = match batch::attempt(self, &run, slots, aim, &mut waits_since).await {
                Ok(through) => return Ok(through),
                // An adoption takes slots over, too, and goes on with nothing.
                Err(Halt::Stop(error @ MoveError::TakenOver)) => error.to_string(),
                Err(Halt::Stop(error)) => return Err(error),
                Err(Halt::Again(why)) => why,
            };
            self.go_on()?;
            // Whoever has begun to run it since is left alone.
            self.write_down(Entry::GoOn, record).await?;
            repeats += 1;
            tracing::warn!(why, %slots, repeats, "a batch of slots begins again");
            if repeats > self.settings.repeats_max {
                return Err(MoveError::Repeats { repeats, why });
            }
            self.progress
                .send_modify(|progress| progress.repeated = Some(why));
            sleep(self.settings.repeat_after(repeats)).await;
        }
    }

    /// On both shards: whichever is asked later knows of it.
    async fn write_down(&self, entry: Entry, record: &MoveRecord) -> Result<(), MoveError> {
        let began = Instant::now();
        let patience = self.settings.repeat_after_max * self.settings.repeats_max;
        for shard in [&self.source, &self.target] {
            loop {
                let why = match self.write_down_at(shard, entry, record).await {
                    Ok(()) => break,
                    Err(Halt::Stop(error)) => return Err(error),
                    Err(Halt::Again(why)) => why,
                };
                if began.elapsed() > patience {
                    let shard = shard.name.clone();
                    return Err(MoveError::Shard { shard, why });
                }
                sleep(self.settings.repeat_after_max).await;
            }
        }
        Ok(())
    }

    async fn write_down_at(
        &self,
        shard: &Shard,
        entry: Entry,
        record: &MoveRecord,
    ) -> Result<(), Halt> {
        let mut side = Side::open(shard, 0).await?;
        let leader = side.leader();
        let mut record = record.clone();
        if entry == Entry::Begin {
            self.learn(&mut *side.moves, record.id).await?;
            self.fill(&mut record);
        }
        match side.moves.record(leader, entry, &record).await? {
            Recorded::Written => Ok(()),
            Recorded::NotTheirs => Err(MoveError::TakenOver.into()),
            Recorded::NotLeading => {
                Err(Halt::Again(format!("'{}' has another leader", shard.name)))
            }
        }
    }

    /// What others did of the move stays in what is written down of it.
    async fn learn(&self, moves: &mut dyn MoveConnection, id: u64) -> Result<(), Halt> {
        let known = moves.record_of(id).await?;
        let Some(known) = known.filter(|known| known.mover != self.name) else {
            return Ok(());
        };
        let silent_ms = moves.now_ms().await?.saturating_sub(known.changed_at);
        let silent = Duration::from_millis(u64::try_from(silent_ms).unwrap_or(0));
        let alive_at = Instant::now().checked_sub(silent);
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        *before = Before {
            slots_done: before.slots_done.max(known.slots_done),
            rows: before.rows.max(known.rows),
            bytes: before.bytes.max(known.bytes),
            // The later of the two shards' words.
            alive_at: before.alive_at.max(alive_at),
        };
        Ok(())
    }

    fn before(&self) -> Before {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a move ended on one shard, and its mover died before it was written down on the other one,
    /// it would be open there for ever, and its slots be taken for those of a move.
    async fn pass_end_on(&self, id: u64) {
        for (one, other) in [(&self.source, &self.target), (&self.target, &self.source)] {
            if let Err(halt) = self.pass_end_to(other, one, id).await {
                let (from, to) = (&one.name, &other.name);
                tracing::warn!(?halt, from, to, "cannot say that a move has ended");
            }
        }
    }

    async fn pass_end_to(&self, to: &Shard, from: &Shard, id: u64) -> Result<(), Halt> {
        let ended = from.leading().await?.moves.record_of(id).await?;
        let Some(mut ended) = ended.filter(|ended| !ended.state.is_open()) else {
            return Ok(());
        };
        let open = to.leading().await?.moves.record_of(id).await?;
        let Some(open) = open.filter(|open| open.state.is_open()) else {
            return Ok(());
        };
        ended.cancels |= open.cancels;
        self.write_down_at(to, Entry::End, &ended).await
    }

    fn fill(&self, record: &mut MoveRecord) {
        let beat = self.beat(record.id);
        record.slots_done = beat.slots_done;
        record.rows = beat.rows;
        record.bytes = beat.bytes;
        record.pause_us_max = beat.pause_us_max;
    }

    /// How far the move is.
    pub(crate) fn beat(&self, id: u64) -> MoveBeat {
        let (progress, before) = (self.progress.borrow(), self.before());
        let pause = progress.pause_max().as_micros();
        MoveBeat {
            id,
            mover: self.name.clone(),
            // Whoever goes on with a move passes through all slots once more, and copies none twice that
            // has its new owner.
            slots_done: before.slots_done.max(progress.slots_moved),
            rows: before.rows + progress.rows,
            bytes: before.bytes + progress.bytes,
            pause_us_max: u64::try_from(pause).unwrap_or(u64::MAX),
        }
    }

    /// A random number that is no attempt's by accident.
    pub(crate) fn draw(&self) -> u64 {
        let random = self.random.lock();
        random.unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    pub(crate) async fn reached(&self, point: Point) {
        self.points.at(point).await;
    }

    /// Rests after work that took so long, if requests wait for it and not for its end.
    pub(crate) async fn rest(&self, worked: Duration) {
        let (rest, percent) = {
            let throttle = self.throttle();
            (throttle.rest(worked), throttle.resting_percent())
        };
        self.progress.send_if_modified(|progress| {
            let before = std::mem::replace(&mut progress.resting_percent, percent);
            before != percent
        });
        if !rest.is_zero() && !self.is_holding_up() {
            sleep(rest).await;
        }
    }

    pub(crate) fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether writes to the slots may have to wait.
    pub(crate) fn holds_up(&self, holds_up: bool) {
        self.holds_up.store(holds_up, Ordering::Relaxed);
    }

    pub(crate) fn is_holding_up(&self) -> bool {
        self.holds_up.load(Ordering::Relaxed) || self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn doing(&self, doing: &'static str) {
        self.progress.send_modify(|progress| progress.doing = doing);
    }

    pub(crate) fn is_doing(&self) -> &'static str {
        self.progress.borrow().doing
    }

    /// Whether slots are through, so that replicas may be behind because of what it did.
    pub(crate) fn has_moved(&self) -> bool {
        self.progress.borrow().slots_done > 0
    }

    pub(crate) fn copied(&self, rows: u64, bytes: u64) {
        self.progress.send_modify(|progress| {
            progress.rows += rows;
            progress.bytes += bytes;
        });
    }

    pub(crate) fn verified(&self, rows: u64) {
        self.progress
            .send_modify(|progress| progress.rows_verified += rows);
    }

    /// How many slots change hands together.
    pub(crate) fn part_slots(&self) -> usize {
        self.part_slots.load(Ordering::Relaxed)
    }

    /// Notes how long writes waited while slots changed hands.
    pub(crate) fn paused(&self, pause: Pause) {
        let (slots, now) = (pause.slots, self.part_slots());
        let next = self.settings.part_after(now, pause.whole());
        // What was left over at the end of a batch says nothing of larger parts.
        if next < now || slots >= now {
            self.part_slots.store(next, Ordering::Relaxed);
        }
        self.progress
            .send_modify(|progress| progress.pauses.push(pause));
    }
}
