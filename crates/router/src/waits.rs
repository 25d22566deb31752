//! SESSION reads that wait until a replica has what they ask for.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{request::Request, watch::LOOK_OFTEN};

/// Reads of one shard that may wait at once; others go to the master.
const WAITING_MAX: usize = 4_096;

/// The reads of one shard that wait.
#[derive(Debug, Default)]
pub struct Waits {
    waiting: Mutex<Vec<(Request, Instant)>>,
    count: AtomicUsize,
    arrived: Notify,
}

impl Waits {
    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Has a read wait until then at the latest.
    ///
    /// # Errors
    /// The read, if too many wait.
    pub fn add(&self, request: Request, until: Instant) -> Result<(), Box<Request>> {
        let mut waiting = self.lock();
        if waiting.len() >= WAITING_MAX {
            return Err(Box::new(request));
        }
        waiting.push((request, until));
        self.count.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes out those that need not wait any more, and those that may not.
    pub fn take(
        &self,
        is_ready: impl Fn(&Request) -> bool,
        now: Instant,
    ) -> (Vec<Request>, Vec<Request>) {
        let (mut ready, mut late) = (Vec::new(), Vec::new());
        if self.is_empty() {
            return (ready, late);
        }
        let mut waiting = self.lock();
        for (request, until) in std::mem::take(&mut *waiting) {
            if is_ready(&request) {
                ready.push(request);
            } else if until <= now || request.is_over() {
                late.push(request);
            } else {
                waiting.push((request, until));
            }
        }
        self.count.store(waiting.len(), Ordering::Relaxed);
        (ready, late)
    }

    /// Calls `serve` again and again while any waits: servers that hang hold nobody up.
    pub async fn run(&self, serve: impl Fn()) {
        loop {
            self.arrived.notified().await;
            while !self.is_empty() {
                sleep(LOOK_OFTEN).await;
                serve();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Request, Instant)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a read may wait for a replica: `wait_max`, but never more than half of what its caller
/// waits, so that the master can still answer.
#[must_use]
pub fn wait_until(now: Instant, deadline: Instant, wait_max: Duration) -> Instant {
    now + wait_max.min(deadline.saturating_duration_since(now) / 2)
}
