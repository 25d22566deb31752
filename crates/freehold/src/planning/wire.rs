//! Wishes and plans on their way to a router and back.

use std::time::Duration;

use freehold_core::slot_set::NoSlots;
use freehold_mover::MoveError;
use freehold_proto::v1::{self, plan_moves_request::Wish as Wished};
use freehold_router::{
    failure::Failure,
    movers::{EvenBy, Spread, Wish},
};

use super::{Plan, PlanError, PlannedMove};

/// What a router is asked.
pub(crate) fn request(wish: &Wish) -> v1::PlanMovesRequest {
    let wished = match wish {
        Wish::Gather { slots, target } => Wished::Gather(v1::GatherSlots {
            slots: slots.to_string(),
            target: target.clone(),
        }),
        Wish::Rebalance(spread) => {
            let (even_by, weights) = spread_parts(spread);
            Wished::Rebalance(v1::RebalanceShards { even_by, weights })
        }
        Wish::Drain { shard, spread } => {
            let (even_by, weights) = spread_parts(spread);
            Wished::Drain(v1::DrainShard {
                shard: shard.clone(),
                even_by,
                weights,
            })
        }
    };
    let wish = Some(wished);
    v1::PlanMovesRequest { wish }
}

fn spread_parts(spread: &Spread) -> (i32, Vec<v1::ShardWeight>) {
    let even_by = match spread.by {
        EvenBy::Slots => v1::EvenBy::Slots,
        EvenBy::Bytes => v1::EvenBy::Bytes,
    };
    let weights = spread
        .weights
        .iter()
        .map(|(shard, weight)| v1::ShardWeight {
            shard: shard.clone(),
            weight: *weight,
        });
    (even_by.into(), weights.collect())
}

/// What a router answers.
pub(crate) fn response(plan: Plan) -> v1::PlanMovesResponse {
    let moves = plan.moves.into_iter().map(|planned| v1::PlannedMove {
        source: planned.source,
        target: planned.target,
        slots: planned.slots.to_string(),
        rows: planned.rows,
        bytes: planned.bytes,
        estimated: planned.estimated,
        time: planned.time.and_then(|time| time.try_into().ok()),
    });
    v1::PlanMovesResponse {
        moves: moves.collect(),
        pause_max: plan.pause_max.and_then(|pause| pause.try_into().ok()),
    }
}

/// The plan that a router answered.
///
/// # Errors
/// [`NoSlots`] if it answered something else.
pub(crate) fn plan(response: v1::PlanMovesResponse) -> Result<Plan, NoSlots> {
    let moves = response.moves.into_iter().map(|planned| {
        Ok(PlannedMove {
            source: planned.source,
            target: planned.target,
            slots: planned.slots.parse()?,
            rows: planned.rows,
            bytes: planned.bytes,
            estimated: planned.estimated,
            time: planned.time.and_then(duration),
        })
    });
    Ok(Plan {
        moves: moves.collect::<Result<_, NoSlots>>()?,
        pause_max: response.pause_max.and_then(duration),
    })
}

/// A duration of the wire; none for one that is negative.
pub(crate) fn duration(wire: impl TryInto<Duration>) -> Option<Duration> {
    wire.try_into().ok()
}

/// What a router says of what went wrong.
pub(crate) fn failure(error: PlanError) -> Failure {
    let words = error.to_string();
    match error {
        PlanError::NoShard { field, .. } => Failure::invalid(field, format!("{field}: {words}")),
        PlanError::NoPlan(_) => Failure::invalid("wish", words),
        PlanError::Unowned(_) => Failure::Misconfigured(words.into()),
        PlanError::Shard(error) => of_move(error),
    }
}

/// The same of a mover's error.
pub(crate) fn of_move(error: MoveError) -> Failure {
    match error {
        MoveError::Shard { shard, why } => Failure::Unavailable {
            shard: shard.into(),
            reason: why.into(),
        },
        other => Failure::Misconfigured(other.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use freehold_router::validate;

    use super::*;

    #[test]
    fn a_wish_arrives_as_it_was_sent() {
        let spread = |by| Spread {
            by,
            weights: vec![("c".to_owned(), 2), ("a".to_owned(), 0)],
        };
        for wish in [
            Wish::Gather {
                slots: "0-9,70".parse().unwrap(),
                target: "b".to_owned(),
            },
            Wish::Rebalance(spread(EvenBy::Slots)),
            Wish::Drain {
                shard: "a".to_owned(),
                spread: spread(EvenBy::Bytes),
            },
        ] {
            assert_eq!(validate::moves::wish(request(&wish)), Ok(wish));
        }
    }

    #[test]
    fn a_plan_arrives_as_it_was_made() {
        let planned = |time, estimated| PlannedMove {
            source: "a".to_owned(),
            target: "b".to_owned(),
            slots: "0-9,70".parse().unwrap(),
            rows: 7,
            bytes: 8,
            estimated,
            time,
        };
        for (time, estimated) in [(None, true), (Some(Duration::from_micros(1)), false)] {
            let moves = vec![planned(time, estimated)];
            let made = Plan {
                moves,
                pause_max: time,
            };
            assert_eq!(plan(response(made.clone())), Ok(made));
        }
        assert_eq!(plan(response(Plan::default())), Ok(Plan::default()));
    }
}
