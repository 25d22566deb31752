//! Rows on a master that does not own their slot.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use freehold_core::{ShardClaims, Slot, SlotClaim, SlotState};
use freehold_storage::{AuditConnection, StorageError, audit::Occupied};
use tokio::time::sleep;

use super::cluster::{Leader, claims};

/// Slots that are told of at most.
const STRAYS_MAX: usize = 1_000;

/// How many looks in a row have to show the same rows, and the pause in between: those of slots that were
/// given away are deleted by and by, once the last slot of their batch is.
const LOOKS: usize = 3;

/// Looks at most: what goes on for longer is for the next audit.
const LOOKS_MAX: usize = 150;

/// See [`LOOKS`].
const LOOK_PAUSE: Duration = Duration::from_secs(2);

/// A slot with rows on a master that does not own it, where nothing deletes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stray {
    pub(crate) slot: Slot,
    /// At least so many.
    pub(crate) rows: u64,
    /// Whether the shard owned it once.
    pub(crate) was_given_away: bool,
}

/// Looks through the slots that are not the leader's own.
pub(crate) async fn find(leader: &Leader<'_>) -> Result<Vec<Stray>, StorageError> {
    let mut connection = leader.server.connect_audit().await?;
    let mut seen = occupied(&mut *connection, &leader.claims).await?;
    let mut alike = 1;
    for _ in 1..LOOKS_MAX {
        if seen.is_empty() || alike == LOOKS {
            break;
        }
        sleep(LOOK_PAUSE).await;
        let now = claims(leader.server).await?;
        let under_way = peers_of_moves(&now);
        let (mut still, mut changes) = (BTreeMap::new(), false);
        for (slot, before) in seen {
            let went_to = claim_of(&now, slot).and_then(|claim| claim.peer.as_deref());
            if may_have_rows(&now, slot) || went_to.is_some_and(|peer| under_way.contains(peer)) {
                continue;
            }
            // What is being deleted loses its first row.
            let found = connection.occupied(slot, slot).await?;
            changes |= found.as_ref() != Some(&before);
            still.extend(found.map(|found| (slot, found)));
        }
        seen = still;
        alike = if changes { 1 } else { alike + 1 };
    }
    if alike < LOOKS {
        return Ok(Vec::new());
    }
    let given = |slot| state_of(&leader.claims, slot) == Some(SlotState::Gone);
    let strays = seen.into_values();
    Ok(strays
        .map(|found| Stray {
            slot: found.slot,
            rows: found.rows,
            was_given_away: given(found.slot),
        })
        .collect())
}

async fn occupied(
    connection: &mut dyn AuditConnection,
    claims: &ShardClaims,
) -> Result<BTreeMap<Slot, Occupied>, StorageError> {
    let mut seen = BTreeMap::new();
    let mut owned = vec![false; Slot::all().count()];
    for claim in &claims.claims {
        owned[claim.slot.index()] = may_have_rows(claims, claim.slot);
    }
    for gap in super::owners::ranges(Slot::all().filter(|slot| !owned[slot.index()])) {
        let mut first = *gap.start();
        while let Some(found) = connection.occupied(Slot(first), Slot(*gap.end())).await? {
            let slot = found.slot;
            seen.insert(slot, found);
            match slot.0.checked_add(1) {
                Some(next) if slot.0 < *gap.end() && seen.len() < STRAYS_MAX => first = next,
                _ => break,
            }
        }
    }
    Ok(seen)
}

/// Whether the shard owns the slot or is being sent it.
fn may_have_rows(claims: &ShardClaims, slot: Slot) -> bool {
    let state = state_of(claims, slot);
    state.is_some_and(|state| state.is_claim() || state == SlotState::Incoming)
}

/// Shards that slots are on their way to: others of the same move may be there already, and their rows
/// stay until the last one is.
fn peers_of_moves(claims: &ShardClaims) -> BTreeSet<&str> {
    let leaving = [SlotState::Outgoing, SlotState::Fenced];
    let leaving = claims
        .claims
        .iter()
        .filter(|claim| leaving.contains(&claim.state));
    leaving.filter_map(|claim| claim.peer.as_deref()).collect()
}

fn claim_of(claims: &ShardClaims, slot: Slot) -> Option<&SlotClaim> {
    let rows = &claims.claims;
    let index = rows.binary_search_by_key(&slot, |claim| claim.slot).ok()?;
    Some(&rows[index])
}

fn state_of(claims: &ShardClaims, slot: Slot) -> Option<SlotState> {
    claim_of(claims, slot).map(|claim| claim.state)
}
