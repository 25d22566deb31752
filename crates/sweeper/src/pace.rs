//! How large a batch is and how long the pause after it: pure.

use std::time::Duration;

use crate::settings::SweeperSettings;

/// Batches that the usual duration is averaged over, about. Long enough that a burst of slow ones
/// counts as slow, short enough to learn a server that stays slow.
const USUAL_OVER: f64 = 16.0;

/// The speed of one sweeper, learnt from its batches.
#[derive(Debug)]
pub(crate) struct Pace {
    rows: usize,
    /// Of full batches, in seconds.
    usual: Option<f64>,
}

impl Pace {
    pub(crate) fn new(settings: &SweeperSettings) -> Self {
        Self {
            rows: settings.batch_rows_max,
            usual: None,
        }
    }

    /// Rows of the next batch.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Learns from a batch of so many rows, and says how long to pause after it.
    pub(crate) fn after(
        &mut self,
        rows: usize,
        took: Duration,
        settings: &SweeperSettings,
    ) -> Duration {
        let seconds = took.as_secs_f64();
        // One row is always quicker than a hundred: that says nothing about the server.
        let full = rows >= self.rows;
        let usual = if full {
            self.usual.unwrap_or(seconds)
        } else {
            seconds
        };
        if full {
            self.usual = Some(usual + (seconds - usual) / USUAL_OVER);
        }
        self.rows = next_rows(self.rows, took, settings);
        pause(seconds, usual, settings)
    }

    /// Learns that a batch failed or never ended: it may have been too large.
    pub(crate) fn after_failure(&mut self) {
        self.rows = (self.rows / 2).max(1);
    }
}

/// Halves what takes too long, and doubles again what has become quick: a connection then prepares
/// only a few statements.
fn next_rows(rows: usize, took: Duration, settings: &SweeperSettings) -> usize {
    if took > settings.batch_time_max {
        (rows / 2).max(1)
    } else if took * 2 < settings.batch_time_max {
        (rows * 2).min(settings.batch_rows_max)
    } else {
        rows
    }
}

/// A multiple of what the batch took, and once more by how much that is above the usual: a server
/// that gets busy is left alone for longer than its slowness alone would ask.
fn pause(seconds: f64, usual: f64, settings: &SweeperSettings) -> Duration {
    let slower = if usual > 0.0 {
        (seconds / usual).max(1.0)
    } else {
        1.0
    };
    let pause = seconds * settings.pause_factor * slower;
    Duration::try_from_secs_f64(pause)
        .unwrap_or(settings.pause_max)
        .clamp(settings.pause_min, settings.pause_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn settings() -> SweeperSettings {
        SweeperSettings {
            pause_factor: 2.0,
            pause_min: ms(3),
            pause_max: ms(500),
            ..Default::default()
        }
    }

    #[test]
    fn a_steady_server_gets_a_multiple_of_each_batch() {
        let mut pace = Pace::new(&settings());
        for _ in 0..10 {
            assert_eq!(pace.after(128, ms(10), &settings()), ms(20));
        }
    }

    #[test]
    fn batches_that_slow_down_are_followed_by_more_than_proportional_pauses() {
        let mut pace = Pace::new(&settings());
        for _ in 0..50 {
            pace.after(128, ms(10), &settings());
        }
        let slow = pace.after(128, ms(30), &settings());
        assert!(slow > ms(60) && slow <= ms(180), "{slow:?}");
        // A server that stays so is the new usual.
        let mut last = slow;
        for _ in 0..200 {
            last = pace.after(128, ms(30), &settings());
        }
        assert!(last < ms(61), "{last:?}");
    }

    #[test]
    fn pauses_stay_within_their_limits() {
        let mut pace = Pace::new(&settings());
        assert_eq!(pace.after(128, Duration::ZERO, &settings()), ms(3));
        assert_eq!(
            pace.after(128, Duration::from_secs(60), &settings()),
            ms(500)
        );
        let none = SweeperSettings {
            pause_factor: 0.0,
            pause_min: ms(0),
            ..settings()
        };
        assert_eq!(pace.after(128, ms(90), &none), ms(0));
    }

    #[test]
    fn a_small_batch_does_not_make_a_full_one_look_slow() {
        let mut pace = Pace::new(&settings());
        for _ in 0..50 {
            pace.after(128, ms(10), &settings());
            pace.after(1, ms(1), &settings());
        }
        assert_eq!(pace.after(128, ms(10), &settings()), ms(20));
    }

    #[test]
    fn batches_shrink_while_they_take_too_long_and_grow_back() {
        let mut pace = Pace::new(&settings());
        let sizes = |pace: &mut Pace, took: Duration, times: usize| -> Vec<usize> {
            (0..times)
                .map(|_| {
                    pace.after(pace.rows(), took, &settings());
                    pace.rows()
                })
                .collect()
        };
        assert_eq!(sizes(&mut pace, ms(101), 3), [64, 32, 16]);
        assert_eq!(sizes(&mut pace, ms(70), 2), [16, 16]);
        assert_eq!(sizes(&mut pace, ms(10), 4), [32, 64, 128, 128]);
        for _ in 0..20 {
            pace.after_failure();
        }
        assert_eq!(pace.rows(), 1);
    }
}
