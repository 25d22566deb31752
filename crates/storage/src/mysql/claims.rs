//! What a server says of its slots: the fence and the slot rows in one snapshot.

use freehold_core::{ShardClaims, ShardIdentity, Slot, SlotClaim, SlotState};
use mysql_async::Row as SqlRow;

use super::{
    decode::{ShownFence, column, text},
    error::unexpected,
    read::no_fence,
    session::{Session, query_each},
    statements::FENCE,
};
use crate::error::StorageError;

/// The columns of an identity.
pub(super) const IDENTITY: &str = "f.name, f.cluster_id, f.schema_version";

pub(super) async fn claims(
    session: &mut Session,
    above_epoch: u64,
) -> Result<ShardClaims, StorageError> {
    claims_where(session, &format!("s.since_epoch > {above_epoch}")).await
}

/// The rows for which `condition` holds; the fence in any case.
pub(super) async fn claims_where(
    session: &mut Session,
    condition: &str,
) -> Result<ShardClaims, StorageError> {
    let statement = format!(
        "SELECT {FENCE}, {IDENTITY}, s.slot, s.state, s.slot_epoch, s.peer, s.since_epoch \
         FROM shard f LEFT JOIN slots s ON {condition} WHERE f.id = 1"
    );
    let mut head = None;
    // What a row takes in the driver's hands is many times what is kept of it, so no more than one is
    // there at a time: a shard may have all slots.
    let mut claims: Vec<SlotClaim> = Vec::new();
    query_each(&mut session.conn, &statement, |mut row| {
        if head.is_none() {
            head = Some((ShownFence::decode(&mut row, 0)?, identity(&mut row, 5)?));
        }
        claims.extend(claim(row)?);
        Ok(())
    })
    .await?;
    let (shown, identity) = head.ok_or_else(no_fence)?;
    claims.sort_unstable_by_key(|claim| claim.slot);
    claims.shrink_to_fit();
    Ok(ShardClaims {
        identity,
        answered_by: shown.answered_by,
        fence: shown.fence,
        claims,
    })
}

/// Reads [`IDENTITY`]'s columns, from column `first` on.
pub(super) fn identity(row: &mut SqlRow, first: usize) -> Result<ShardIdentity, StorageError> {
    Ok(ShardIdentity {
        name: text(row, first, "the shard's name")?,
        cluster_id: column(row, first + 1, "the cluster's id")?,
        schema_version: column(row, first + 2, "the schema's version")?,
    })
}

fn claim(mut row: SqlRow) -> Result<Option<SlotClaim>, StorageError> {
    let slot: Option<u16> = column(&mut row, 8, "a slot")?;
    // Only the fence: no row is above the epoch.
    let Some(slot) = slot else { return Ok(None) };
    let state = text(&mut row, 9, "a slot's state")?;
    let peer: Option<Vec<u8>> = column(&mut row, 11, "a slot's peer")?;
    Ok(Some(SlotClaim {
        slot: Slot(slot),
        state: SlotState::parse(&state).ok_or_else(|| unexpected("a slot's state"))?,
        slot_epoch: column(&mut row, 10, "a slot's epoch")?,
        peer: peer.map(|peer| String::from_utf8_lossy(&peer).into()),
        since_epoch: column(&mut row, 12, "a slot's epoch")?,
    }))
}
