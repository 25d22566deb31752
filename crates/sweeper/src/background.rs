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
#[path = "background_tests.rs"]
mod tests;
