use proptest::prelude::*;

use super::*;
use crate::claims::ShardIdentity;

fn claim(slot: u16, state: SlotState, slot_epoch: u64) -> SlotClaim {
    SlotClaim {
        slot: Slot(slot),
        state,
        slot_epoch,
        peer: None,
        since_epoch: 1,
    }
}

fn snapshot(epoch: u64, claims: Vec<SlotClaim>) -> ShardClaims {
    let identity = ShardIdentity {
        name: "s".into(),
        cluster_id: 1,
        schema_version: 1,
    };
    let fence = Fence {
        server_id: 1,
        stamp: epoch,
        term: 1,
        epoch,
    };
    ShardClaims {
        identity,
        answered_by: 1,
        fence,
        claims,
    }
}

impl ShardMap {
    fn with_changes(&self, shard: ShardId, snapshot: ShardClaims) -> Self {
        self.with_snapshot(shard, snapshot, Extent::Changes)
    }
}

fn owner(shard: u16, state: SlotState) -> Route {
    Route::Owner {
        shard: ShardId(shard),
        state,
    }
}

#[test]
fn before_any_shard_was_reached_no_slot_is_served() {
    let map = ShardMap::new(["a", "b"]);
    assert!(Slot::all().all(|slot| map.route(slot) == Route::Unowned));
}

#[test]
fn all_slots_of_a_shard_depart_from_the_server_that_led_it() {
    let owned = |slot| claim(slot, SlotState::Owned, 1);
    let map = ShardMap::new(["a", "b"])
        .with_changes(ShardId(0), snapshot(1, vec![owned(5), owned(6)]))
        .with_changes(ShardId(1), snapshot(1, vec![owned(7)]));
    assert_eq!(map.shard(ShardId(0)).leader, 0);
    let next = map.with_leader(ShardId(0), 2);
    assert!(next.generation() > map.generation());
    assert_eq!(next.shard(ShardId(0)).leader, 2);
    assert_eq!(next.route(Slot(5)), map.route(Slot(5)));
    let departed = BTreeMap::from([(ShardId(0), vec![Slot(5), Slot(6)])]);
    assert_eq!(map.departures(&next), departed);
}

#[test]
fn departures_are_the_slots_that_an_owner_lost_to_whom_ever() {
    let owned = |slot, slot_epoch| claim(slot, SlotState::Owned, slot_epoch);
    let first = snapshot(1, vec![owned(5, 1), owned(6, 1), owned(7, 1), owned(8, 1)]);
    let before = ShardMap::new(["a", "b"]).with_changes(ShardId(0), first);
    assert!(before.departures(&before).is_empty());
    // To another shard, to nobody, to both; the last one stays, fenced.
    let taken = before.with_changes(ShardId(1), snapshot(1, vec![owned(5, 2), owned(7, 1)]));
    let gone = vec![claim(6, SlotState::Gone, 2), claim(8, SlotState::Fenced, 1)];
    let next = taken.with_changes(ShardId(0), snapshot(2, gone));
    let slots = vec![Slot(5), Slot(6), Slot(7)];
    assert_eq!(before.departures(&next), [(ShardId(0), slots)].into());
    assert!(next.generation() > taken.generation() && taken.generation() > before.generation());
}

#[test]
fn a_slot_that_was_given_away_has_a_successor_and_no_owner() {
    let gone = |slot_epoch, peer: &str| SlotClaim {
        peer: Some(peer.into()),
        ..claim(7, SlotState::Gone, slot_epoch)
    };
    let map = ShardMap::new(["a", "b", "c"])
        .with_changes(ShardId(1), snapshot(9, vec![gone(3, "c")]))
        .with_changes(ShardId(0), snapshot(5, vec![gone(2, "b")]));
    assert_eq!(map.route(Slot(7)), Route::Unowned);
    assert_eq!(map.successor(Slot(7)), Some("c"), "the last one counts");
    assert_eq!(map.successor(Slot(8)), None);
}

#[test]
fn of_two_claims_the_higher_slot_epoch_wins_in_either_order() {
    let (old, new) = (
        snapshot(5, vec![claim(7, SlotState::Owned, 1)]),
        snapshot(9, vec![claim(7, SlotState::Owned, 2)]),
    );
    let map = ShardMap::new(["a", "b"]);
    let forwards = map
        .with_changes(ShardId(0), old.clone())
        .with_changes(ShardId(1), new.clone());
    let backwards = map
        .with_changes(ShardId(1), new)
        .with_changes(ShardId(0), old);
    assert_eq!(forwards.route(Slot(7)), owner(1, SlotState::Owned));
    assert_eq!(backwards.route(Slot(7)), owner(1, SlotState::Owned));
}

