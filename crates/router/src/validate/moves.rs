//! Requests of slots that are to move.

use freehold_core::{
    SlotSet,
    limits::{MOVER_BYTES_PER_SECOND_MAX, MOVER_LATENCY_FACTORS},
};
use freehold_proto::v1::{self, plan_moves_request::Wish as Wished};

use crate::{
    failure::Failure,
    movers::{EvenBy, Limits, Spread, Start, Wish},
};

/// What a plan is to bring about. Whether there are such shards, who knows them says.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn wish(request: v1::PlanMovesRequest) -> Result<Wish, Failure> {
    match request.wish {
        Some(Wished::Gather(v1::GatherSlots { slots, target })) => Ok(Wish::Gather {
            slots: some_slots("gather.slots", &slots)?,
            target,
        }),
        Some(Wished::Rebalance(v1::RebalanceShards { even_by, weights })) => Ok(Wish::Rebalance(
            spread("rebalance.even_by", even_by, weights)?,
        )),
        Some(Wished::Drain(v1::DrainShard {
            shard,
            even_by,
            weights,
        })) => Ok(Wish::Drain {
            shard,
            spread: spread("drain.even_by", even_by, weights)?,
        }),
        None => Err(Failure::invalid(
            "wish",
            "wish is not set: set gather, rebalance or drain",
        )),
    }
}

fn spread(
    field: &'static str,
    even_by: i32,
    weights: Vec<v1::ShardWeight>,
) -> Result<Spread, Failure> {
    let by = match v1::EvenBy::try_from(even_by) {
        Ok(v1::EvenBy::Unspecified | v1::EvenBy::Slots) => EvenBy::Slots,
        Ok(v1::EvenBy::Bytes) => EvenBy::Bytes,
        Err(_) => {
            let problem = format!("{field} is {even_by}: use EVEN_BY_SLOTS or EVEN_BY_BYTES");
            return Err(Failure::invalid(field, problem));
        }
    };
    let weights = weights.into_iter();
    Ok(Spread {
        by,
        weights: weights.map(|each| (each.shard, each.weight)).collect(),
    })
}

/// A move that is to begin, likewise.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn start(request: v1::StartMoveRequest) -> Result<Start, Failure> {
    let v1::StartMoveRequest {
        id,
        source,
        target,
        slots,
        bytes_per_second_max,
        latency_factor_max,
    } = request;
    if id == 0 {
        return Err(Failure::invalid("id", "id is 0: draw a random one"));
    }
    if source == target {
        let problem = format!("target is '{target}', as source is: name another shard");
        return Err(Failure::invalid("target", problem));
    }
    if let Some(bytes) = bytes_per_second_max.filter(|bytes| *bytes > MOVER_BYTES_PER_SECOND_MAX) {
        let problem = format!(
            "bytes_per_second_max is {bytes}: up to {MOVER_BYTES_PER_SECOND_MAX} are allowed; 0 for as \
             many as go"
        );
        return Err(Failure::invalid("bytes_per_second_max", problem));
    }
    let allowed = |factor: &f64| *factor == 0.0 || MOVER_LATENCY_FACTORS.contains(factor);
    if let Some(factor) = latency_factor_max.filter(|factor| !allowed(factor)) {
        let problem = format!(
            "latency_factor_max is {factor}: {} to {} are allowed; 0 for any",
            MOVER_LATENCY_FACTORS.start(),
            MOVER_LATENCY_FACTORS.end()
        );
        return Err(Failure::invalid("latency_factor_max", problem));
    }
    Ok(Start {
        id,
        source,
        target,
        slots: some_slots("slots", &slots)?,
        limits: Limits {
            bytes_per_second_max,
            latency_factor_max,
        },
    })
}

/// Text that is a set of slots has at least one.
fn some_slots(field: &'static str, text: &str) -> Result<SlotSet, Failure> {
    text.parse()
        .map_err(|error| Failure::invalid(field, format!("{field}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> v1::StartMoveRequest {
        v1::StartMoveRequest {
            id: 7,
            source: "a".to_owned(),
            target: "b".to_owned(),
            slots: "3,0-1".to_owned(),
            bytes_per_second_max: Some(0),
            latency_factor_max: None,
        }
    }

    fn field(failure: &Failure) -> &'static str {
        match failure {
            Failure::Invalid { field, .. } => field,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_start_is_taken_as_it_is() {
        let taken = start(good()).unwrap();
        assert_eq!(taken.slots.to_string(), "0-1,3");
        let limits = Limits {
            bytes_per_second_max: Some(0),
            latency_factor_max: None,
        };
        assert_eq!((taken.id, taken.limits), (7, limits));
        for factor in [0.0, 1.05, 100.0] {
            let mut request = good();
            request.latency_factor_max = Some(factor);
            assert!(start(request).is_ok(), "{factor}");
        }
    }

    #[test]
    fn a_start_that_cannot_be_meant_is_refused_by_field_and_value() {
        type Spoil = fn(&mut v1::StartMoveRequest);
        let spoils: [(Spoil, &str, &str); 8] = [
            (|it| it.id = 0, "id", "0"),
            (|it| it.target = "a".to_owned(), "target", "'a'"),
            (|it| it.slots.clear(), "slots", "''"),
            (|it| it.slots = "5-4".to_owned(), "slots", "'5-4'"),
            (|it| it.slots = "65536".to_owned(), "slots", "'65536'"),
            (
                |it| it.bytes_per_second_max = Some(u64::MAX),
                "bytes_per_second_max",
                "18446744073709551615",
            ),
            (
                |it| it.latency_factor_max = Some(1.0),
                "latency_factor_max",
                "1.05 to 100",
            ),
            (
                |it| it.latency_factor_max = Some(f64::NAN),
                "latency_factor_max",
                "NaN",
            ),
        ];
        for (spoil, wrong, words) in spoils {
            let mut request = good();
            spoil(&mut request);
            let failure = start(request).unwrap_err();
            assert_eq!(field(&failure), wrong, "{failure}");
            assert!(failure.to_string().contains(words), "{failure}");
        }
    }

    #[test]
    fn what_is_said_of_bad_slots_is_short_and_many_ranges_are_one() {
        let mut request = good();
        request.slots = "x".repeat(100_000);
        assert!(start(request).unwrap_err().to_string().len() < 200);
        let mut request = good();
        request.slots = vec!["0-65535"; 100_000].join(",");
        assert_eq!(start(request).unwrap().slots.ranges().len(), 1);
    }

    #[test]
    fn a_wish_is_one_of_three() {
        let of = |wished| wish(v1::PlanMovesRequest { wish: wished });
        assert_eq!(field(&of(None).unwrap_err()), "wish");
        let weights = vec![v1::ShardWeight {
            shard: "c".to_owned(),
            weight: 2,
        }];
        let drain = |even_by| {
            Some(Wished::Drain(v1::DrainShard {
                shard: "a".to_owned(),
                even_by,
                weights: weights.clone(),
            }))
        };
        let wished = of(drain(v1::EvenBy::Bytes.into())).unwrap();
        assert_eq!(
            wished.shards(),
            [("drain.shard", "a"), ("drain.weights.shard", "c")]
        );
        assert!(matches!(&wished, Wish::Drain { spread, .. } if spread.by == EvenBy::Bytes));
        assert_eq!(field(&of(drain(9)).unwrap_err()), "drain.even_by");
    }
}
