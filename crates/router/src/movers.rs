//! What steers the movers, and what they are asked for. The wiring gives it, since a router does not
//! move by itself.

use freehold_core::SlotSet;
use freehold_proto::v1;
use futures::future::BoxFuture;

use crate::failure::Failure;

/// The movers of a process.
pub trait Movers: Send + Sync + 'static {
    /// The moves that shards have written down, and why shards could not be asked.
    fn list(&self) -> BoxFuture<'_, v1::ListMovesResponse>;

    /// What it takes to have it as it is wished. Dropped, it ends.
    fn plan(&self, wish: Wish) -> BoxFuture<'_, Result<v1::PlanMovesResponse, Failure>>;

    /// Begins a move, unless it was begun before.
    fn start(&self, start: Start) -> BoxFuture<'_, Result<v1::StartMoveResponse, Failure>>;

    /// How far a move is.
    fn get(&self, id: u64) -> BoxFuture<'_, Result<v1::GetMoveResponse, Failure>>;

    /// Goes on with these moves, or takes them back; without an id, with all that are open. Answers
    /// those that run here now and why others are left out, or why nothing was begun.
    fn go_on(
        &self,
        ids: Vec<u64>,
        cancel: bool,
    ) -> BoxFuture<'_, Result<v1::ResumeMovesResponse, String>>;
}

/// Where somebody wants slots to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// These slots on one shard.
    Gather {
        /// Which.
        slots: SlotSet,
        /// The shard.
        target: String,
    },
    /// On every shard its share.
    Rebalance(Spread),
    /// On one shard none.
    Drain {
        /// That shard.
        shard: String,
        /// How the others get them.
        spread: Spread,
    },
}

/// How slots are spread over shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// What is to be even.
    pub by: EvenBy,
    /// Shards whose weight is not 1; of a shard that is named twice, the last one counts.
    pub weights: Vec<(String, u32)>,
}

/// What is to be even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvenBy {
    /// Numbers of slots.
    Slots,
    /// Bytes of keys and values.
    Bytes,
}

impl Wish {
    /// The shards that it names, each with the field that does so.
    #[must_use]
    pub fn shards(&self) -> Vec<(&'static str, &str)> {
        let (named, weights) = match self {
            Self::Gather { target, .. } => return vec![("gather.target", target)],
            Self::Rebalance(spread) => (None, spread.named("rebalance.weights.shard")),
            Self::Drain { shard, spread } => {
                let named = ("drain.shard", &**shard);
                (Some(named), spread.named("drain.weights.shard"))
            }
        };
        named.into_iter().chain(weights).collect()
    }
}

impl Spread {
    fn named(&self, field: &'static str) -> impl Iterator<Item = (&'static str, &str)> {
        self.weights.iter().map(move |(shard, _)| (field, &**shard))
    }
}

/// A move to be begun.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Random, not 0.
    pub id: u64,
    /// The shard that has the slots.
    pub source: String,
    /// The shard that gets them.
    pub target: String,
    /// At least one.
    pub slots: SlotSet,
    /// How hard.
    pub limits: Limits,
}

/// How hard to move; `None` as the config says.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Bytes of values that are copied in a second at most; 0 for as many as go.
    pub bytes_per_second_max: Option<u64>,
    /// How many times as long as before small writes may take; 0 for any.
    pub latency_factor_max: Option<f64>,
}
