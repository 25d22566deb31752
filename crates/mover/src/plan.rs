//! Which slots go where: pure functions of who owns what, how large it is, and how much each shard
//! shall have.
//!
//! [`rebalance`] evens shards out by their weights with as few slots as it takes, [`drain`] empties
//! one, and [`gather`] moves slots that somebody names. A plan never moves a slot to a shard that
//! has it, and none twice.

use std::collections::{BTreeMap, BTreeSet};

use freehold_core::{Slot, SlotSet};

/// What a shard has and shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub shard: String,
    /// How much it shall have, beside the others' weights; 0: nothing.
    pub weight: u32,
    /// Its slots, each with its size in whatever shall be even: bytes, or 1 for each slot.
    pub slots: BTreeMap<Slot, u64>,
}

impl Owner {
    fn size(&self) -> u64 {
        self.slots.values().sum()
    }
}

/// Slots that go from one shard to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub slots: SlotSet,
    /// The shard that has them, by its place among the owners.
    pub from: usize,
    /// The shard that gets them.
    pub to: usize,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// All weights are 0.
    #[error("no shard may have slots: give one a weight above 0")]
    NobodyLeft,
    /// Slots that nobody owns cannot be moved.
    #[error("nobody owns {0}: see `freehold shards`")]
    Unowned(SlotSet),
}

/// Evens the shards out. By slots (each of size 1) every shard ends within one slot of its share;
/// by bytes, where no slot fits any more that would bring two shards nearer to theirs.
///
/// # Errors
/// [`NoPlan::NobodyLeft`].
pub fn rebalance(owners: &[Owner]) -> Result<Vec<Step>, NoPlan> {
    let shares = shares(owners)?;
    let mut plan = Plan::default();
    // What is too much goes, in the largest slots that fit: that takes the fewest.
    let mut surplus: Vec<u64> = Vec::with_capacity(owners.len());
    let mut deficit: Vec<u64> = Vec::with_capacity(owners.len());
    for (owner, share) in owners.iter().zip(&shares) {
        surplus.push(owner.size().saturating_sub(*share));
        deficit.push(share.saturating_sub(owner.size()));
    }
    let mut left: Vec<BTreeSet<(u64, Slot)>> = owners.iter().map(by_size).collect();
    let mut givers: BTreeSet<(u64, usize)> = ranked(&surplus);
    while let Some((most, from)) = givers.pop_last() {
        let wanted = deficit.iter().copied().max().unwrap_or(0);
        let room = most.min(wanted);
        let fits = left[from].range(..=(room, Slot(u16::MAX))).next_back();
        let Some((size, slot)) = fits.copied().filter(|(size, _)| *size > 0) else {
            // Nothing that it has fits anywhere, nor will it: room only becomes less.
            continue;
        };
        let to = receiver(&deficit, size, plan.last_of(from));
        left[from].remove(&(size, slot));
        plan.add(slot, from, to);
        deficit[to] -= size;
        givers.insert((most - size, from));
    }
    Ok(plan.steps())
}

/// Empties a shard over the others, each slot to the one that is then the least full for its weight.
///
/// # Errors
/// [`NoPlan::NobodyLeft`], if no other shard may have slots.
pub fn drain(owners: &[Owner], from: usize) -> Result<Vec<Step>, NoPlan> {
    let receivers: Vec<usize> = (0..owners.len())
        .filter(|place| *place != from && owners[*place].weight > 0)
        .collect();
    if receivers.is_empty() {
        return Err(NoPlan::NobodyLeft);
    }
    let mut loads: Vec<(u64, usize)> = owners
        .iter()
        .map(|owner| (owner.size(), owner.slots.len()))
        .collect();
    // How many slots of each size each gets; which, is said after that, so that they stay together.
    let mut plan = Plan::default();
    let mut sizes: BTreeMap<u64, Vec<Slot>> = BTreeMap::new();
    for (slot, size) in &owners[from].slots {
        sizes.entry(*size).or_default().push(*slot);
    }
    for (size, slots) in sizes.into_iter().rev() {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for _ in &slots {
            let fullness = |place: &usize| {
                let (load, count) = loads[*place];
                let weight = u128::from(owners[*place].weight);
                // Of equal bytes the one with fewer slots, so that empty slots are spread, too.
                (
                    u128::from(load + size) * SCALE / weight,
                    count as u128 * SCALE / weight,
                )
            };
            let least = receivers.iter().copied().min_by_key(fullness);
            let to = least.unwrap_or(from);
            loads[to] = (loads[to].0 + size, loads[to].1 + 1);
            *counts.entry(to).or_default() += 1;
        }
        let mut slots = slots.into_iter();
        for (to, count) in counts {
            for slot in slots.by_ref().take(count) {
                plan.add(slot, from, to);
            }
        }
    }
    Ok(plan.steps())
}

