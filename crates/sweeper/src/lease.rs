//! Whether this process may believe that it holds the lease: pure.
//!
//! The database keeps the lease by its own clock. Here it counts from *before* the request was
//! sent, on the monotonic clock, so it ends here before it ends there.

use std::time::Duration;

use tokio::time::Instant;

use crate::settings::SweeperSettings;

/// What is believed of the lease.
#[derive(Debug, Default)]
pub(crate) struct LeaseClock {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    renew_at: Instant,
    ends_at: Instant,
}

impl LeaseClock {
    /// Notes what the database said to a request that was sent at `asked_at`.
    pub(crate) fn answered(&mut self, held: bool, asked_at: Instant, settings: &SweeperSettings) {
        self.held = held.then(|| Held {
            renew_at: asked_at + settings.renew_interval,
            ends_at: asked_at + settings.lease_length,
        });
    }

    /// When it ends, if it was had.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.ends_at)
    }

    /// Whether it is held.
    pub(crate) fn is_held(&self, now: Instant) -> bool {
        self.ends_at().is_some_and(|ends_at| now < ends_at)
    }

    /// Whether a statement that starts now and takes `time_max` ends before the lease does.
    pub(crate) fn covers(&self, now: Instant, time_max: Duration) -> bool {
        self.ends_at()
            .is_some_and(|ends_at| now + time_max <= ends_at)
    }

    /// Whether it was had and is to be renewed: in time, or late, as long as nobody else took it.
    pub(crate) fn is_renewal_due(&self, now: Instant, time_max: Duration) -> bool {
        self.held.as_ref().is_some_and(|held| now >= held.renew_at) || !self.covers(now, time_max)
    }

    /// How long until the next renewal; zero without a lease.
    pub(crate) fn until_renewal(&self, now: Instant) -> Duration {
        self.held.as_ref().map_or(Duration::ZERO, |held| {
            held.renew_at.saturating_duration_since(now)
        })
    }

    /// Renews at the next tick.
    pub(crate) fn renew_soon(&mut self, now: Instant) {
        if let Some(held) = &mut self.held {
            held.renew_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Duration = Duration::from_millis(2_500);

    fn seconds(count: f64) -> Duration {
        Duration::from_secs_f64(count)
    }

    #[test]
    fn it_counts_from_before_the_request() {
        let (mut lease, settings) = (LeaseClock::default(), SweeperSettings::default());
        let asked_at = Instant::now();
        lease.answered(true, asked_at, &settings);
        assert!(lease.is_held(asked_at + seconds(9.9)));
        assert!(!lease.is_held(asked_at + seconds(10.0)));
    }

    #[test]
    fn a_batch_starts_only_if_its_longest_duration_fits() {
        let (mut lease, settings) = (LeaseClock::default(), SweeperSettings::default());
        let asked_at = Instant::now();
        assert!(!lease.covers(asked_at, Duration::ZERO));
        lease.answered(true, asked_at, &settings);
        assert!(lease.covers(asked_at + seconds(7.5), BATCH));
        assert!(!lease.covers(asked_at + seconds(7.6), BATCH));
    }

    #[test]
    fn it_is_renewed_long_before_it_ends_and_again_after() {
        let (mut lease, settings) = (LeaseClock::default(), SweeperSettings::default());
        let asked_at = Instant::now();
        lease.answered(true, asked_at, &settings);
        assert!(!lease.is_renewal_due(asked_at + seconds(2.4), BATCH));
        assert_eq!(lease.until_renewal(asked_at + seconds(2.0)), seconds(0.5));
        assert!(lease.is_renewal_due(asked_at + seconds(2.5), BATCH));
        assert!(lease.is_renewal_due(asked_at + seconds(60.0), BATCH));
        lease.answered(true, asked_at, &settings);
        lease.renew_soon(asked_at + seconds(0.1));
        assert!(lease.is_renewal_due(asked_at + seconds(0.1), BATCH));
    }

    #[test]
    fn what_another_took_is_gone_at_once() {
        let (mut lease, settings) = (LeaseClock::default(), SweeperSettings::default());
        let asked_at = Instant::now();
        lease.answered(true, asked_at, &settings);
        lease.answered(false, asked_at + seconds(1.0), &settings);
        assert!(!lease.is_held(asked_at + seconds(1.0)));
        assert_eq!(lease.ends_at(), None);
    }
}
