//! Changes of the fences, apart from one another. Each of them makes the requests of its shard wait
//! for a commit and look at the map again, whatever their slots: one a second is felt by few, ten a
//! second by all.

use std::sync::PoisonError;

use tokio::time::{Duration, Instant, sleep};

use crate::{batch::Batch, error::Halt, mover::Mover};

/// How long nothing follows a change, as a multiple of the time that it took: then one request in
/// twenty meets one, at most.
const TIMES: u32 = 20;

/// However long it took.
const APART_MAX: Duration = Duration::from_secs(2);

/// How long it looks whether anybody uses the shards.
const LOOK: Duration = Duration::from_millis(50);

/// When the fences may change again.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    next: Option<Instant>,
}

impl Apart {
    fn changed(&mut self, now: Instant, took: Duration) {
        let from = self.next.map_or(now, |next| next.max(now));
        self.next = Some((from + took * TIMES).min(now + APART_MAX));
    }

    fn left(&self, now: Instant) -> Duration {
        self.next
            .map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }
}

impl Mover {
    /// A change of a fence took so long.
    pub(crate) fn changed_fence(&self, took: Duration) {
        let apart = self.apart.lock();
        let mut apart = apart.unwrap_or_else(PoisonError::into_inner);
        apart.changed(Instant::now(), took);
    }

    fn apart_for(&self) -> Duration {
        let apart = self.apart.lock();
        let apart = apart.unwrap_or_else(PoisonError::into_inner);
        apart.left(Instant::now())
    }
}

impl Batch<'_> {
    /// Waits until a fence may change again, if anybody uses the shards. For a moment in which nobody
    /// waits for the mover.
    pub(crate) async fn keep_apart(&mut self) -> Result<(), Halt> {
        let left = self.mover.apart_for();
        if left.is_zero() || self.mover.settings.latency_factor_max.is_none() {
            return Ok(());
        }
        let before = self.executed().await?;
        sleep(left.min(LOOK)).await;
        let is_used = self.executed().await? != before;
        if is_used {
            self.mover.doing("leaving room for requests");
            sleep(self.mover.apart_for()).await;
        }
        self.mover.go_on().map_err(Halt::from)
    }

    /// On the source and the target.
    async fn executed(&mut self) -> Result<[Option<u64>; 2], Halt> {
        let source = self.source.moves.executed().await?;
        Ok([source, self.target.moves.executed().await?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_are_as_far_apart_as_they_are_long() {
        let mut apart = Apart::default();
        let now = Instant::now();
        assert!(apart.left(now).is_zero());
        apart.changed(now, Duration::from_millis(4));
        assert_eq!(apart.left(now), Duration::from_millis(4) * TIMES);
        apart.changed(now, Duration::from_millis(6));
        assert_eq!(apart.left(now), Duration::from_millis(10) * TIMES);
        apart.changed(now, Duration::from_secs(60));
        assert_eq!(apart.left(now), APART_MAX);
        assert!(apart.left(now + APART_MAX).is_zero());
    }
}
