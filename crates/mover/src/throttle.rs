//! How much a mover rests, so that requests do not wait for what it does.
//!
//! Each beat is a small write with a commit of its own, such as requests make, and how long it takes
//! says what they wait. Before anything is copied, a few beats show how long that is without the
//! mover; from then on the mover rests after each page for a multiple of the time that the page
//! took, more while beats take too long, less while they do not, and its pages become smaller. Where
//! resting does not help, the load is another one than before, and that is learnt.

use std::time::Duration;

/// How many beats show what requests wait without the mover.
pub(crate) const FIRST_BEATS: usize = BEATS;

/// The longest rest, as a multiple of the work: a tenth of the time is worked still.
const REST_MAX: f64 = 9.0;

/// The shortest one that is worth it.
const REST_MIN: f64 = 0.25;

/// What is added to the latency that is allowed, whatever the factor: less is noise.
const NOISE: Duration = Duration::from_millis(1);

/// Beats of which the third slowest counts: what a fifth of all requests wait says more of the
/// slowest ones than a median, and one or two that a disk made slow say nothing.
const BEATS: usize = 10;

/// How long the target is to be busy with one page while requests wait: they wait behind it.
const PAGE_TIME: Duration = Duration::from_millis(10);

/// How fast a latency is taken for the usual one that no rest brings down, or that is lower.
const LEARNT: f64 = 0.02;

/// For so many beats it has to rest as much as it may before that is taken for of no help.
const NO_HELP_BEATS: u32 = 50;

/// How much one master's requests wait.
#[derive(Debug, Clone, Copy, Default)]
struct Latency {
    /// Without the mover, in seconds; 0 until it is known.
    usual: f64,
    /// The last ones, in seconds, in no order.
    last: [f64; BEATS],
    /// Which of them is the oldest.
    oldest: usize,
}

impl Latency {
    /// If each beat so far took this long.
    fn always(seconds: f64) -> Self {
        Self {
            usual: seconds,
            last: [seconds; BEATS],
            oldest: 0,
        }
    }

    fn took(&mut self, seconds: f64) {
        self.last[self.oldest] = seconds;
        self.oldest = (self.oldest + 1) % BEATS;
    }

    fn now(&self) -> f64 {
        let mut last = self.last;
        last.sort_unstable_by(f64::total_cmp);
        last[BEATS - 3]
    }
}

/// How much a mover rests.
#[derive(Debug, Clone)]
pub(crate) struct Throttle {
    /// How many times the usual latency is allowed; `None` for any.
    factor_max: Option<f64>,
    /// Of the source and the target.
    latencies: [Latency; 2],
    /// As a multiple of the work.
    rest: f64,
    /// Beats in a row at which it rested as much as it may.
    exhausted: u32,
    /// Bytes of pages that the target stores in a second; 0 until it is known.
    stores: f64,
}

impl Throttle {
    pub(crate) fn new(factor_max: Option<f64>) -> Self {
        Self {
            factor_max,
            latencies: [Latency::default(); 2],
            rest: 0.0,
            exhausted: 0,
            stores: 0.0,
        }
    }

    /// The beats of a master before anything was copied.
    pub(crate) fn begins(&mut self, side: usize, beats: &[Duration]) {
        let Some(first) = beats.first() else { return };
        let mut latency = Latency::always(first.as_secs_f64());
        beats
            .iter()
            .for_each(|beat| latency.took(beat.as_secs_f64()));
        latency.usual = latency.now();
        self.latencies[side] = latency;
    }

    /// Whether it is known how long a master's requests wait without the mover.
    pub(crate) fn knows(&self, side: usize) -> bool {
        self.latencies[side].usual > 0.0
    }

    /// A beat of a master took so long.
    pub(crate) fn beat(&mut self, side: usize, took: Duration) {
        let took = took.as_secs_f64();
        self.exhausted = match self.rest >= REST_MAX {
            true => self.exhausted.saturating_add(1),
            false => 0,
        };
        let latency = &mut self.latencies[side];
        if latency.usual == 0.0 {
            // The first one that is known.
            *latency = Latency::always(took);
        }
        latency.took(took);
        let now = latency.now();
        if now < latency.usual || self.exhausted > NO_HELP_BEATS {
            latency.usual += (now - latency.usual) * LEARNT;
        }
        let Some(worst) = self.worst() else { return };
        if worst > 1.0 {
            self.rest = (self.rest * 1.5).clamp(REST_MIN, REST_MAX);
        } else if worst < 0.9 {
            self.rest *= 0.9;
            if self.rest < REST_MIN {
                self.rest = 0.0;
            }
        }
    }

    /// The higher of the two latencies, as a part of what is allowed there.
    fn worst(&self) -> Option<f64> {
        let factor = self.factor_max?;
        let parts = self.latencies.iter().map(|latency| {
            let allowed = (latency.usual * factor).max(latency.usual + NOISE.as_secs_f64());
            latency.now() / allowed
        });
        parts.reduce(f64::max)
    }

