//! That a move is being run, shown on both shards: whoever sees that nothing is shown any more takes
//! it for abandoned ([`crate::lookout`]). Nothing depends on it: a move that is taken over while its
//! mover lives only changes hands.
//!
//! How long it takes to show it says how long requests wait ([`crate::throttle`]).

use std::{convert::Infallible, sync::atomic::Ordering, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    error::Halt,
    mover::Mover,
    shard::{Leading, Shard},
    throttle::FIRST_BEATS,
};

/// After which the connection of a beat is given up.
const BEAT_TIME_MAX: Duration = Duration::from_secs(2);

impl Mover {
    /// Finds out how long small writes take while the mover copies nothing yet, once. What cannot be
    /// found out now, shows later.
    pub(crate) async fn first_beats(&self, id: u64) {
        if self.has_measured.swap(true, Ordering::Relaxed) {
            return;
        }
        for (side, shard) in [&self.source, &self.target].into_iter().enumerate() {
            let mut open = None;
            let mut beats = Vec::with_capacity(FIRST_BEATS);
            for _ in 0..FIRST_BEATS {
                let beat = self.beat_at(shard, open.take(), id);
                let Ok(Ok((leading, took))) = timeout(BEAT_TIME_MAX, beat).await else {
                    break;
                };
                open = Some(leading);
                beats.push(took);
            }
            self.throttle().begins(side, &beats);
        }
    }

    /// For as long as it is polled.
    pub(crate) async fn beats(&self, id: u64) -> Infallible {
        // Each for itself: one shard that hangs does not make the other one look abandoned.
        let (source, target) = (
            self.beats_at(0, &self.source, id),
            self.beats_at(1, &self.target, id),
        );
        tokio::join!(source, target).0
    }

    async fn beats_at(&self, side: usize, shard: &Shard, id: u64) -> Infallible {
        let mut ticks = interval(self.settings.beat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = None;
        loop {
            ticks.tick().await;
            let beaten = timeout(BEAT_TIME_MAX, self.beat_at(shard, open.take(), id)).await;
            match beaten {
                Ok(Ok((leading, took))) => {
                    open = Some(leading);
                    self.throttle().beat(side, took);
                }
                Ok(Err(halt)) => tracing::debug!(shard = shard.name, ?halt, "no beat"),
                Err(_) => {
                    tracing::debug!(shard = shard.name, "a beat took too long");
                    let mut throttle = self.throttle();
                    if throttle.knows(side) {
                        throttle.beat(side, BEAT_TIME_MAX);
                    }
                }
            }
        }
    }

    /// Gives the connection back that may be used again, and how long the beat took on it.
    async fn beat_at(
        &self,
        shard: &Shard,
        open: Option<Leading>,
        id: u64,
    ) -> Result<(Leading, Duration), Halt> {
        let mut leading = match open {
            Some(leading) => leading,
            None => shard.leading().await?,
        };
        let beat = self.beat(id);
        let began = Instant::now();
        let beaten = leading.moves.beat(leading.leader, &beat).await?;
        match beaten {
            Some(()) => Ok((leading, began.elapsed())),
            // The mover will hear of it where it counts.
            None => Err(Halt::Again("somebody else runs the move".to_owned())),
        }
    }
}
