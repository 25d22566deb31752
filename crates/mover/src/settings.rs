//! What a mover may take, and how long.

use std::time::Duration;

/// Limits of a move.
#[derive(Debug, Clone)]
pub struct MoverSettings {
    /// Slots that are copied and verified together, and change hands one part after another. Fewer
    /// leave less to copy again after a failover.
    pub batch_slots_max: usize,
    /// Slots of the first part that changes hands. Later parts have as many as keep the pause of
    /// writes near `pause_aim`.
    pub part_slots: usize,
    /// Slots of a part, however long the pause. Most of that is a handful of commits, which fewer slots
    /// do not shorten: where commits alone take longer than `pause_aim`, a move of all slots would pause
    /// for thousands of them.
    pub part_slots_min: usize,
    /// How long writes to a slot shall wait while it changes hands. Longer pauses are fewer: of each
    /// all routers hear, and look at the map again.
    pub pause_aim: Duration,
    /// Bytes of values that are on the way at a time, twice: one page is read while one is stored.
    pub page_bytes_max: usize,
    /// Rows of a page, and of a checksum.
    pub page_rows_max: usize,
    /// Keys that are drained at a time.
    pub drain_keys_max: usize,
    /// Keys in the log with which writes may be stopped: what is drained while they wait.
    pub last_drain_keys_max: usize,
    /// Bytes of values copied per second; `None` for as many as go.
    pub bytes_per_second_max: Option<u64>,
    /// How many times as long as without the mover small writes may take on the two masters: beyond
    /// it, it rests between pages, up to nine tenths of the time. `None` for never.
    pub latency_factor_max: Option<f64>,
    /// How long a transaction of the mover may be missing on a replica before it waits for it.
    pub replica_lag_max: Duration,
    /// How far the clocks of two masters may be apart: a row expires on the target that much sooner
    /// or later.
    pub clock_skew_max: Duration,
    /// How long writes may wait for replicas before the slots are given back to them. Also how long
    /// each other wait of a move is.
    pub wait_max: Duration,
    /// How often a batch begins again, after a failover or a broken connection, before the move
    /// stops.
    pub repeats_max: u32,
    /// How often a mover shows on both shards that it is alive, and finds out how long small writes
    /// take there.
    pub beat: Duration,
    /// How long it waits before it begins again, at most. The first times are shorter: writes may be
    /// waiting.
    pub repeat_after_max: Duration,
}

impl Default for MoverSettings {
    fn default() -> Self {
        Self {
            batch_slots_max: 1_024,
            part_slots: 256,
            part_slots_min: 128,
            pause_aim: Duration::from_millis(20),
            page_bytes_max: 4 << 20,
            page_rows_max: 2_000,
            drain_keys_max: 256,
            last_drain_keys_max: 64,
            bytes_per_second_max: None,
            latency_factor_max: Some(1.5),
            replica_lag_max: Duration::from_secs(10),
            clock_skew_max: Duration::from_secs(1),
            wait_max: Duration::from_secs(2),
            repeats_max: 30,
            beat: Duration::from_millis(200),
            repeat_after_max: Duration::from_secs(1),
        }
    }
}

/// The shortest time after which a batch begins again.
const REPEAT_AFTER_MIN: Duration = Duration::from_millis(20);

impl MoverSettings {
    /// How many slots change hands next, after a part of up to `slots` did within `pause`.
    pub(crate) fn part_after(&self, slots: usize, pause: Duration) -> usize {
        let next = match pause {
            long if long > self.pause_aim => slots / 2,
            short if short < self.pause_aim / 2 => slots * 2,
            _ => slots,
        };
        next.max(self.part_slots_min).min(self.batch_slots_max)
    }

    /// How long to wait before the `repeats`-th repeat, counted from 1.
    pub(crate) fn repeat_after(&self, repeats: u32) -> Duration {
        let doubled = REPEAT_AFTER_MIN.saturating_mul(1 << (repeats.clamp(1, 16) - 1));
        doubled.min(self.repeat_after_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_as_large_as_the_pause_allows() {
        let settings = MoverSettings::default();
        let (aim, max) = (settings.pause_aim, settings.batch_slots_max);
        assert_eq!(settings.part_after(512, aim * 2), 256);
        assert_eq!(settings.part_after(256, aim), 256);
        assert_eq!(settings.part_after(256, aim / 3), 512);
        assert_eq!(settings.part_after(max, Duration::ZERO), max);
        let min = settings.part_slots_min;
        assert_eq!(settings.part_after(min, aim * 9), min);
    }

    #[test]
    fn repeats_begin_at_once_and_end_up_far_apart() {
        let settings = MoverSettings::default();
        assert_eq!(settings.repeat_after(1), REPEAT_AFTER_MIN);
        assert_eq!(settings.repeat_after(2), REPEAT_AFTER_MIN * 2);
        assert_eq!(settings.repeat_after(u32::MAX), settings.repeat_after_max);
    }
}
