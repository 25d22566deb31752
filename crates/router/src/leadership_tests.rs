use std::time::Duration;

use freehold_storage::{Copying, GroupMember};

use super::*;

/// Fences of a shard whose first server leads term 3.
fn fence(server_id: u64, term: u64) -> Fence {
    Fence {
        server_id,
        stamp: 100 * term + server_id,
        term,
        epoch: term,
    }
}

/// The n-th server, as a replica that copies the first one and was seen read-only in term 3.
fn replica(number: u64) -> Observed {
    Observed {
        address: format!("db-{number}").into(),
        may_lead: true,
        presence: Presence::Seen(Sight {
            fence: fence(1, 3),
            server_id: number,
            part: Part {
                read_only: true,
                copying: Ok(Copying {
                    receiver_runs: true,
                    applier_runs: true,
                    ..Copying::default()
                }),
            },
            began: Instant::now(),
        }),
        read_only_in: Some(3),
        open_since: None,
    }
}

fn with(mut server: Observed, change: impl FnOnce(&mut Sight)) -> Observed {
    if let Presence::Seen(sight) = &mut server.presence {
        change(sight);
    }
    server
}

/// It was opened, and copies nothing.
fn promoted(number: u64) -> Observed {
    let server = with(replica(number), |sight| {
        sight.part.read_only = false;
        sight.part.copying = Ok(Copying::default());
    });
    Observed {
        open_since: Some(Instant::now()),
        ..server
    }
}

/// It leads a term.
fn leader(number: u64, term: u64) -> Observed {
    let server = with(promoted(number), |sight| sight.fence = fence(number, term));
    Observed {
        read_only_in: None,
        ..server
    }
}

fn gone(server: Observed) -> Observed {
    Observed {
        presence: Presence::Silent("connection refused".into()),
        ..server
    }
}

fn hanging(server: Observed) -> Observed {
    let Presence::Seen(sight) = server.presence else {
        unreachable!("it was seen");
    };
    Observed {
        presence: Presence::Hanging(sight),
        ..server
    }
}

fn after_a_while(server: Observed) -> Observed {
    with(server, |sight| sight.began += Duration::from_millis(500))
}

fn known() -> Fence {
    fence(1, 3)
}

fn automatic(servers: &[Observed]) -> Decision {
    decide(Some(&known()), servers, Adoption::Automatic)
}

