use proptest::prelude::*;

use super::*;

/// Shards with so many slots each, in order, of the sizes that `size` says.
fn owners(shards: &[(u32, usize)], mut size: impl FnMut(u16) -> u64) -> Vec<Owner> {
    let mut next = 0_u16;
    let of = |(place, &(weight, count)): (usize, &(u32, usize))| {
        let slots = (0..count).map(|_| {
            let slot = next;
            next += 1;
            (Slot(slot), size(slot))
        });
        Owner {
            shard: format!("shard-{place}"),
            weight,
            slots: slots.collect(),
        }
    };
    shards.iter().enumerate().map(of).collect()
}

/// Carries a plan out, and checks each step on the way.
fn after(owners: &[Owner], steps: &[Step]) -> Vec<Owner> {
    let mut next = owners.to_vec();
    for Step { slots, from, to } in steps {
        assert!(
            from != to && !slots.is_empty(),
            "nothing is moved needlessly"
        );
        for slot in slots.iter() {
            let size = next[*from].slots.remove(&slot);
            let size = size.expect("a slot is moved once, by whom it belongs to");
            next[*to].slots.insert(slot, size);
        }
    }
    next
}

fn moved(steps: &[Step]) -> usize {
    steps.iter().map(|step| step.slots.len()).sum()
}

fn counts(owners: &[Owner]) -> Vec<usize> {
    owners.iter().map(|owner| owner.slots.len()).collect()
}

#[test]
fn a_third_shard_gets_its_third_in_whole_ranges() {
    let two = owners(&[(1, 300), (1, 300), (1, 0)], |_| 1);
    let steps = rebalance(&two).unwrap();
    assert_eq!(counts(&after(&two, &steps)), [200, 200, 200]);
    assert_eq!(steps.len(), 2);
    for step in &steps {
        assert_eq!((step.slots.ranges().len(), step.to), (1, 2), "{step:?}");
    }
    assert_eq!(
        rebalance(&after(&two, &steps)).unwrap(),
        [],
        "it is even now"
    );
}

#[test]
fn what_cannot_be_even_is_left_where_it_is() {
    let seven = owners(&[(1, 3), (1, 2), (1, 2)], |_| 1);
    assert_eq!(rebalance(&seven).unwrap(), []);
    let seven = owners(&[(1, 2), (1, 2), (1, 3)], |_| 1);
    assert_eq!(rebalance(&seven).unwrap(), []);
}

#[test]
fn weights_decide_and_none_means_nothing() {
    let shards = owners(&[(1, 90), (2, 0), (0, 30)], |_| 1);
    let steps = rebalance(&shards).unwrap();
    assert_eq!(counts(&after(&shards, &steps)), [40, 80, 0]);
    let nobody = owners(&[(0, 5)], |_| 1);
    assert_eq!(rebalance(&nobody), Err(NoPlan::NobodyLeft));
    let alone = owners(&[(1, 5), (0, 0)], |_| 1);
    assert_eq!(drain(&alone, 0), Err(NoPlan::NobodyLeft));
}

#[test]
fn by_bytes_the_largest_that_fit_go() {
    // 100 and 60 and many small ones: 90 are too much, so one large and some small ones go.
    let sizes = [100, 60, 10, 10, 10, 10];
    let shards = owners(&[(1, 6), (1, 0)], |slot| sizes[usize::from(slot)]);
    let steps = rebalance(&shards).unwrap();
    assert_eq!(moved(&steps), 1, "{steps:?}");
    let next = after(&shards, &steps);
    assert_eq!([next[0].size(), next[1].size()], [100, 100]);
}

#[test]
fn slots_that_are_named_go_and_those_that_are_there_stay() {
    let shards = owners(&[(1, 10), (1, 10), (1, 0)], |_| 1);
    let named: SlotSet = (5..15).map(Slot).collect();
    let steps = gather(&shards, &named, 1).unwrap();
    assert_eq!(moved(&steps), 5);
    assert_eq!(counts(&after(&shards, &steps)), [5, 15, 0]);
    let unowned: SlotSet = (15..25).map(Slot).collect();
    let missing = (20..25).map(Slot).collect();
    assert_eq!(gather(&shards, &unowned, 0), Err(NoPlan::Unowned(missing)));
}

fn shards() -> impl Strategy<Value = Vec<(u32, usize)>> {
    prop::collection::vec((0_u32..5, 0_usize..60), 1..8)
}