    /// How long to rest after work that took so long.
    pub(crate) fn rest(&self, worked: Duration) -> Duration {
        worked.mul_f64(self.rest).min(Duration::from_secs(2))
    }

    /// The part of the time that is rested, in percent.
    pub(crate) fn resting_percent(&self) -> u64 {
        (100.0 * self.rest / (1.0 + self.rest)) as u64
    }

    /// The target stored so much in one page.
    pub(crate) fn stored(&mut self, bytes: usize, took: Duration) {
        let rate = bytes as f64 / took.as_secs_f64().max(0.000_1);
        self.stores = match self.stores > 0.0 {
            true => self.stores + (rate - self.stores) * 0.3,
            false => rate,
        };
    }

    /// How large a page may be.
    pub(crate) fn page_bytes(&self, largest: usize) -> usize {
        let largest = self.part(largest);
        match self.rest > 0.0 && self.stores > 0.0 {
            true => largest.min((self.stores * PAGE_TIME.as_secs_f64()) as usize),
            false => largest,
        }
    }

    /// How many rows may be looked at or deleted at once, of so many without requests.
    pub(crate) fn part(&self, largest: usize) -> usize {
        (largest as f64 / (1.0 + self.rest)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_millis(4);

    fn begun() -> Throttle {
        let mut throttle = Throttle::new(Some(1.5));
        throttle.begins(0, &[USUAL; FIRST_BEATS]);
        throttle.begins(1, &[USUAL; FIRST_BEATS]);
        throttle
    }

    /// Beats of a source that is slower the more of the time the mover works; answers the mean of
    /// the last 100, in milliseconds.
    fn run(throttle: &mut Throttle, slowdown: f64, load: f64) -> f64 {
        let mut sum = 0.0;
        for beat in 0..400 {
            let works = 1.0 / (1.0 + throttle.rest);
            let took = USUAL.mul_f64(load * (1.0 + slowdown * works));
            throttle.beat(0, took);
            throttle.beat(1, USUAL);
            if beat >= 300 {
                sum += took.as_secs_f64() * 1_000.0;
            }
        }
        sum / 100.0
    }

    #[test]
    fn an_idle_master_is_not_spared() {
        let mut throttle = begun();
        run(&mut throttle, 0.3, 1.0);
        assert_eq!(throttle.rest(USUAL), Duration::ZERO);
        assert_eq!(throttle.page_bytes(4_096), 4_096);
    }

    #[test]
    fn requests_wait_no_more_than_the_factor_allows() {
        for slowdown in [1.0, 2.0, 4.0] {
            let mut throttle = begun();
            let mean = run(&mut throttle, slowdown, 1.0);
            assert!(mean <= 6.2, "{slowdown}: {mean} ms, of 6 allowed");
            assert!(mean >= 4.5, "{slowdown}: {mean} ms, it rests for nothing");
            assert!(throttle.page_bytes(4_096) < 4_096);
        }
    }

    #[test]
    fn it_works_again_when_the_load_is_over_or_is_the_usual_one() {
        let mut throttle = begun();
        // Three times as slow whatever the mover does.
        run(&mut throttle, 0.0, 3.0);
        run(&mut throttle, 0.0, 3.0);
        assert_eq!(throttle.rest(USUAL), Duration::ZERO, "{throttle:?}");
        let mut throttle = begun();
        run(&mut throttle, 4.0, 1.0);
        run(&mut throttle, 0.0, 1.0);
        assert_eq!(throttle.rest(USUAL), Duration::ZERO);
    }

    #[test]
    fn a_beat_that_was_slow_by_chance_is_no_reason_to_rest() {
        let mut throttle = begun();
        for beat in 0..100 {
            let slow = beat % 7 == 0;
            throttle.beat(0, if slow { USUAL * 50 } else { USUAL });
        }
        assert_eq!(throttle.rest(USUAL), Duration::ZERO);
    }

    #[test]
    fn pages_are_so_small_that_requests_do_not_wait_long_behind_one() {
        let mut throttle = begun();
        // 100 MB a second: a page of 4 MiB takes 42 ms.
        throttle.stored(1_000_000, Duration::from_millis(10));
        assert_eq!(throttle.page_bytes(4 << 20), 4 << 20, "nobody waits");
        (0..10).for_each(|_| throttle.beat(0, USUAL * 2));
        assert!(throttle.page_bytes(4 << 20) <= 1_000_000);
    }

    #[test]
    fn it_never_rests_if_it_shall_not() {
        let mut throttle = Throttle::new(None);
        run(&mut throttle, 10.0, 10.0);
        assert_eq!(throttle.rest(USUAL), Duration::ZERO);
    }

    #[test]
    fn a_rest_ends() {
        let mut throttle = begun();
        (0..100).for_each(|_| throttle.beat(0, USUAL * 100));
        assert_eq!(
            throttle.rest(Duration::from_millis(10)),
            Duration::from_millis(90)
        );
        assert_eq!(
            throttle.rest(Duration::from_secs(60)),
            Duration::from_secs(2)
        );
    }
}
