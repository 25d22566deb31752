//! What moves must reach, and whether they did in this run.

use serde::Serialize;

use crate::moving::command::Pause;
use crate::moving::filling::Filling;
use crate::moving::rounds::Round;
use crate::moving::spread::{Spread, median};

/// Requests per second under which pauses are looked at.
const PER_SECOND_MIN: f64 = 2_000.0;

/// One row of the table of goals.
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    /// What it is about.
    pub what: String,
    /// What is asked for.
    pub must: String,
    /// What came out, in the same unit; absent if this run does not say.
    pub got: Option<f64>,
    /// Whether that is enough.
    pub met: Option<bool>,
}

fn at_most(what: &str, bound: f64, unit: &str, got: Option<f64>) -> Goal {
    Goal {
        what: what.to_owned(),
        must: format!("≤ {bound} {unit}"),
        got,
        met: got.map(|got| got <= bound),
    }
}

/// Part of a pause.
pub type Cause = (&'static str, fn(&Pause) -> f64);

/// What writes wait for: in all, and by itself.
pub const CAUSES: [Cause; 5] = [
    ("all", |pause| pause.whole_ms),
    ("fence", |pause| pause.fence_ms),
    ("last drain", |pause| pause.drain_ms),
    ("replicas", |pause| pause.replicas_ms),
    ("opening", |pause| pause.opening_ms),
];

/// How long writes to a slot waited in a round: each pause counts for each of its slots.
#[must_use]
pub fn pauses(round: &Round, (_, of): Cause) -> Option<Spread> {
    let pauses = round.moved.pauses.iter();
    Spread::of(pauses.map(|pause| (of(pause), pause.slots)))
}

/// The median of the rounds that have it.
pub fn over<T>(rounds: &[T], figure: impl Fn(&T) -> Option<f64>) -> Option<f64> {
    median(rounds.iter().filter_map(figure))
}

/// All of them.
#[must_use]
pub fn of(rounds: &[Round], fillings: &[Filling]) -> Vec<Goal> {
    let [whole, ..] = CAUSES;
    let rate = over(rounds, |round| Some(round.with.per_second));
    let p50 = over(rounds, |round| Some(pauses(round, whole)?.p50));
    let p99 = over(rounds, |round| Some(pauses(round, whole)?.p99));
    let times = over(rounds, |round| {
        Some(round.with.all_ms.p99 / round.without.all_ms.p99)
    });
    let idle = over(fillings, |filling| {
        Some(filling.idle.seconds / filling.idle.dump_seconds)
    });
    // A dump that nothing disturbs is the stricter measure.
    let loaded = over(fillings, |filling| {
        Some(filling.loaded.seconds / filling.idle.dump_seconds)
    });
    vec![
        Goal {
            what: "requests while slots move".to_owned(),
            must: format!("≥ {PER_SECOND_MIN} /s"),
            got: rate,
            met: rate.map(|rate| rate >= PER_SECOND_MIN),
        },
        at_most("pause of writes to a slot, p50", 30.0, "ms", p50),
        at_most("pause of writes to a slot, p99", 150.0, "ms", p99),
        at_most(
            "p99 of requests while slots move",
            1.5,
            "× without a move",
            times,
        ),
        at_most("filling a shard, idle", 2.0, "× an idle dump", idle),
        at_most(
            "filling a shard, under requests",
            4.0,
            "× an idle dump",
            loaded,
        ),
    ]
}
