//! Who owns which slots, how large those are, and how much each shard shall have.

use std::{collections::BTreeMap, time::Duration};

use freehold_core::{Slot, SlotSet};
use freehold_mover::{MoveError, Shard, plan::Owner};
use freehold_router::movers::{EvenBy, Spread};
use tokio::time::{Instant, sleep};

use super::PlanError;

/// Slots whose sizes are asked for in one statement.
const SIZED_AT_ONCE: u16 = 64;

/// The owners of these slots, in the order of the shards.
pub(super) async fn owners(
    shards: &[Shard],
    slots: &SlotSet,
    spread: &Spread,
) -> Result<Vec<Owner>, PlanError> {
    let mut left = slots.clone();
    let mut owners = Vec::with_capacity(shards.len());
    for shard in shards {
        let owned = shard.claimed(slots).await?;
        left = left.without(&owned);
        let sizes = match spread.by {
            EvenBy::Slots => BTreeMap::new(),
            EvenBy::Bytes => sizes(shard, &owned).await?,
        };
        let size = |slot: &Slot| match spread.by {
            EvenBy::Slots => 1,
            EvenBy::Bytes => sizes.get(slot).copied().unwrap_or(0),
        };
        owners.push(Owner {
            shard: shard.name.clone(),
            weight: weight(spread, &shard.name),
            slots: owned.iter().map(|slot| (slot, size(&slot))).collect(),
        });
    }
    match left.is_empty() {
        true => Ok(owners),
        false => Err(PlanError::Unowned(left)),
    }
}

fn weight(spread: &Spread, shard: &str) -> u32 {
    let mut weights = spread.weights.iter().rev();
    let weight = weights.find(|(name, _)| name == shard);
    weight.map_or(1, |(_, weight)| *weight)
}

/// Bytes in each slot that has any. The server rests for as long as it worked.
async fn sizes(shard: &Shard, owned: &SlotSet) -> Result<BTreeMap<Slot, u64>, MoveError> {
    let failed = |error| shard.failed(&error);
    let leader = shard.leader().await?;
    let mut connection = leader.connect_audit().await.map_err(failed)?;
    let mut sizes = BTreeMap::new();
    for range in owned.ranges() {
        let mut first = *range.start();
        loop {
            let last = first.saturating_add(SIZED_AT_ONCE - 1).min(*range.end());
            let began = Instant::now();
            let found = connection
                .sizes(Slot(first), Slot(last))
                .await
                .map_err(failed)?;
            sizes.extend(found);
            if last == *range.end() {
                break;
            }
            first = last + 1;
            sleep(began.elapsed().min(Duration::from_secs(1))).await;
        }
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_weighs_1_unless_it_is_named_and_the_last_word_counts() {
        let weights = [("a", 2), ("b", 0), ("a", 3)];
        let spread = Spread {
            by: EvenBy::Slots,
            weights: weights
                .map(|(name, weight)| (name.to_owned(), weight))
                .into(),
        };
        let weights = ["a", "b", "c"].map(|shard| weight(&spread, shard));
        assert_eq!(weights, [3, 0, 1]);
    }
}
