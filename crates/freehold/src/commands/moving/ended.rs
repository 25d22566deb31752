//! What a move came to, for people and for programs.

use std::time::Duration;

use freehold_core::SlotSet;
use freehold_mover::{Outcome, Pause};
use serde_json::{Value, json};

use super::Task;
use crate::{
    exit::Failure,
    output::{Output, human},
};

/// What a move came to. What is `None` is not known here: another router ended it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::commands) struct Ended {
    /// Slots that the target owns now.
    pub(super) moved: SlotSet,
    /// Slots that were given back to the source.
    pub(super) returned: SlotSet,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) rows_verified: Option<u64>,
    pub(super) pauses: Option<Vec<Pause>>,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        let progress = outcome.progress;
        Self {
            moved: outcome.moved,
            returned: outcome.returned,
            rows: progress.rows,
            bytes: progress.bytes,
            rows_verified: Some(progress.rows_verified),
            pauses: Some(progress.pauses),
        }
    }
}

/// Tells it.
pub(in crate::commands) fn tell(task: &Task, ended: &Ended, output: Output) -> Result<(), Failure> {
    match output.is_json() {
        true => output.json(&to_json(task, ended)),
        false => output.line(&words(task, ended)),
    }
}

fn to_json(task: &Task, ended: &Ended) -> Value {
    let pauses = ended.pauses.as_ref();
    let pauses = pauses.map(|pauses| pauses.iter().map(pause_json).collect::<Vec<_>>());
    json!({
        "id": format!("{:016x}", task.id),
        "source": task.source,
        "target": task.target,
        "moved": ended.moved.to_string(),
        "returned": ended.returned.to_string(),
        "rows": ended.rows,
        "bytes": ended.bytes,
        "rows_verified": ended.rows_verified,
        "pauses": pauses,
    })
}

/// A pause in milliseconds, by cause.
fn pause_json(pause: &Pause) -> Value {
    let ms = |part: Duration| part.as_secs_f64() * 1_000.0;
    json!({
        "slots": pause.slots,
        "whole_ms": ms(pause.whole()),
        "fence_ms": ms(pause.fence),
        "drain_ms": ms(pause.drain),
        "replicas_ms": ms(pause.replicas),
        "opening_ms": ms(pause.opening),
    })
}

/// In a line or two.
fn words(task: &Task, ended: &Ended) -> String {
    let mut lines = Vec::new();
    let slots = |slots: &SlotSet| human::plural(slots.len() as u64, "slot");
    if !ended.moved.is_empty() {
        let (rows, bytes) = (human::plural(ended.rows, "row"), human::bytes(ended.bytes));
        let with = match ended.rows_verified {
            Some(verified) => {
                let verified = human::count(verified);
                format!("with {rows} ({bytes}) copied and {verified} compared")
            }
            None => format!("and another router did the rest, {rows} ({bytes}) of it copied"),
        };
        let owns = slots(&ended.moved);
        lines.push(format!("'{}' owns {owns}, {with}", task.target));
    }
    if !ended.returned.is_empty() {
        let keeps = slots(&ended.returned);
        let source = &task.source;
        lines.push(format!(
            "'{source}' keeps {keeps}; nothing of the move is left"
        ));
    }
    let pauses = ended.pauses.iter().flatten();
    if let Some(pause) = pauses.max_by_key(|pause| pause.whole()) {
        lines.push(format!(
            "writes to a slot waited {} at most: {} for writes in flight, {} for the last keys, {} \
             for replicas, {} for the new owner",
            human::duration(pause.whole()),
            human::duration(pause.fence),
            human::duration(pause.drain),
            human::duration(pause.replicas),
            human::duration(pause.opening),
        ));
    }
    lines.join("\n")
}
