//! What is counted of moves that run here, and of those that nobody runs.

use freehold_mover::{MoveError, Outcome, Progress};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Upper bounds in seconds: two commits, or a replica that is waited for.
const PAUSE_SECONDS: [f64; 10] = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// The metrics of a process's movers.
#[derive(Debug, Clone)]
pub(crate) struct MoverMetrics {
    running: Gauge,
    abandoned: Gauge,
    stopped: Gauge,
    picked_up: Counter,
    moves: Family<ResultLabels, Counter>,
    slots: Counter,
    rows: Counter,
    bytes: Counter,
    pause_seconds: Histogram,
    resting: Gauge,
    errors: Family<ShardLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabels {
    shard: String,
}

impl Default for MoverMetrics {
    fn default() -> Self {
        Self {
            running: Gauge::default(),
            abandoned: Gauge::default(),
            stopped: Gauge::default(),
            picked_up: Counter::default(),
            moves: Family::default(),
            slots: Counter::default(),
            rows: Counter::default(),
            bytes: Counter::default(),
            pause_seconds: Histogram::new(PAUSE_SECONDS),
            resting: Gauge::default(),
            errors: Family::default(),
        }
    }
}

impl MoverMetrics {
    /// Registers everything as `mover_...` under the registry's own prefix.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("mover");
        registry.register("running", "Moves that run here", self.running.clone());
        registry.register(
            "abandoned",
            "Moves that nobody runs any more, and this router does not yet: it will, unless it is 0 \
             soon",
            self.abandoned.clone(),
        );
        registry.register(
            "stopped",
            "Moves that wait for somebody's word: see freehold moves",
            self.stopped.clone(),
        );
        registry.register(
            "picked_up",
            "Moves that nobody ran any more and that this router went on with",
            self.picked_up.clone(),
        );
        registry.register(
            "moves",
            "Moves that ended here, by result: waits are those that somebody goes on with later",
            self.moves.clone(),
        );
        registry.register(
            "slots",
            "Slots that got a new owner, or were given back",
            self.slots.clone(),
        );
        registry.register("rows", "Rows that were copied", self.rows.clone());
        registry.register_with_unit(
            "value",
            "Bytes of values that were copied",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register_with_unit(
            "pause",
            "How long writes to slots waited that changed hands",
            Unit::Seconds,
            self.pause_seconds.clone(),
        );
        registry.register(
            "resting_percent",
            "How much of the time the move that told last rests, so that requests do not wait for it",
            self.resting.clone(),
        );
        registry.register(
            "errors",
            "Looks at the moves of a shard that failed",
            self.errors.clone(),
        );
    }

    pub(super) fn running(&self, moves: usize) {
        self.running.set(number(moves));
    }

    pub(super) fn open(&self, abandoned: usize, stopped: usize) {
        self.abandoned.set(number(abandoned));
        self.stopped.set(number(stopped));
    }

    pub(super) fn picked_up(&self) {
        self.picked_up.inc();
    }

    pub(super) fn failed(&self, shard: &str) {
        let shard = shard.to_owned();
        self.errors
            .get_or_create_owned(&ShardLabels { shard })
            .inc();
    }

    pub(super) fn ended(&self, ended: &Result<Outcome, MoveError>) {
        let result = match ended {
            Ok(outcome) => outcome.state().as_str(),
            Err(MoveError::TakenOver) => "taken_over",
            Err(error) if error.passes() => "waits",
            Err(_) => "stopped",
        };
        self.moves
            .get_or_create_owned(&ResultLabels { result })
            .inc();
    }

    /// A move's progress, of which nothing is counted yet.
    pub(super) fn counted(&self) -> Counted {
        Counted {
            metrics: self.clone(),
            before: Progress::default(),
        }
    }
}

/// How much of a move's progress is counted.
pub(super) struct Counted {
    metrics: MoverMetrics,
    before: Progress,
}

impl Counted {
    /// Counts what came since the last time.
    pub(super) fn up_to(&mut self, now: &Progress) {
        let (metrics, before) = (&self.metrics, &self.before);
        let since = |now: u64, before: u64| now.saturating_sub(before);
        metrics
            .slots
            .inc_by(since(now.slots_done, before.slots_done));
        metrics.rows.inc_by(since(now.rows, before.rows));
        metrics.bytes.inc_by(since(now.bytes, before.bytes));
        let resting = i64::try_from(now.resting_percent).unwrap_or(i64::MAX);
        metrics.resting.set(resting);
        for pause in now.pauses.iter().skip(before.pauses.len()) {
            metrics.pause_seconds.observe(pause.whole().as_secs_f64());
        }
        self.before = now.clone();
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
