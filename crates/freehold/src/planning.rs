//! Plans of moves: functions over shards, which commands call with a config and a router for
//! commands without one.
//!
//! [`plan`] asks who owns what ([`owners`]), has `freehold_mover::plan` say what shall go where,
//! counts what lies there ([`count`]), and tells how long that takes by the [`rates`] of the last
//! move. Where there was none, a [`sample`] of the plan is moved first. [`wire`] is how a wish and a plan
//! go to a router and back.

mod count;
mod owners;
mod rates;
mod sample;
pub(crate) mod wire;

use std::time::Duration;

use freehold_core::SlotSet;
use freehold_mover::{
    MoveError, Shard,
    lookout::sightings,
    plan::{NoPlan, Owner, Step, drain, gather, rebalance},
};
use freehold_router::movers::{EvenBy, Spread, Wish};
use freehold_storage::moves::MoveRecord;

use self::rates::Rates;

/// How many moves of each shard are looked at.
const RECORDS_MAX: usize = 100;

/// What is to be moved, one after another.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) moves: Vec<PlannedMove>,
    /// The longest pause of the last move that says something of others.
    pub(crate) pause_max: Option<Duration>,
}

/// Slots that go from one shard to another, and what lies in them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlannedMove {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) slots: SlotSet,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Whether the numbers are an estimate.
    pub(crate) estimated: bool,
    /// How long it takes by the rate of that last move.
    pub(crate) time: Option<Duration>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// A wish names a shard that there is not.
    #[error("no shard is called '{name}': the config has {known}")]
    NoShard {
        /// Of the request to a router.
        field: &'static str,
        name: String,
        known: String,
    },
    /// Nothing can be said of slots without an owner.
    #[error(
        "no shard owns {}: a move of them may be open (see freehold moves)",
        crate::cluster::plan::ranges(.0.ranges())
    )]
    Unowned(SlotSet),
    /// It cannot be as it is wished.
    #[error("{0}")]
    NoPlan(#[from] NoPlan),
    /// A shard does not answer.
    #[error("{0}")]
    Shard(#[from] MoveError),
}

/// What it takes to have it as it is wished. Nothing is moved.
///
/// # Errors
/// [`PlanError`].
pub(crate) async fn plan(shards: &[Shard], wish: &Wish) -> Result<Plan, PlanError> {
    for (field, name) in wish.shards() {
        place(shards, field, name)?;
    }
    let rates = Rates::of(&records(shards).await?);
    let (owners, steps) = steps(shards, wish).await?;
    let mut moves = Vec::with_capacity(steps.len());
    for Step { slots, from, to } in steps {
        let lies = count::count(&shards[from], &slots).await?;
        moves.push(PlannedMove {
            source: owners[from].shard.clone(),
            target: owners[to].shard.clone(),
            slots,
            rows: lies.rows,
            bytes: lies.bytes,
            estimated: lies.estimated,
            time: rates
                .as_ref()
                .map(|rates| rates.time(lies.rows, lies.bytes)),
        });
    }
    let pause_max = rates.map(|rates| rates.pause);
    Ok(Plan { moves, pause_max })
}

/// The owners, in the order of the shards, and what shall go from which to which.
async fn steps(shards: &[Shard], wish: &Wish) -> Result<(Vec<Owner>, Vec<Step>), PlanError> {
    let all = SlotSet::from(0..=u16::MAX);
    Ok(match wish {
        Wish::Gather { slots, target } => {
            let as_they_are = Spread {
                by: EvenBy::Slots,
                weights: Vec::new(),
            };
            let to = place(shards, "gather.target", target)?;
            let owners = owners::owners(shards, slots, &as_they_are).await?;
            let steps = gather(&owners, slots, to)?;
            (owners, steps)
        }
        Wish::Rebalance(spread) => {
            let owners = owners::owners(shards, &all, spread).await?;
            let steps = rebalance(&owners)?;
            (owners, steps)
        }
        Wish::Drain { shard, spread } => {
            let from = place(shards, "drain.shard", shard)?;
            let owners = owners::owners(shards, &all, spread).await?;
            let steps = drain(&owners, from)?;
            (owners, steps)
        }
    })
}

/// Where among the shards the one of this name stands, which a field of a request names.
pub(crate) fn place(shards: &[Shard], field: &'static str, name: &str) -> Result<usize, PlanError> {
    let place = shards.iter().position(|shard| shard.name == name);
    place.ok_or_else(|| {
        let known: Vec<&str> = shards.iter().map(|shard| &*shard.name).collect();
        PlanError::NoShard {
            field,
            name: name.chars().take(NAME_CHARS_MAX).collect(),
            known: known.join(", "),
        }
    })
}

/// Of a name that nobody has, so much is shown.
const NAME_CHARS_MAX: usize = 64;

/// Why a move of these slots may not begin, in words: one that is open is about some of them.
pub(crate) fn in_the_way<'a>(
    records: impl IntoIterator<Item = &'a MoveRecord>,
    slots: &SlotSet,
) -> Option<String> {
    let mut open = records.into_iter().filter(|record| record.state.is_open());
    open.find_map(|record| {
        let common = record.slots.common(slots);
        let words = || {
            format!(
                "move {:016x} from '{}' to '{}' is about {} and is open: wait for its end, or resume or \
                 cancel it first (freehold moves)",
                record.id,
                record.source,
                record.target,
                crate::cluster::plan::ranges(common.ranges())
            )
        };
        (!common.is_empty()).then(words)
    })
}

/// What the shards have written down of moves, newest first, each once.
pub(crate) async fn records(shards: &[Shard]) -> Result<Vec<MoveRecord>, MoveError> {
    let mut shown = Vec::new();
    for shard in shards {
        let (newest, open) = (
            shard.records(RECORDS_MAX).await?,
            shard.open_records(RECORDS_MAX).await?,
        );
        shown.push((&*shard.name, [newest, open].concat()));
    }
    let all = sightings(shown).into_iter().map(|seen| seen.record);
    let mut all: Vec<MoveRecord> = all.collect();
    all.sort_by_key(|record| (std::cmp::Reverse(record.started_at), record.id));
    Ok(all)
}