#[test]
fn two_claims_of_one_slot_epoch_are_a_conflict_that_ends_when_one_gives_way() {
    let claimed = snapshot(1, vec![claim(7, SlotState::Owned, 1)]);
    let map = ShardMap::new(["a", "b", "c"])
        .with_changes(ShardId(0), claimed.clone())
        .with_changes(ShardId(2), claimed);
    assert!(matches!(map.route(Slot(7)), Route::Conflict { .. }));
    assert!(!map.serves(ShardId(0), Slot(7), false));
    let settled = map.with_changes(ShardId(0), snapshot(2, vec![claim(7, SlotState::Gone, 2)]));
    assert_eq!(settled.route(Slot(7)), owner(2, SlotState::Owned));
}

#[test]
fn incoming_is_never_a_claim_and_fenced_takes_no_writes() {
    let map = ShardMap::new(["a", "b"])
        .with_changes(
            ShardId(0),
            snapshot(1, vec![claim(7, SlotState::Fenced, 1)]),
        )
        .with_changes(
            ShardId(1),
            snapshot(1, vec![claim(7, SlotState::Incoming, 2)]),
        );
    assert_eq!(map.route(Slot(7)), owner(0, SlotState::Fenced));
    assert!(map.serves(ShardId(0), Slot(7), false));
    assert!(!map.serves(ShardId(0), Slot(7), true));
}

/// What `a` and `b` do for slot 7, reads and writes, when it is this to them.
fn services(a: (SlotState, u64), b: (SlotState, u64)) -> [[Service; 2]; 2] {
    let row = |(state, slot_epoch), peer: &str| SlotClaim {
        peer: Some(peer.into()),
        ..claim(7, state, slot_epoch)
    };
    let map = ShardMap::new(["a", "b"])
        .with_changes(ShardId(0), snapshot(1, vec![row(a, "b")]))
        .with_changes(ShardId(1), snapshot(1, vec![row(b, "a")]));
    let of = |shard| [false, true].map(|write| map.service(ShardId(shard), Slot(7), write));
    [of(0), of(1)]
}

#[test]
fn a_slot_that_moves_is_served_by_one_shard_or_waited_for_at_one() {
    use Service::{Elsewhere, Later, Logs, Serves};
    use SlotState::{Fenced, Gone, Incoming, Outgoing, Owned};
    let none = [Elsewhere; 2];
    let incoming = (Incoming, 2);
    assert_eq!(services((Owned, 1), incoming), [[Serves; 2], none]);
    assert_eq!(services((Outgoing, 1), incoming), [[Serves, Logs], none]);
    assert_eq!(services((Fenced, 1), incoming), [[Serves, Later], none]);
    assert_eq!(services((Gone, 2), incoming), [none, [Later; 2]]);
    assert_eq!(services((Gone, 2), (Owned, 2)), [none, [Serves; 2]]);
}

#[test]
fn shards_hand_over_from_the_fence_to_the_claim_of_the_new_owner() {
    let gone = SlotClaim {
        peer: Some("b".into()),
        ..claim(7, SlotState::Gone, 2)
    };
    let map = ShardMap::new(["a", "b"]);
    let hands_over = |map: &ShardMap| [0, 1].map(|shard| map.is_handing_over(ShardId(shard)));
    let owned = map.with_changes(ShardId(0), snapshot(1, vec![claim(7, SlotState::Owned, 1)]));
    assert_eq!(hands_over(&owned), [false, false]);
    let fenced = owned.with_changes(
        ShardId(0),
        snapshot(2, vec![claim(7, SlotState::Fenced, 1)]),
    );
    assert_eq!(hands_over(&fenced), [true, false]);
    let given = fenced.with_changes(ShardId(0), snapshot(3, vec![gone]));
    assert_eq!(hands_over(&given), [false, true]);
    assert_eq!(given.heirs_of(ShardId(0)), [ShardId(1)].into());
    let claimed = given.with_changes(ShardId(1), snapshot(1, vec![claim(7, SlotState::Owned, 2)]));
    assert_eq!(hands_over(&claimed), [false, false]);
    assert!(claimed.heirs_of(ShardId(0)).is_empty());
}

#[test]
fn a_late_snapshot_does_not_bring_the_past_back() {
    let map = ShardMap::new(["a", "b"])
        .with_changes(ShardId(0), snapshot(5, vec![claim(7, SlotState::Gone, 2)]))
        .with_changes(ShardId(0), snapshot(4, vec![claim(7, SlotState::Owned, 1)]));
    assert_eq!(map.route(Slot(7)), Route::Unowned);
    assert_eq!(map.shard(ShardId(0)).fence.unwrap().epoch, 5);
}

