//! How fast slots move, by what was moved before.

use std::time::Duration;

use freehold_storage::moves::{MoveRecord, MoveState};

/// Rows of a move that says something of the rate of others.
const RATED_ROWS_MIN: u64 = 1_000;

/// How fast the last move was that had something to copy.
pub(super) struct Rates {
    rows_per_s: f64,
    bytes_per_s: f64,
    /// The longest that writes to a slot waited.
    pub(super) pause: Duration,
}

impl Rates {
    /// Of moves, the newest first. Few rows say little of a rate.
    pub(super) fn of(records: &[MoveRecord]) -> Option<Self> {
        let last = records.iter().find(|record| {
            record.state == MoveState::Done && !record.cancels && record.rows >= RATED_ROWS_MIN
        })?;
        let took_ms = (last.changed_at - last.started_at).max(1) as f64;
        Some(Self {
            rows_per_s: last.rows as f64 * 1_000.0 / took_ms,
            bytes_per_s: (last.bytes as f64 * 1_000.0 / took_ms).max(1.0),
            pause: Duration::from_micros(last.pause_us_max),
        })
    }

    /// By whichever takes longer.
    pub(super) fn time(&self, rows: u64, bytes: u64) -> Duration {
        let seconds = (rows as f64 / self.rows_per_s).max(bytes as f64 / self.bytes_per_s);
        Duration::from_secs_f64(seconds)
    }
}

#[cfg(test)]
mod tests {
    use freehold_core::SlotSet;

    use super::*;

    fn record(state: MoveState, rows: u64, bytes: u64, took_ms: i64) -> MoveRecord {
        MoveRecord {
            id: 1,
            source: "a".to_owned(),
            target: "b".to_owned(),
            slots: SlotSet::from(1..=2),
            state,
            cancels: false,
            mover: String::new(),
            slots_done: 2,
            rows,
            bytes,
            pause_us_max: 7_000,
            error: String::new(),
            started_at: 1_000,
            changed_at: 1_000 + took_ms,
        }
    }

    #[test]
    fn a_plan_goes_by_the_last_move_that_copied_something() {
        let records = [
            record(MoveState::Running, 9_000, 9, 1),
            record(MoveState::Done, 3, 9, 1),
            record(MoveState::Done, 10_000, 1_000_000, 5_000),
            record(MoveState::Done, 9_000, 9, 1),
        ];
        assert!(Rates::of(&records[..2]).is_none());
        let rates = Rates::of(&records).unwrap();
        assert_eq!(rates.pause, Duration::from_millis(7));
        // 2,000 rows and 200 kB a second, whichever takes longer.
        assert_eq!(rates.time(4_000, 1), Duration::from_secs(2));
        assert_eq!(rates.time(1, 600_000), Duration::from_secs(3));
    }
}
