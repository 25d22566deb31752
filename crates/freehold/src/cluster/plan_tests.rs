use freehold_core::ShardIdentity;

use super::*;

fn identity(name: &str, cluster_id: u64, schema_version: u32) -> ShardIdentity {
    ShardIdentity {
        name: name.to_owned(),
        cluster_id,
        schema_version,
    }
}

fn started(name: &str, cluster_id: u64) -> SchemaState {
    SchemaState::Started(identity(name, cluster_id, 0))
}

fn ready(name: &str, cluster_id: u64, claimed: &[RangeInclusive<u16>]) -> SchemaState {
    SchemaState::Ready {
        identity: identity(name, cluster_id, SCHEMA_VERSION),
        slots_claimed: claimed.iter().map(ExactSizeIterator::len).sum(),
        claimed: claimed.to_vec(),
    }
}

fn plan_of(states: &[SchemaState]) -> Result<Plan, PlanError> {
    let names = ["a", "b", "c"];
    let masters: Vec<Master<'_>> = states
        .iter()
        .zip(names)
        .map(|(state, shard)| Master {
            shard,
            address: "host:3306/db",
            state,
        })
        .collect();
    plan(&masters)
}

const LOW: RangeInclusive<u16> = 0..=32_767;
const HIGH: RangeInclusive<u16> = 32_768..=65_535;

#[test]
fn empty_masters_get_even_shares_of_a_new_cluster() {
    let plan = plan_of(&[SchemaState::Absent, SchemaState::Absent]).unwrap();
    assert_eq!(plan.cluster_id, None);
    let step = |share| Step {
        share,
        created: false,
        finished: false,
    };
    assert_eq!(plan.steps, [step(LOW), step(HIGH)]);
}

#[test]
fn whatever_a_crash_leaves_behind_is_gone_on_from() {
    let left_behind = [
        [started("a", 7), SchemaState::Absent],
        [SchemaState::Absent, started("b", 7)],
        [started("a", 7), started("b", 7)],
        [ready("a", 7, &[LOW]), started("b", 7)],
        [started("a", 7), ready("b", 7, &[HIGH])],
    ];
    for states in left_behind {
        let plan = plan_of(&states).unwrap();
        assert_eq!(plan.cluster_id, Some(7));
        let finished = states.map(|state| matches!(state, SchemaState::Ready { .. }));
        assert_eq!(
            plan.steps
                .iter()
                .map(|step| step.finished)
                .collect::<Vec<_>>(),
            finished
        );
    }
}

#[test]
fn a_finished_cluster_is_left_alone() {
    let error = plan_of(&[ready("a", 7, &[LOW]), ready("b", 7, &[HIGH])]).unwrap_err();
    assert_eq!(
        error,
        PlanError::Finished {
            shards: 2,
            cluster_id: 7
        }
    );
    assert!(error.to_string().contains("initialised already"), "{error}");
}

#[test]
fn a_slot_that_has_an_owner_is_never_dealt_again() {
    let others = [
        // Some of another deal, more than its share, and all there is.
        ready("a", 7, &[0..=21_844]),
        ready("a", 7, &[LOW, 40_000..=40_000]),
        ready("a", 7, &[0..=65_535]),
        ready("a", 7, &[]),
    ];
    for other in others {
        let error = plan_of(&[other, started("b", 7)]).unwrap_err();
        assert!(
            matches!(&error, PlanError::Owned { shard, .. } if shard == "a"),
            "{error}"
        );
    }
    // A shard that is added to a cluster gets slots by moving them, not by a new deal.
    let grown = [
        ready("a", 7, &[LOW]),
        ready("b", 7, &[HIGH]),
        SchemaState::Absent,
    ];
    assert!(matches!(plan_of(&grown), Err(PlanError::Owned { shard, .. }) if shard == "a"));
}

#[test]
fn databases_of_other_shards_clusters_and_versions_are_refused_by_name() {
    let swapped = plan_of(&[started("b", 7), started("a", 7)]).unwrap_err();
    assert!(
        swapped.to_string().starts_with("shard 'a' (host:3306/db)"),
        "{swapped}"
    );
    let mixed = plan_of(&[started("a", 7), started("b", 8)]).unwrap_err();
    assert!(
        matches!(&mixed, PlanError::Cluster { shard, .. } if shard == "b"),
        "{mixed}"
    );
    let newer = SchemaState::Ready {
        identity: identity("a", 7, SCHEMA_VERSION + 1),
        slots_claimed: 32_768,
        claimed: vec![LOW],
    };
    let newer = plan_of(&[newer, SchemaState::Absent]).unwrap_err();
    assert!(newer.to_string().contains("Use a newer program"), "{newer}");
}

#[test]
fn a_master_without_tables_beside_a_finished_one_is_refused() {
    let error = plan_of(&[ready("a", 7, &[LOW]), SchemaState::Absent]).unwrap_err();
    assert!(
        matches!(&error, PlanError::Vanished { shard, .. } if shard == "b"),
        "{error}"
    );
}

#[test]
fn ranges_are_told_briefly() {
    assert_eq!(ranges(&[]), "none");
    assert_eq!(ranges(&[0..=3, 9..=9]), "0-3, 9");
    let many: Vec<_> = (0..9).map(|n| n * 2..=n * 2).collect();
    assert_eq!(ranges(&many), "0, 2, 4, 6, 5 more ranges");
}

#[test]
fn a_cluster_that_moved_slots_since_is_finished_all_the_same() {
    let grown = [
        ready("a", 7, &[0..=9]),
        ready("b", 7, &[HIGH]),
        ready("c", 7, &[10..=32_767]),
    ];
    let said = plan_of(&grown);
    assert!(
        matches!(said, Err(PlanError::Finished { shards: 3, .. })),
        "{said:?}"
    );
    // Without one of its shards nobody can tell.
    let part = plan_of(&grown[..2]);
    assert!(matches!(part, Err(PlanError::Owned { .. })), "{part:?}");
}

#[test]
fn a_shard_joins_the_cluster_of_the_others_and_no_other() {
    fn master<'a>(shard: &'a str, state: &'a SchemaState) -> Master<'a> {
        Master {
            shard,
            address: "host:3306/db",
            state,
        }
    }
    let (a, b) = (ready("a", 7, &[LOW]), ready("b", 7, &[HIGH]));
    let others = [master("a", &a), master("b", &b)];
    let joins = |state: &SchemaState| join(&master("c", state), true, &others);
    for state in [SchemaState::Absent, started("c", 7)] {
        assert_eq!(joins(&state), Ok(Join { cluster_id: 7 }));
    }
    let there = joins(&ready("c", 7, &[]));
    assert!(matches!(there, Err(PlanError::Joined { slots: 0, .. })));
    for other in [started("c", 8), ready("c", 8, &[])] {
        assert!(matches!(joins(&other), Err(PlanError::Cluster { .. })));
    }
    assert!(matches!(
        joins(&started("d", 7)),
        Err(PlanError::Name { .. })
    ));
    for state in [SchemaState::Absent, started("c", 7)] {
        let full = join(&master("c", &state), false, &others);
        assert!(matches!(full, Err(PlanError::NotEmpty { .. })), "{full:?}");
    }
    let alone = join(&master("c", &SchemaState::Absent), true, &[]);
    assert!(matches!(alone, Err(PlanError::NoCluster { .. })));
    let foreign = ready("b", 9, &[HIGH]);
    let mixed = [master("a", &a), master("b", &foreign)];
    let mixed = join(&master("c", &SchemaState::Absent), true, &mixed);
    assert!(matches!(mixed, Err(PlanError::Cluster { .. })), "{mixed:?}");
}