/// Brings these slots to one shard; those that it has stay.
///
/// # Errors
/// [`NoPlan::Unowned`], if somebody has to say first who owns some of them.
pub fn gather(owners: &[Owner], slots: &SlotSet, to: usize) -> Result<Vec<Step>, NoPlan> {
    let mut plan = Plan::default();
    let mut unowned = Vec::new();
    for slot in slots.iter() {
        let owner = owners
            .iter()
            .position(|owner| owner.slots.contains_key(&slot));
        match owner {
            Some(from) if from == to => {}
            Some(from) => plan.add(slot, from, to),
            None => unowned.push(slot),
        }
    }
    match unowned.is_empty() {
        true => Ok(plan.steps()),
        false => Err(NoPlan::Unowned(unowned.into_iter().collect())),
    }
}

/// Finer than any difference of weights.
const SCALE: u128 = 1 << 40;

/// What each shard shall have: its part by weight, whole, and of what is left over one more for those
/// that have it already, so that it need not move.
fn shares(owners: &[Owner]) -> Result<Vec<u64>, NoPlan> {
    let weights: u128 = owners.iter().map(|owner| u128::from(owner.weight)).sum();
    if weights == 0 {
        return Err(NoPlan::NobodyLeft);
    }
    let all: u64 = owners.iter().map(Owner::size).sum();
    let parts: Vec<(u64, u128)> = owners
        .iter()
        .map(|owner| {
            let part = u128::from(all) * u128::from(owner.weight);
            (
                u64::try_from(part / weights).unwrap_or(u64::MAX),
                part % weights,
            )
        })
        .collect();
    let mut shares: Vec<u64> = parts.iter().map(|(whole, _)| *whole).collect();
    let left_over = all - shares.iter().sum::<u64>();
    let mut order: Vec<usize> = (0..owners.len()).filter(|at| parts[*at].1 > 0).collect();
    order.sort_by_key(|at| {
        let has_it = owners[*at].size() > shares[*at];
        (!has_it, std::cmp::Reverse(parts[*at].1), *at)
    });
    for at in order
        .into_iter()
        .take(usize::try_from(left_over).unwrap_or(usize::MAX))
    {
        shares[at] += 1;
    }
    Ok(shares)
}

fn by_size(owner: &Owner) -> BTreeSet<(u64, Slot)> {
    owner
        .slots
        .iter()
        .map(|(slot, size)| (*size, *slot))
        .collect()
}

fn ranked(surplus: &[u64]) -> BTreeSet<(u64, usize)> {
    let ranked = surplus.iter().enumerate();
    ranked
        .filter(|(_, surplus)| **surplus > 0)
        .map(|(at, surplus)| (*surplus, at))
        .collect()
}

/// Who gets a slot: the one that got the last of the same giver while it has room, so that what goes
/// together stays together; else who lacks most.
fn receiver(deficit: &[u64], size: u64, last: Option<usize>) -> usize {
    if let Some(last) = last
        && deficit[last] >= size
    {
        return last;
    }
    let mut places = 0..deficit.len();
    let most = places.next().map(|first| {
        places.fold(first, |best, at| {
            if deficit[at] > deficit[best] {
                at
            } else {
                best
            }
        })
    });
    most.unwrap_or(0)
}

/// A plan in the making.
#[derive(Default)]
struct Plan {
    moves: BTreeMap<(usize, usize), Vec<Slot>>,
    last: BTreeMap<usize, usize>,
}

impl Plan {
    fn add(&mut self, slot: Slot, from: usize, to: usize) {
        self.moves.entry((from, to)).or_default().push(slot);
        self.last.insert(from, to);
    }

    fn last_of(&self, from: usize) -> Option<usize> {
        self.last.get(&from).copied()
    }

    fn steps(self) -> Vec<Step> {
        let moves = self.moves.into_iter();
        moves
            .map(|((from, to), slots)| Step {
                slots: slots.into_iter().collect(),
                from,
                to,
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
