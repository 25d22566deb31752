//! What is told of moves, in the wire's words.

use std::time::Duration;

use freehold_mover::{Outcome, Pause, Progress};
use freehold_proto::v1;
use freehold_storage::moves::{MoveRecord, MoveState};

/// A move as the shards have written it down.
pub(super) fn info(record: &MoveRecord, held_here: bool) -> v1::MoveInfo {
    v1::MoveInfo {
        id: record.id,
        source: record.source.clone(),
        target: record.target.clone(),
        slots: record.slots.to_string(),
        state: state(record.state).into(),
        cancels: record.cancels,
        mover: record.mover.clone(),
        held_here,
        slots_done: record.slots_done,
        rows: record.rows,
        bytes: record.bytes,
        pause_max: Duration::from_micros(record.pause_us_max).try_into().ok(),
        error: record.error.clone(),
        started_at_unix_ms: record.started_at,
        changed_at_unix_ms: record.changed_at,
    }
}

fn state(state: MoveState) -> v1::MoveState {
    match state {
        MoveState::Running => v1::MoveState::Running,
        MoveState::Stopped => v1::MoveState::Stopped,
        MoveState::Done => v1::MoveState::Done,
        MoveState::Cancelled => v1::MoveState::Cancelled,
    }
}

/// A move that runs here.
pub(super) fn running(progress: &Progress) -> v1::GetMoveResponse {
    v1::GetMoveResponse {
        state: v1::MoveState::Running.into(),
        held_here: true,
        progress: Some(v1::MoveProgress {
            slots_done: progress.slots_done,
            rows: progress.rows,
            bytes: progress.bytes,
            doing: progress.doing.to_owned(),
            resting_percent: u32::try_from(progress.resting_percent).unwrap_or(u32::MAX),
            pause_last: progress.pauses.last().map(pause),
        }),
        ..v1::GetMoveResponse::default()
    }
}

/// A move that waits here, for what `why` says.
pub(super) fn waiting(why: String) -> v1::GetMoveResponse {
    v1::GetMoveResponse {
        state: v1::MoveState::Running.into(),
        error: why,
        ..v1::GetMoveResponse::default()
    }
}

/// A move that ended here.
pub(super) fn ended(outcome: &Outcome) -> v1::GetMoveResponse {
    let told = running(&outcome.progress);
    v1::GetMoveResponse {
        state: state(outcome.state()).into(),
        held_here: false,
        outcome: Some(v1::MoveOutcome {
            moved: outcome.moved.to_string(),
            returned: outcome.returned.to_string(),
            rows: outcome.progress.rows,
            bytes: outcome.progress.bytes,
            rows_verified: outcome.progress.rows_verified,
            pauses: outcome.progress.pauses.iter().map(pause).collect(),
        }),
        ..told
    }
}

/// A move that runs elsewhere, or nowhere.
pub(super) fn written_down(record: &MoveRecord) -> v1::GetMoveResponse {
    v1::GetMoveResponse {
        state: state(record.state).into(),
        held_here: false,
        error: record.error.clone(),
        progress: Some(v1::MoveProgress {
            slots_done: record.slots_done,
            rows: record.rows,
            bytes: record.bytes,
            ..v1::MoveProgress::default()
        }),
        outcome: None,
    }
}

fn pause(pause: &Pause) -> v1::MovePause {
    let part = |part: Duration| part.try_into().ok();
    v1::MovePause {
        fence: part(pause.fence),
        drain: part(pause.drain),
        replicas: part(pause.replicas),
        opening: part(pause.opening),
        slots: u32::try_from(pause.slots).unwrap_or(u32::MAX),
    }
}
