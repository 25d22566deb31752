//! The protocol by which a slot moves, checked by trying every order of events.
//!
//! One slot with one key; two shards with a replica each; two routers, one of them late by any time;
//! two movers that freeze and die anywhere, and whoever takes over from them; failovers that lose
//! what the replica did not have (by up to four transactions); the former master that comes back,
//! and may lead again; cancels. The movers decide and change rows by `freehold_core::moving` alone.
//!
//! How much may happen is bounded. A larger part than the tests' own:
//!
//! ```sh
//! FREEHOLD_MODEL=2,2,2 cargo nextest run -p freehold-core --run-ignored only
//! ```
//!
//! where the numbers are writes, failovers, and starts of movers.
//!
//! **What it taught.** A copy that is bound to the servers and terms it began with is not enough: a
//! shard may fail over twice, and its first master lead again from before the adoption in between,
//! with the very term, stamp and server that the mover knows, and without rows that were copied.
//! So a mover also notes the position of what it last read or wrote on each side, and begins again
//! where a master does not have it any more ([`Guard::SeesLostPositions`]).
//!
//! Left out: time (a wait ends when what it waits for is there, or is given up at any moment),
//! scans, reads of replicas, and servers that will never be promoted.

mod explore;
mod guards;
mod mover;
mod recovery;
mod routers;
mod system;

use std::num::NonZero;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    explore::{Bounds, Moving},
    guards::{Guard, Guards},
};

const fn bounds(writes: u8, failovers: u8, starts: u8) -> Bounds {
    Bounds {
        writes,
        failovers,
        of_a_only: false,
        starts,
    }
}

const fn bounds_of_a(writes: u8, failovers: u8, starts: u8) -> Bounds {
    Bounds {
        of_a_only: true,
        ..bounds(writes, failovers, starts)
    }
}

/// What breaks, with the events that lead there; nothing if nothing does.
fn check(bounds: Bounds, without: &'static [Guard]) -> Option<String> {
    let model = Moving {
        bounds,
        guards: Guards { without },
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let builder = model.checker().threads(threads);
    let checker = builder.finish_when(HasDiscoveries::Any).spawn_bfs().join();
    eprintln!(
        "{bounds:?} without {without:?}: {} states, {} transitions",
        checker.unique_state_count(),
        checker.state_count(),
    );
    let (name, path) = checker.discoveries().into_iter().next()?;
    Some(format!("{name}: {:?}", path.into_actions()))
}

#[test]
fn the_protocol_holds() {
    for bounds in [
        bounds(2, 0, 3),
        bounds(2, 1, 1),
        bounds(1, 2, 1),
        bounds(1, 1, 2),
    ] {
        assert_eq!(check(bounds, &[]), None);
    }
}

/// Steps that prove state and attempt only, and leave it to the waits to see a failover; and an
/// adopter that leaves the peer alone, as the wait of step 8 allows it to.
#[test]
fn the_protocol_holds_without_its_second_guards() {
    for bounds in [bounds(2, 0, 2), bounds(2, 1, 1), bounds(1, 2, 1)] {
        let without = &[Guard::StepsProveTheTerm, Guard::AdopterStopsThePeer];
        assert_eq!(check(bounds, without), None);
    }
}

#[test]
#[ignore = "minutes to hours and many gigabytes: FREEHOLD_MODEL=WRITES,FAILOVERS,STARTS"]
fn a_larger_part_of_it_holds() {
    let wanted = std::env::var("FREEHOLD_MODEL").unwrap_or_else(|_| "2,1,2".to_owned());
    let numbers: Vec<u8> = wanted
        .split(',')
        .map(|number| number.parse().expect("FREEHOLD_MODEL is three numbers"))
        .collect();
    let [writes, failovers, starts] = numbers[..] else {
        panic!("FREEHOLD_MODEL is three numbers, not {wanted}");
    };
    assert_eq!(check(bounds(writes, failovers, starts), &[]), None);
}

/// The model sees what it is there to see: without any one of its guards the protocol breaks. (The
/// term in each step is a second guard for several of them, and positions are for some, so these
/// are left out, too.)
#[test]
fn every_guard_is_needed() {
    use Guard::{SeesLostPositions as Positions, StepsProveTheTerm as Term};
    let planted: [(&'static [Guard], Bounds); 17] = [
        (&[Term, Guard::PageWritesProveTheAttempt], bounds(2, 0, 2)),
        (&[Term, Guard::AttemptsAreRandom], bounds(1, 1, 2)),
        (&[Term, Guard::StampsAreRandom], bounds_of_a(1, 1, 2)),
        (&[Term, Guard::TakesOverBeforeItDecides], bounds(2, 0, 2)),
        (&[Term, Guard::DrainsUnderTheFence], bounds(2, 0, 2)),
        (&[Term, Guard::VerifiesUnderTheFence], bounds(2, 1, 1)),
        (&[Term, Positions, Guard::SeesFailovers], bounds(2, 1, 1)),
        (&[Term, Guard::WaitsAtStart], bounds(2, 1, 1)),
        (&[Term, Guard::WaitsBeforeGivingAway], bounds(2, 1, 1)),
        (&[Term, Guard::WaitsBeforeOpening], bounds(2, 1, 1)),
        (&[Term, Guard::WaitsForWhatWasVerified], bounds(2, 1, 1)),
        (&[Term, Guard::GivesAwayBeforeItOpens], bounds(2, 0, 2)),
        (&[Term, Guard::CancelWaits], bounds(0, 1, 2)),
        (&[Term, Guard::IncomingIsNoClaim], bounds(2, 0, 2)),
        (&[Term, Guard::WriteProvesTheFence], bounds(2, 0, 2)),
        (&[Term, Guard::ForgetsOnlyWhatItRead], bounds(2, 0, 2)),
        (&[Term, Positions], bounds(1, 2, 1)),
    ];
    let unneeded: Vec<_> = planted
        .into_iter()
        .filter(|(without, bounds)| check(*bounds, without).is_none())
        .collect();
    assert!(unneeded.is_empty(), "nothing broke without {unneeded:?}");
}
