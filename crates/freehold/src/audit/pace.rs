//! How fast an audit reads: pages small enough that none takes long, and pauses at least as long as
//! what they follow.

use std::time::Duration;

/// Rows in a page.
const ROWS_MAX: usize = 1_000;

/// See [`ROWS_MAX`].
const ROWS_MIN: usize = 8;

/// A page that takes longer is followed by smaller ones.
const TIME_MAX: Duration = Duration::from_millis(100);

/// The pace of one comparison.
#[derive(Debug)]
pub(crate) struct Pace {
    rate_max: f64,
    rows: usize,
}

impl Pace {
    /// At most so many rows per second.
    pub(crate) fn new(rate_max: f64) -> Self {
        Self {
            rate_max,
            rows: ROWS_MAX / 4,
        }
    }

    /// Rows of the next page.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The pause after a page of so many rows that took so long.
    pub(crate) fn after(&mut self, rows: u64, took: Duration) -> Duration {
        if took > TIME_MAX {
            self.rows = (self.rows / 2).max(ROWS_MIN);
        } else if took < TIME_MAX / 4 {
            self.rows = (self.rows * 2).min(ROWS_MAX);
        }
        let due = Duration::from_secs_f64(rows as f64 / self.rate_max);
        // Each server rests for as long as it worked.
        due.saturating_sub(took).max(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_pages_become_smaller_and_the_rate_is_kept() {
        let mut pace = Pace::new(1_000.0);
        assert_eq!(
            pace.after(250, Duration::from_millis(50)),
            Duration::from_millis(200)
        );
        let slow = Duration::from_secs(1);
        assert_eq!(pace.after(250, slow), slow, "it rests as long as it worked");
        assert_eq!(pace.rows(), 125);
        for _ in 0..20 {
            pace.after(1, slow);
        }
        assert_eq!(pace.rows(), ROWS_MIN);
        for _ in 0..20 {
            pace.after(1, Duration::ZERO);
        }
        assert_eq!(pace.rows(), ROWS_MAX);
    }
}
