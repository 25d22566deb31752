//! How long to wait before trying again: doubling, bounded, with jitter.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// First wait after a failure.
const FIRST: Duration = Duration::from_millis(50);

/// Longest wait: a server that came back is noticed within this time.
const LONGEST: Duration = Duration::from_secs(1);

/// The waits after failures in a row.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    random: StdRng,
}

impl Backoff {
    /// No failure yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            next: FIRST,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The wait after one more failure: between half and all of a bound that doubles.
    pub fn after_failure(&mut self) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(LONGEST);
        self.jitter(bound)
    }

    /// Forgets the failures.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Between half and all of a duration.
    pub fn jitter(&mut self, bound: Duration) -> Duration {
        bound.mul_f64(self.random.random_range(0.5..1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second_and_start_again_after_success() {
        let mut backoff = Backoff::new(1);
        let mut bound = FIRST;
        for _ in 0..8 {
            let wait = backoff.after_failure();
            assert!(wait >= bound / 2 && wait <= bound, "{wait:?} of {bound:?}");
            bound = (bound * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.after_failure() <= FIRST);
    }
}
