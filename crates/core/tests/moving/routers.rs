//! Two routers: one knows everything at once, the other one nothing in time.

use freehold_core::SlotState;

use crate::{
    guards::{Guard, Guards},
    system::{Side, System},
};

/// What the late router believes of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Belief {
    pub(crate) side: Side,
    pub(crate) server: u8,
    pub(crate) stamp: u8,
    pub(crate) state: SlotState,
}

/// The state in which a router takes a shard to accept writes, if it does.
fn writable(guards: Guards, state: Option<SlotState>) -> Option<SlotState> {
    let incoming = state == Some(SlotState::Incoming) && !guards.holds(Guard::IncomingIsNoClaim);
    state.filter(|state| state.is_writable() || incoming)
}

/// What the late router learns when it looks at a shard.
pub(crate) fn look(guards: Guards, system: &System, side: Side) -> Option<Belief> {
    let shard = system.shard(side);
    let state = writable(guards, shard.master.state())?;
    shard.is_adopted().then_some(Belief {
        side,
        server: shard.master.server,
        stamp: shard.master.stamp,
        state,
    })
}

/// The write of a router with this belief, if the fence lets it through. Whether it logs its key is
/// the router's belief, too.
pub(crate) fn write(guards: Guards, system: &System, belief: Belief) -> Option<System> {
    let shard = system.shard(belief.side);
    let same_server = shard.master.server == belief.server;
    let same_stamp = shard.master.stamp == belief.stamp;
    // The counter alone, where stamps are counters.
    let agrees = same_stamp && (same_server || !guards.holds(Guard::StampsAreRandom));
    let passes = agrees || !guards.holds(Guard::WriteProvesTheFence);
    if !shard.is_adopted() || !passes {
        return None;
    }
    let mut next = system.clone();
    next.write(belief.side, belief.state == SlotState::Outgoing);
    Some(next)
}