#[test]
fn a_snapshot_of_changed_rows_keeps_the_others() {
    let first = vec![
        claim(1, SlotState::Owned, 1),
        claim(2, SlotState::Owned, 1),
        claim(3, SlotState::Owned, 1),
    ];
    let map = ShardMap::new(["a"])
        .with_changes(ShardId(0), snapshot(1, first))
        .with_changes(ShardId(0), snapshot(2, vec![claim(2, SlotState::Gone, 2)]));
    assert_eq!(map.slots_owned(ShardId(0)), 2);
    assert_eq!(
        map.shard(ShardId(0)).claim(Slot(2)).unwrap().state,
        SlotState::Gone
    );
    assert_eq!(map.shard(ShardId(0)).claim(Slot(4)), None);
}

#[test]
fn a_whole_snapshot_forgets_rows_that_are_not_there_any_more() {
    let map = ShardMap::new(["a", "b"])
        .with_changes(ShardId(0), snapshot(1, vec![claim(1, SlotState::Owned, 1)]))
        .with_changes(ShardId(1), snapshot(1, vec![claim(1, SlotState::Owned, 2)]));
    assert_eq!(map.route(Slot(1)), owner(1, SlotState::Owned));
    let without = snapshot(2, vec![claim(2, SlotState::Owned, 1)]);
    let map = map.with_snapshot(ShardId(1), without, Extent::Whole);
    assert_eq!(map.route(Slot(1)), owner(0, SlotState::Owned));
    assert_eq!(map.route(Slot(2)), owner(1, SlotState::Owned));
}

proptest! {
    /// Whatever the masters say, in whatever order it arrives, a map names the claim of the
    /// highest slot_epoch, or a conflict, and never a shard that does not claim the slot.
    #[test]
    fn routes_are_what_a_look_at_all_claims_says(
        news in prop::collection::vec((0_u16..3, 0_u16..4, 0_usize..5, 1_u64..4), 0..40)
    ) {
        let mut map = ShardMap::new(["a", "b", "c"]);
        for (epoch, (shard, slot, state, slot_epoch)) in (1..).zip(news) {
            let row = claim(slot, SlotState::ALL[state], slot_epoch);
            map = map.with_changes(ShardId(shard), snapshot(epoch, vec![row]));
        }
        for slot in (0..4).map(Slot) {
            let mut claims: Vec<_> = map
                .shards()
                .filter_map(|(id, view)| view.claim(slot).map(|claim| (claim, id)))
                .filter(|(claim, _)| claim.state.is_claim())
                .collect();
            claims.sort_by_key(|(claim, _)| std::cmp::Reverse(claim.slot_epoch));
            match (map.route(slot), claims.as_slice()) {
                (Route::Unowned, []) => {}
                (Route::Owner { shard, state }, [(best, id), rest @ ..]) => {
                    prop_assert_eq!((shard, state), (*id, best.state));
                    prop_assert!(rest.first().is_none_or(|(next, _)| next.slot_epoch < best.slot_epoch));
                }
                (Route::Conflict { .. }, [(best, _), (next, _), ..]) => {
                    prop_assert_eq!(best.slot_epoch, next.slot_epoch);
                }
                (route, claims) => prop_assert!(false, "{route:?} for {claims:?}"),
            }
        }
    }
}

#[test]
fn a_shard_may_leave_once_nobody_needs_it() {
    let (a, b, c) = (ShardId(0), ShardId(1), ShardId(2));
    let all = |state| Slot::all().map(|slot| claim(slot.0, state, 1)).collect();
    let map = ShardMap::new(["a", "b"]);
    assert!(map.obstacle_to_removal(b).is_some(), "it may own anything");
    let map = map.with_changes(a, snapshot(1, all(SlotState::Owned)));
    assert_eq!(map.obstacle_to_removal(b), None, "others own every slot");
    assert!(
        map.obstacle_to_removal(a)
            .is_some_and(|why| why.contains("65536"))
    );
    let coming = snapshot(1, vec![claim(5, SlotState::Incoming, 2)]);
    let receives = map.with_changes(b, coming);
    assert!(
        receives
            .obstacle_to_removal(b)
            .is_some_and(|why| why.contains("on their way"))
    );
    let mut gone = claim(5, SlotState::Gone, 2);
    gone.peer = Some("b".into());
    let given = map.with_changes(a, snapshot(2, vec![gone]));
    assert!(
        given.obstacle_to_removal(b).is_some(),
        "it was given a slot"
    );

    let without = map.without_shard(b);
    assert!(without.shards().map(|(id, _)| id).eq([a]));
    let grown = without.with_shard("b");
    assert!(
        grown.shards().map(|(id, _)| id).eq([a, c]),
        "places are not given again"
    );
    assert!(grown.generation() > map.generation());
    let owned = snapshot(1, vec![claim(5, SlotState::Owned, 2)]);
    assert_eq!(
        grown.with_changes(c, owned).route(Slot(5)),
        owner(2, SlotState::Owned)
    );
}
