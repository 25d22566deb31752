//! The loop over work that only writes down when it was called.

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
