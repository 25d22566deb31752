//! One loop for background work: tick, rest, until the shutdown.

use std::{future::Future, time::Duration};

use rand::{RngExt, rngs::StdRng};
use tokio::{
    select,
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Routers that start together spread their first ticks over so long.
const START_SPREAD: Duration = Duration::from_millis(500);

/// An idle rest is longer by up to this part of itself.
const IDLE_SPREAD: f64 = 0.25;

/// What a tick leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// More work: the next tick comes after exactly so long.
    More(Duration),
    /// Nothing for now: the next tick comes after about so long, and not before.
    Idle(Duration),
}

/// Background work that is done in ticks.
pub(crate) trait Work: Send {
    /// Does a bounded piece, in bounded time. May be dropped at any await.
    fn tick(&mut self) -> impl Future<Output = Rest> + Send;

    /// Somebody changed what the work would notice later: the next tick comes at once.
    fn nudge(&mut self);

    /// Gives back what was taken. Called once, last; may be dropped.
    fn stop(&mut self) -> impl Future<Output = ()> + Send;
}

/// Runs `work` until `shutdown`, which waits up to `stop_time_max` for the tick that is under way
/// and as long for [`Work::stop`].
pub(crate) async fn run(
    mut work: impl Work,
    mut rng: StdRng,
    wake: &Notify,
    shutdown: CancellationToken,
    stop_time_max: Duration,
) {
    let mut rest = START_SPREAD.mul_f64(rng.random());
    loop {
        select! {
            // Shutdown first: work without pauses must not keep it out.
            biased;
            () = shutdown.cancelled() => break,
            () = wake.notified() => work.nudge(),
            () = sleep(rest) => {}
        }
        let too_late = async {
            shutdown.cancelled().await;
            sleep(stop_time_max).await;
        };
        rest = select! {
            biased;
            rest = work.tick() => spread(rest, &mut rng),
            () = too_late => break,
        };
    }
    // Late is as good as never: what was taken ends by itself.
    let _ = timeout(stop_time_max, work.stop()).await;
}

/// Never shorter, so that what falls due at the end of a rest is due.
fn spread(rest: Rest, rng: &mut StdRng) -> Duration {
    match rest {
        Rest::More(pause) => pause,
        Rest::Idle(pause) => pause.mul_f64(1.0 + rng.random_range(0.0..IDLE_SPREAD)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use rand::SeedableRng;
    use tokio::time::Instant;

    use super::*;

    /// Writes down when what was called.
    struct Recorder {
        calls: Arc<Mutex<Vec<(&'static str, Duration)>>>,
        start: Instant,
        rest: Rest,
        tick_takes: Duration,
    }

    impl Recorder {
        fn new(rest: Rest, tick_takes: Duration) -> Self {
            Self {
                calls: Arc::default(),
                start: Instant::now(),
                rest,
                tick_takes,
            }
        }

        fn note(&self, what: &'static str) {
            self.calls
                .lock()
                .unwrap()
                .push((what, self.start.elapsed()));
        }
    }

    impl Work for Recorder {
        async fn tick(&mut self) -> Rest {
            self.note("tick");
            sleep(self.tick_takes).await;
            self.rest
        }

        fn nudge(&mut self) {
            self.note("nudge");
        }

        async fn stop(&mut self) {
            self.note("stop");
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// The calls of so many seconds, with the wake-up and the shutdown at their times.
    async fn calls(
        work: Recorder,
        nudge_at: Option<Duration>,
        shutdown_at: Duration,
    ) -> (Vec<(&'static str, Duration)>, Duration) {
        let (calls, start) = (Arc::clone(&work.calls), work.start);
        let (wake, shutdown) = (Notify::new(), CancellationToken::new());
        let control = async {
            if let Some(at) = nudge_at {
                sleep(at).await;
                wake.notify_one();
            }
            sleep(shutdown_at.saturating_sub(start.elapsed())).await;
            shutdown.cancel();
        };
        let rng = StdRng::seed_from_u64(1);
        tokio::join!(run(work, rng, &wake, shutdown.clone(), SECOND), control);
        let calls = calls.lock().unwrap().clone();
        (calls, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn idle_rests_are_spread_and_never_shorter() {
        let work = Recorder::new(Rest::Idle(4 * SECOND), Duration::ZERO);
        let (calls, _) = calls(work, None, 100 * SECOND).await;
        let ticks: Vec<_> = calls.iter().filter(|call| call.0 == "tick").collect();
        assert!((20..=26).contains(&ticks.len()), "{}", ticks.len());
        assert!(ticks[0].1 <= START_SPREAD);
        let rests: std::collections::BTreeSet<_> =
            ticks.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
        assert!(
            rests
                .iter()
                .all(|rest| (4 * SECOND..=5 * SECOND).contains(rest)),
            "{rests:?}"
        );
        assert!(rests.len() > 10, "not spread: {rests:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn more_work_comes_after_exactly_its_pause() {
        let work = Recorder::new(Rest::More(SECOND), SECOND);
        let (calls, _) = calls(work, None, 10 * SECOND).await;
        let ticks: Vec<_> = calls.iter().filter(|call| call.0 == "tick").collect();
        assert!(
            ticks
                .windows(2)
                .all(|pair| pair[1].1 - pair[0].1 == 2 * SECOND),
            "{ticks:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_nudge_ends_the_rest() {
        let work = Recorder::new(Rest::Idle(100 * SECOND), Duration::ZERO);
        let (calls, _) = calls(work, Some(10 * SECOND), 20 * SECOND).await;
        let names: Vec<_> = calls.iter().map(|call| call.0).collect();
        assert_eq!(names, ["tick", "nudge", "tick", "stop"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tick_that_never_ends_holds_a_shutdown_up_for_its_limit_only() {
        let work = Recorder::new(Rest::Idle(SECOND), 1_000 * SECOND);
        let (calls, took) = calls(work, None, 10 * SECOND).await;
        assert_eq!(calls.last().unwrap(), &("stop", 11 * SECOND));
        assert!(took <= 12 * SECOND, "{took:?}");
    }
}
