//! Take-overs, and changes of what slots are.

use std::fmt::Write as _;

use freehold_core::{Slot, SlotSet, moving::Change};
use rand::Rng as _;

use super::{
    super::{session::Session, statements::hex},
    proof, send,
};
use crate::{
    error::StorageError,
    moves::{Hold, Leader, MoveRun, alike},
};

/// Slots whose rows one statement writes anew: some 200 kB of text.
const SLOTS_AT_ONCE: usize = 4_096;

pub(super) async fn take_over(
    session: &mut Session,
    hold: Hold,
    run: &MoveRun,
    slots: &SlotSet,
    peer: &str,
) -> Result<Option<()>, StorageError> {
    // Each slot is taken over for itself, so several statements do.
    for part in slots.parts(SLOTS_AT_ONCE, SLOTS_AT_ONCE) {
        let text = take_over_text(hold, run, &part, peer);
        if send(session, &[text]).await?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

fn take_over_text(hold: Hold, run: &MoveRun, slots: &SlotSet, peer: &str) -> String {
    let (peer, attempt) = (name(peer), hold.attempt);
    let proof = format!("({} + {})", proof::leads(hold.leader), proof::runs(run));
    let mut text =
        "INSERT INTO slots (slot, state, slot_epoch, peer, attempt, since_epoch) VALUES "
            .to_owned();
    for (index, slot) in slots.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = match index {
            0 => write!(text, "({}", proof::proven(&proof, slot.0)),
            _ => write!(text, ", ({slot}"),
        };
        // A row that claims nothing is news to nobody: it is of no epoch.
        let _ = write!(text, ", 'gone', 0, {peer}, {attempt}, 0)");
    }
    let _ = write!(text, " ON DUPLICATE KEY UPDATE attempt = {attempt}");
    text
}

/// A shard's name, whatever characters it has.
pub(super) fn name(name: &str) -> String {
    format!("CONVERT({} USING utf8mb4)", hex(name.as_bytes()))
}

pub(super) async fn change(
    session: &mut Session,
    leader: Leader,
    changes: &[(Slot, Change<Box<str>>)],
) -> Result<Option<()>, StorageError> {
    let text = call(leader, session.random.next_u64(), changes);
    Ok(send(session, &[text]).await?.map(drop))
}

/// The call of the procedure that does it all or nothing, and holds no lock when it returns.
fn call(leader: Leader, stamp: u64, changes: &[(Slot, Change<Box<str>>)]) -> String {
    let emptied = changes.iter().filter(|(_, change)| change.finds_no_rows);
    let emptied: SlotSet = emptied.map(|(slot, _)| *slot).collect();
    let quoted = |text: String| format!("'{}'", text.replace('\'', "''"));
    format!(
        "CALL change_slots({}, {}, {stamp}, {}, {}, {})",
        leader.server_id,
        leader.term,
        quoted(slots_text(changes)),
        changes.len(),
        quoted(format!(
            "SELECT COUNT(*) INTO @freehold_rows FROM (SELECT 1 FROM store s \
             FORCE INDEX (PRIMARY) WHERE {} LIMIT 1) found",
            proof::slots_are(&emptied)
        )),
    )
}

/// The statement that changes the rows, and no row that is not as it has to be.
fn slots_text(changes: &[(Slot, Change<Box<str>>)]) -> String {
    let (mut epochs, mut picked) = (String::new(), Vec::new());
    let Some((_, first)) = changes.first() else {
        return "DO 0".to_owned();
    };
    for (slots, change) in alike(changes) {
        let slots = proof::slots_are(&slots);
        let _ = write!(epochs, " WHEN {slots} THEN {}", change.next.slot_epoch);
        if let Some(row) = &change.proves {
            picked.push(format!(
                "({slots} AND s.state = '{}' AND s.slot_epoch = {} AND s.attempt = {})",
                row.state.as_str(),
                row.slot_epoch,
                row.attempt
            ));
        }
    }
    let peer = first.next.peer.as_deref().map_or("NULL".to_owned(), name);
    format!(
        "UPDATE slots s FORCE INDEX (PRIMARY) SET s.slot_epoch = CASE{epochs} END, \
         s.state = '{}', s.peer = {peer}, s.attempt = {}, \
         s.since_epoch = (SELECT f.epoch FROM shard f WHERE f.id = 1) WHERE {}",
        first.next.state.as_str(),
        first.next.attempt,
        picked.join(" OR ")
    )
}
