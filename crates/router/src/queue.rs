//! A lane's bounded queue: callers push, one worker takes everything.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::request::Request;

/// Bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Requests.
    pub keys_max: usize,
    /// Bytes of their keys and values.
    pub bytes_max: usize,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// As many requests wait as may.
    Keys,
    /// As many bytes wait as may.
    Bytes,
    /// The lane is shutting down.
    Closed,
}

/// Requests between the callers and one lane. Its bounds count what the worker has taken but not
/// yet sent, too.
#[derive(Debug)]
pub struct Queue {
    limits: QueueLimits,
    keys: AtomicUsize,
    bytes: AtomicUsize,
    inbox: Mutex<Inbox>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Inbox {
    requests: VecDeque<Request>,
    closed: bool,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            keys: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            inbox: Mutex::default(),
            ready: Notify::new(),
        }
    }

    /// The queue's bounds.
    #[must_use]
    pub fn limits(&self) -> QueueLimits {
        self.limits
    }

    /// Requests that wait.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Appends a request, or gives it back with the reason.
    ///
    /// # Errors
    /// The request, if a bound is reached or the queue is closed.
    #[expect(
        clippy::result_large_err,
        reason = "the request itself goes back to its caller"
    )]
    pub fn push(&self, request: Request) -> Result<(), (Request, Refused)> {
        let bytes = request.operation.bytes();
        let mut inbox = self.lock();
        if inbox.closed {
            return Err((request, Refused::Closed));
        }
        // The counters grow under the lock only, so that no two callers share the last place.
        let (keys_now, bytes_now) = (
            self.keys.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        );
        if keys_now >= self.limits.keys_max {
            return Err((request, Refused::Keys));
        }
        // A single request larger than the bound may wait alone.
        if keys_now > 0 && bytes_now + bytes > self.limits.bytes_max {
            return Err((request, Refused::Bytes));
        }
        self.keys.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let was_empty = inbox.requests.is_empty();
        inbox.requests.push_back(request);
        drop(inbox);
        if was_empty {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Puts requests ahead of all others, in their order. They were accepted before, so the bounds
    /// do not turn them away.
    pub fn push_front(&self, requests: Vec<Request>) {
        let bytes: usize = requests
            .iter()
            .map(|request| request.operation.bytes())
            .sum();
        let mut inbox = self.lock();
        if inbox.closed {
            return;
        }
        self.keys.fetch_add(requests.len(), Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        for request in requests.into_iter().rev() {
            inbox.requests.push_front(request);
        }
        drop(inbox);
        self.ready.notify_one();
    }

    /// Moves what callers pushed to the end of the worker's backlog.
    pub fn drain_into(&self, backlog: &mut VecDeque<Request>) {
        let mut inbox = self.lock();
        if backlog.is_empty() {
            std::mem::swap(backlog, &mut inbox.requests);
        } else {
            backlog.append(&mut inbox.requests);
        }
    }

    /// Frees the places of requests that were sent or ended.
    pub fn release(&self, keys: usize, bytes: usize) {
        self.keys.fetch_sub(keys, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts requests again that went back to waiting.
    pub fn readmit(&self, keys: usize, bytes: usize) {
        self.keys.fetch_add(keys, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Waits until something may be in the queue, or it was closed.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Takes no more requests.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// Whether [`Self::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// A panic elsewhere leaves the inbox whole: every change of it is one call.
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