proptest! {
    #[test]
    fn by_slots_every_shard_ends_within_one_slot_of_its_share_with_the_fewest_moves(
        shards in shards()
    ) {
        let weights: u64 = shards.iter().map(|(weight, _)| u64::from(*weight)).sum();
        prop_assume!(weights > 0);
        let before = owners(&shards, |_| 1);
        let steps = rebalance(&before).unwrap();
        let next = after(&before, &steps);
        let all: usize = counts(&before).iter().sum();
        let mut least = 0;
        for (owner, (weight, had)) in next.iter().zip(&shards) {
            let share = all as f64 * f64::from(*weight) / weights as f64;
            let has = owner.slots.len() as f64;
            prop_assert!((has - share).abs() < 1.0, "{has} of {share}");
            // Whoever has more than its share rounded up must give at least that.
            least += had.saturating_sub(share.ceil() as usize);
        }
        let gives: BTreeSet<usize> = steps.iter().map(|step| step.from).collect();
        let gets: BTreeSet<usize> = steps.iter().map(|step| step.to).collect();
        prop_assert!(gives.is_disjoint(&gets), "nobody both gives and gets: {steps:?}");
        let lacks: usize = shards.iter().map(|(weight, had)| {
            let share = all as f64 * f64::from(*weight) / weights as f64;
            (share.floor() as usize).saturating_sub(*had)
        }).sum();
        // The fewest: as much as must leave, or as much as must come, whichever is more.
        prop_assert_eq!(moved(&steps), least.max(lacks), "{:?}", steps);
        prop_assert_eq!(rebalance(&next).unwrap(), vec![]);
    }

    #[test]
    fn by_bytes_no_slot_is_left_that_would_bring_two_shards_nearer_to_their_shares(
        shards in shards(),
        sizes in prop::collection::vec(0_u64..1_000, 480),
    ) {
        prop_assume!(shards.iter().any(|(weight, _)| *weight > 0));
        let before = owners(&shards, |slot| sizes[usize::from(slot)]);
        let steps = rebalance(&before).unwrap();
        let next = after(&before, &steps);
        let shares = super::shares(&before).unwrap();
        let over = |at: usize| next[at].size().saturating_sub(shares[at]);
        let under = |at: usize| shares[at].saturating_sub(next[at].size());
        for from in 0..next.len() {
            for to in 0..next.len() {
                let room = over(from).min(under(to));
                let fits = next[from].slots.values().any(|size| (1..=room).contains(size));
                prop_assert!(!fits, "from {from} to {to}: {room}");
            }
            // Nobody ends further away than it was.
            let was = before[from].size().abs_diff(shares[from]);
            prop_assert!(over(from) + under(from) <= was);
        }
    }

    #[test]
    fn a_drained_shard_ends_empty_and_the_others_as_even_as_what_they_had_allows(
        shards in shards(),
        sizes in prop::collection::vec(0_u64..1_000, 480),
        by_bytes in any::<bool>(),
    ) {
        let from = 0;
        prop_assume!(shards[1..].iter().any(|(weight, _)| *weight > 0));
        let before = owners(&shards, |slot| match by_bytes {
            true => sizes[usize::from(slot)],
            false => 1,
        });
        let steps = drain(&before, from).unwrap();
        let next = after(&before, &steps);
        prop_assert!(next[from].slots.is_empty());
        prop_assert_eq!(moved(&steps), before[from].slots.len(), "nothing else moves");
        for step in &steps {
            prop_assert_eq!(step.from, from);
            let Owner { weight, .. } = next[step.to];
            prop_assert!(weight > 0);
            // Whoever got a slot was not fuller before its last one than any other is now.
            let largest = step.slots.iter().map(|slot| next[step.to].slots[&slot]).max().unwrap();
            let smallest = step.slots.iter().map(|slot| next[step.to].slots[&slot]).min().unwrap();
            let fullness = |size: u64, weight: u32| size as f64 / f64::from(weight);
            let mine = fullness(next[step.to].size() - smallest, weight);
            for (other, owner) in next.iter().enumerate().skip(1) {
                if owner.weight > 0 && other != step.to {
                    let bound = fullness(owner.size() + largest, owner.weight) + 1e-6;
                    prop_assert!(mine <= bound, "{mine} {bound}");
                }
            }
        }
    }
}