fn nobody_leads(decision: &Decision) -> &str {
    match &decision.verdict {
        Verdict::Nobody(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_server_that_the_fence_names_leads_while_it_takes_writes() {
    let servers = [leader(1, 3), replica(2), gone(replica(3))];
    let decision = automatic(&servers);
    assert_eq!(decision.verdict, Verdict::Leads(0));
    assert_eq!(decision.alarms, []);
    // Whichever place it has in the config.
    let servers = [replica(2), leader(1, 3)];
    assert_eq!(automatic(&servers).verdict, Verdict::Leads(1));
    let closed = with(leader(1, 3), |sight| sight.part.read_only = true);
    // One that was closed for writes answers reads.
    assert_eq!(automatic(&[closed, replica(2)]).verdict, Verdict::Leads(0));
    assert_eq!(
        nobody_leads(&automatic(&[gone(leader(1, 3)), replica(2)])),
        "connection refused"
    );
    // A replica in the leader's place.
    assert!(nobody_leads(&automatic(&[replica(2)])).contains("not adopted: it is read-only"));
}

#[test]
fn a_promoted_replica_is_adopted_once_nothing_speaks_against_it() {
    let died = gone(leader(1, 3));
    let adopts = |server: Observed| automatic(&[died.clone(), server, replica(3)]).verdict;
    assert_eq!(adopts(promoted(2)), Verdict::Adopt(1));
    for threads in [
        Copying {
            receiver_runs: true,
            ..Copying::default()
        },
        Copying {
            applier_runs: true,
            ..Copying::default()
        },
        Copying {
            is_unapplied: true,
            ..Copying::default()
        },
    ] {
        let unfinished = with(promoted(2), |sight| sight.part.copying = Ok(threads));
        assert!(matches!(adopts(unfinished), Verdict::Nobody(_)));
    }
    let unseen = with(promoted(2), |sight| {
        sight.part.copying = Err("denied".into());
    });
    assert!(matches!(adopts(unseen), Verdict::Nobody(_)));
    assert!(matches!(adopts(replica(2)), Verdict::Nobody(_)));
    let never = Observed {
        may_lead: false,
        ..promoted(2)
    };
    assert!(matches!(adopts(never), Verdict::Nobody(_)));
}

#[test]
fn a_server_that_was_not_seen_read_only_in_this_term_is_adopted_by_hand_alone() {
    for read_only_in in [None, Some(2)] {
        let unwitnessed = Observed {
            read_only_in,
            ..promoted(2)
        };
        let servers = [gone(leader(1, 3)), unwitnessed, replica(3)];
        let decision = automatic(&servers);
        assert!(matches!(decision.verdict, Verdict::Nobody(_)));
        assert_eq!(decision.alarms.len(), 1);
        assert!(decision.alarms[0].1.contains("freehold adopt"));
        let by_hand = decide(Some(&known()), &servers, Adoption::ByHand);
        assert_eq!(by_hand.verdict, Verdict::Adopt(1));
    }
}

#[test]
fn where_the_config_says_so_a_promoted_server_waits_for_a_hand() {
    let servers = [gone(leader(1, 3)), promoted(2)];
    let waits = decide(Some(&known()), &servers, Adoption::Manual);
    assert!(nobody_leads(&waits).contains("freehold adopt"));
    let by_hand = decide(Some(&known()), &servers, Adoption::ByHand);
    assert_eq!(by_hand.verdict, Verdict::Adopt(1));
}

#[test]
fn two_servers_that_take_writes_in_one_term_are_both_left_alone() {
    // The leader is asked again first: what it said may be older than the promotion.
    let servers = [leader(1, 3), promoted(2), replica(3)];
    let decision = automatic(&servers);
    assert_eq!(decision.verdict, Verdict::Ask(0));
    let servers = [after_a_while(leader(1, 3)), promoted(2), replica(3)];
    let decision = automatic(&servers);
    assert!(nobody_leads(&decision).contains("db-1 and db-2"));
    let alarmed: Vec<usize> = decision.alarms.iter().map(|(index, _)| *index).collect();
    assert_eq!(alarmed, [0, 1]);
    // By hand neither.
    let by_hand = decide(Some(&known()), &servers, Adoption::ByHand);
    assert!(matches!(by_hand.verdict, Verdict::Nobody(_)));
    for rivals in [
        [gone(leader(1, 3)), promoted(2), promoted(3)],
        [leader(1, 4), leader(2, 4), replica(3)],
    ] {
        let decision = automatic(&rivals);
        assert!(nobody_leads(&decision).contains("none of them is served"));
        assert_eq!(decision.alarms.len(), 2);
    }
}

#[test]
fn a_leader_that_hangs_leads_until_another_one_was_promoted() {
    let servers = [hanging(leader(1, 3)), replica(2)];
    assert_eq!(automatic(&servers).verdict, Verdict::Leads(0));
    let servers = [hanging(leader(1, 3)), promoted(2)];
    assert_eq!(automatic(&servers).verdict, Verdict::Adopt(1));
}

#[test]
fn nobody_goes_back_to_a_lower_term() {
    let former = leader(1, 2);
    let decision = automatic(&[former.clone(), gone(replica(2)), gone(replica(3))]);
    assert!(matches!(decision.verdict, Verdict::Nobody(_)));
    assert!(decision.alarms[0].1.contains("former master"));
    // A replica may be the only one left that knows of the later term.
    let servers = [former.clone(), gone(leader(2, 3)), replica(3)];
    let fresh = decide(None, &servers, Adoption::Automatic);
    assert!(matches!(fresh.verdict, Verdict::Nobody(_)));
    assert_eq!(fresh.alarms[0].0, 0);
    // And the one that leads it is found whatever its place.
    let decision = automatic(&[former, leader(2, 3), replica(3)]);
    assert_eq!(decision.verdict, Verdict::Leads(1));
    assert_eq!(decision.alarms.len(), 1);
}

#[test]
fn a_former_leader_is_no_candidate_even_by_hand() {
    let former = Observed {
        read_only_in: Some(3),
        ..leader(2, 2)
    };
    let servers = [gone(leader(1, 3)), former, replica(3)];
    let decision = decide(Some(&known()), &servers, Adoption::ByHand);
    assert!(matches!(decision.verdict, Verdict::Nobody(_)));
}

#[test]
fn a_router_that_just_started_hears_everybody_first() {
    let pending = |server: Observed| Observed {
        presence: Presence::Pending,
        ..server
    };
    let fresh = |servers: &[Observed]| decide(None, servers, Adoption::Automatic).verdict;
    assert_eq!(fresh(&[pending(leader(1, 3))]), Verdict::Wait);
    let servers = [leader(1, 3), pending(replica(2)), replica(3)];
    assert_eq!(fresh(&servers), Verdict::Wait);
    let servers = [leader(1, 3), gone(replica(2)), gone(replica(3))];
    assert_eq!(fresh(&servers), Verdict::Leads(0));
    // Adopting takes a majority.
    let servers = [gone(leader(1, 3)), promoted(2), gone(replica(3))];
    assert!(matches!(fresh(&servers), Verdict::Nobody(_)));
    let servers = [gone(leader(1, 3)), promoted(2), replica(3)];
    assert_eq!(fresh(&servers), Verdict::Adopt(1));
}

#[test]
fn a_group_vouches_for_its_primary() {
    let member = |server: Observed, is_primary, has_majority| {
        let server = with(server, |sight| {
            sight.part.copying = Ok(Copying {
                group: Some(GroupMember {
                    is_primary,
                    is_online: true,
                    has_majority,
                }),
                ..Copying::default()
            });
        });
        Observed {
            read_only_in: None,
            ..server
        }
    };
    let elected = member(promoted(2), true, true);
    let servers = [
        gone(leader(1, 3)),
        elected.clone(),
        member(replica(3), false, true),
    ];
    assert_eq!(automatic(&servers).verdict, Verdict::Adopt(1));
    let cut_off = member(leader(1, 3), true, false);
    let servers = [cut_off, elected, member(replica(3), false, true)];
    assert_eq!(automatic(&servers).verdict, Verdict::Adopt(1));
    let cut_off = member(promoted(2), true, false);
    let servers = [gone(leader(1, 3)), cut_off, gone(replica(3))];
    assert!(matches!(automatic(&servers).verdict, Verdict::Nobody(_)));
}

#[test]
fn one_server_under_two_names_is_no_rival_of_itself() {
    let later = with(leader(1, 3), |sight| sight.fence.stamp += 1);
    let servers = [leader(1, 3), replica(2), later];
    assert_eq!(automatic(&servers).verdict, Verdict::Leads(0));
}
