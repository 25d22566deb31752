//! Whether there is a way forward: once nothing else happens any more, whoever takes the slot over
//! brings it to one owner, and leaves nothing behind.

use freehold_core::{SlotState, moving::Aim};

use crate::{
    explore::{Event, Moving},
    guards::Guards,
    mover::Next,
    system::{Side, System},
};

/// More than any way forward takes.
const EVENTS_MAX: usize = 200;

pub(crate) fn is_incoming(system: &System, side: Side) -> bool {
    system.tables(side).state() == Some(SlotState::Incoming)
        && system.tables(side.other()).state() == Some(SlotState::Gone)
}

/// Whether a move and a cancel both come to their end.
pub(crate) fn is_possible(model: &Moving, system: &System) -> bool {
    // Whatever led here: from here on everybody keeps to the protocol.
    let model = &Moving {
        guards: Guards::ALL,
        ..*model
    };
    [Aim::Move, Aim::Cancel].into_iter().all(|aim| {
        let mut ended = system.clone();
        // The end of the move before, if a failover took it.
        settle(model, &mut ended);
        if is_incoming(&ended, Side::A) {
            run(model, &mut ended, aim, Side::B);
        }
        run(model, &mut ended, aim, Side::A);
        is_settled(&ended, aim)
    })
}

/// Replication catches up, and promoted servers are adopted.
fn settle(model: &Moving, system: &mut System) {
    for side in Side::BOTH.into_iter().chain(Side::BOTH) {
        while let Some(next) = [Event::StopPeer(side), Event::Adopt(side)]
            .into_iter()
            .find_map(|event| model.happen(system, event).filter(|next| next != system))
        {
            *system = next;
        }
        system.shards[side.index()].follows = true;
        system.catch_up(side);
    }
}

fn run(model: &Moving, system: &mut System, aim: Aim, source: Side) {
    let start = model.happen(system, Event::Start(0, aim, source));
    *system = start.expect("a mover may always start");
    for _ in 0..EVENTS_MAX {
        system.rename(model.guards);
        settle(model, system);
        if system.movers[0].next == Next::Idle {
            return;
        }
        if let Some(next) = model.happen(system, Event::Step(0)) {
            *system = next;
        }
    }
}

fn is_settled(system: &System, aim: Aim) -> bool {
    let [a, b] = Side::BOTH.map(|side| system.tables(side));
    let states = (a.state(), b.state());
    let moved = states == (Some(SlotState::Gone), Some(SlotState::Owned));
    let stayed = matches!(
        states,
        (Some(SlotState::Owned), None | Some(SlotState::Gone))
    );
    let (owner, other) = if moved { (b, a) } else { (a, b) };
    let nothing_left = other.value == 0 && a.logged == 0 && b.logged == 0;
    nothing_left && owner.value == system.truth && (moved || (stayed && aim == Aim::Cancel))
}
