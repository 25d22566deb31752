//! Rows on a master that does not own their slot.

use std::{collections::BTreeMap, time::Duration};

use freehold_core::{ShardClaims, Slot, SlotState};
use freehold_storage::{AuditConnection, StorageError, audit::Occupied};
use tokio::time::sleep;

use super::cluster::{Leader, claims};

/// Slots that are told of at most.
const STRAYS_MAX: usize = 1_000;

/// How often rows that should not be there are looked at again, and the pause in between: those of a
/// slot that was given away are deleted by and by.
const LOOKS: usize = 3;

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
    for _ in 1..LOOKS {
        if seen.is_empty() {
            break;
        }
        sleep(LOOK_PAUSE).await;
        let now = claims(leader.server).await?;
        let mut still = BTreeMap::new();
        for (slot, before) in seen {
            if may_have_rows(&now, slot) {
                continue;
            }
            // The same rows: what is being deleted loses its first one.
            let found = connection.occupied(slot, slot).await?;
            if found.as_ref() == Some(&before) {
                still.insert(slot, before);
            }
        }
        seen = still;
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

fn state_of(claims: &ShardClaims, slot: Slot) -> Option<SlotState> {
    let rows = &claims.claims;
    let index = rows.binary_search_by_key(&slot, |claim| claim.slot).ok()?;
    Some(rows[index].state)
}
