//! Adopting a promoted server, and what comes after it for slots that were on their way.
//!
//! In both packets the slots come before the fence: what may wait for locks, or fail, does so while the
//! fence is at most shared. A router that freezes with such a failure unread keeps changes of ownership
//! waiting until its connection ends, and nobody's writes.

use std::collections::BTreeMap;

use freehold_core::{Fence, NOT_COMPARED, ShardClaims, Slot};
use rand::Rng as _;

use super::{
    claims,
    session::{Session, packet, query},
    statements::fence_agrees,
};
use crate::error::StorageError;

/// Slots that one statement changes.
const SLOTS_MAX: usize = 1_024;

pub(super) async fn adopt(
    session: &mut Session,
    seen: &Fence,
    known: &Fence,
) -> Result<bool, StorageError> {
    let stamp = session.random.next_u64();
    let term = seen.term.max(known.term) + 1;
    let epoch = seen.epoch.max(known.epoch) + 1;
    // Positions stand in tokens, too, which have no line breaks.
    let position = match session.is_mariadb {
        true => "@@GLOBAL.gtid_current_pos".to_owned(),
        false => "REPLACE(@@GLOBAL.gtid_executed, '\\n', '')".to_owned(),
    };
    let ended: Vec<String> = (seen.term..term)
        .map(|ended| format!("SELECT {ended} AS term"))
        .collect();
    let as_seen = format!(
        "f.id = 1 AND f.term = {} AND f.server_id = {} AND f.stamp = {}",
        seen.term, seen.server_id, seen.stamp
    );
    // The change of the fence proves it and locks it: from there on nothing is stored under the old
    // one, and what was stored is in the position.
    let statements = [
        "BEGIN".to_owned(),
        format!(
            "UPDATE slots SET since_epoch = {NOT_COMPARED} \
             WHERE state IN ('outgoing', 'fenced') \
             AND (SELECT 1 FROM shard f WHERE {as_seen} LOCK IN SHARE MODE) = 1"
        ),
        format!(
            "UPDATE shard f SET f.term = {term}, f.epoch = {epoch}, f.server_id = @@server_id, \
             f.stamp = {stamp} WHERE {as_seen}"
        ),
        format!(
            "REPLACE INTO terms (term, server_id, position) \
             SELECT ended.term, {}, {position} FROM shard f CROSS JOIN ({}) AS ended \
             WHERE f.id = 1 AND f.stamp = {stamp} AND f.term = {term}",
            seen.server_id,
            ended.join(" UNION ALL ")
        ),
        "COMMIT".to_owned(),
    ];
    change(session, &statements, 2).await
}

/// Runs a packet that begins with BEGIN, changes the fence at this index, and ends with COMMIT. Answers
/// whether the fence was as it was thought to be.
async fn change(
    session: &mut Session,
    statements: &[String],
    fence_index: usize,
) -> Result<bool, StorageError> {
    let commit_index = statements.len() - 1;
    match packet(&mut session.conn, statements).await {
        Ok(answers) => Ok(answers[fence_index].affected == 1),
        // Before COMMIT it ends with the connection.
        Err(failure)
            if failure
                .answered
                .is_none_or(|answered| answered < commit_index) =>
        {
            Err(failure.of_write_at(fence_index))
        }
        Err(failure) => Err(failure.of_write_at(commit_index)),
    }
}

pub(super) async fn stop_moves_of(
    session: &mut Session,
    slots: &[(Slot, u64)],
) -> Result<ShardClaims, StorageError> {
    let mut by_epoch: BTreeMap<u64, Vec<Slot>> = BTreeMap::new();
    for (slot, slot_epoch) in slots {
        by_epoch.entry(*slot_epoch).or_default().push(*slot);
    }
    for (slot_epoch, slots) in by_epoch {
        for slots in slots.chunks(SLOTS_MAX) {
            let statement = format!(
                "UPDATE slots SET attempt = {} WHERE slot IN ({}) AND state = 'incoming' \
                 AND slot_epoch > {slot_epoch} \
                 AND (SELECT 1 FROM shard f WHERE f.id = 1 AND f.server_id = @@server_id \
                 LOCK IN SHARE MODE) = 1",
                session.random.next_u64(),
                list(slots)
            );
            let drawn = query(&mut session.conn, statement).await;
            drawn.map_err(|failure| failure.of_write_at(0))?;
        }
    }
    let slots: Vec<Slot> = slots.iter().map(|(slot, _)| *slot).collect();
    claims::claims_where(session, &format!("s.slot IN ({})", list(&slots))).await
}

pub(super) async fn serve_compared(
    session: &mut Session,
    seen: &Fence,
    slots: &[Slot],
) -> Result<bool, StorageError> {
    let stamp = session.random.next_u64();
    let as_seen = fence_agrees(seen.stamp, seen.server_id);
    let mut statements = vec!["BEGIN".to_owned()];
    // Every change of a state draws a stamp, so the states are those that were compared.
    statements.extend(slots.chunks(SLOTS_MAX).map(|slots| {
        format!(
            "UPDATE slots SET since_epoch = (SELECT f.epoch + 1 FROM shard f WHERE f.id = 1) \
             WHERE slot IN ({}) AND since_epoch = {NOT_COMPARED} \
             AND (SELECT 1 FROM shard f WHERE {as_seen} LOCK IN SHARE MODE) = 1",
            list(slots)
        )
    }));
    let fence_index = statements.len();
    statements.push(format!(
        "UPDATE shard f SET f.epoch = f.epoch + 1, f.stamp = {stamp} WHERE {as_seen}"
    ));
    statements.push("COMMIT".to_owned());
    change(session, &statements, fence_index).await
}

fn list(slots: &[Slot]) -> String {
    let slots: Vec<String> = slots.iter().map(|slot| slot.0.to_string()).collect();
    slots.join(",")
}
