//! A lane's bounded queue: callers push, one worker takes everything.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::{Notify, oneshot};

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
    /// It was routed by a map from before a barrier: route it again.
    Stale,
}

/// Numbers the requests of a router in the order in which they come in.
#[derive(Debug, Default)]
pub struct Arrivals(AtomicU64);

impl Arrivals {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Requests between the callers and one lane. Its bounds count what the worker has taken but not
/// yet sent, too.
#[derive(Debug)]
pub struct Queue {
    limits: QueueLimits,
    arrivals: Arc<Arrivals>,
    keys: AtomicUsize,
    bytes: AtomicUsize,
    inbox: Mutex<Inbox>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Inbox {
    requests: VecDeque<Request>,
    /// With how many requests the worker wants to be woken.
    wake_at: usize,
    /// Whether something came in that is older than what came before it.
    out_of_order: bool,
    /// Ended once the worker has gone through what came in before them.
    barriers: Vec<oneshot::Sender<()>>,
    /// The oldest map by which requests may have been routed here.
    generation_min: u64,
    closed: bool,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: QueueLimits, arrivals: Arc<Arrivals>) -> Self {
        Self {
            limits,
            arrivals,
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

    /// Appends a request that was routed by the map of this generation, or gives it back with the
    /// reason.
    ///
    /// # Errors
    /// The request, if a bound is reached, the queue is closed, or a barrier is newer than the map.
    #[expect(
        clippy::result_large_err,
        reason = "the request itself goes back to its caller"
    )]
    pub fn push(&self, mut request: Request, generation: u64) -> Result<(), (Request, Refused)> {
        let bytes = request.operation.bytes();
        let mut inbox = self.lock();
        if inbox.closed {
            return Err((request, Refused::Closed));
        }
        if generation < inbox.generation_min {
            return Err((request, Refused::Stale));
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
        // Under the lock, so that numbers ascend in the inbox.
        request.number = self.arrivals.next();
        inbox.requests.push_back(request);
        let wakes = inbox.requests.len() == inbox.wake_at;
        drop(inbox);
        if wakes {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Takes a request back that was accepted before, here or in another lane, by the map of this
    /// generation. It keeps its number, and the bounds do not turn it away.
    ///
    /// # Errors
    /// The request, if the queue is closed, or a barrier is newer than the map.
    #[expect(
        clippy::result_large_err,
        reason = "the request itself goes back to its caller"
    )]
    pub fn push_again(&self, request: Request, generation: u64) -> Result<(), (Request, Refused)> {
        let mut inbox = self.lock();
        if inbox.closed {
            return Err((request, Refused::Closed));
        }
        if generation < inbox.generation_min {
            return Err((request, Refused::Stale));
        }
        self.readmit(1, request.operation.bytes());
        inbox.requests.push_back(request);
        inbox.out_of_order = true;
        drop(inbox);
        self.ready.notify_one();
        Ok(())
    }

    /// Moves what callers pushed to the worker's backlog, which is in the order of arrival.
    pub fn drain_into(&self, backlog: &mut VecDeque<Request>) {
        move_into(self.lock(), backlog);
    }

    /// [`Self::drain_into`], with the barriers. The worker drops each, and so passes it, once the
    /// statements that were out when it took it are back.
    #[must_use]
    pub fn take_into(&self, backlog: &mut VecDeque<Request>) -> Vec<oneshot::Sender<()>> {
        let mut inbox = self.lock();
        let barriers = std::mem::take(&mut inbox.barriers);
        move_into(inbox, backlog);
        barriers
    }

    /// Accepts from now on only what was routed by maps of this generation or later; ends when the
    /// worker has gone through everything that was accepted before.
    pub fn barrier(&self, generation: u64) -> oneshot::Receiver<()> {
        let (passed, wait) = oneshot::channel();
        let mut inbox = self.lock();
        inbox.generation_min = inbox.generation_min.max(generation);
        if !inbox.closed {
            inbox.barriers.push(passed);
        }
        drop(inbox);
        self.ready.notify_one();
        wait
    }

    /// Has the worker look at its backlog again.
    pub fn wake(&self) {
        self.ready.notify_one();
    }

    /// Ends everything in it after its worker died, and is empty.
    pub fn abandon(&self) {
        let mut inbox = self.lock();
        let requests = std::mem::take(&mut inbox.requests);
        inbox.barriers.clear();
        self.keys.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        drop(inbox);
        drop(requests);
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

    /// Has the worker woken when so many requests are in the queue, or at once if they are already.
    pub fn wake_at(&self, requests: usize) {
        let mut inbox = self.lock();
        inbox.wake_at = requests;
        let wakes = inbox.requests.len() >= requests;
        drop(inbox);
        if wakes {
            self.ready.notify_one();
        }
    }

    /// Waits until there may be something to do: see [`Self::wake_at`], or the queue was closed.
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

fn move_into(mut inbox: MutexGuard<'_, Inbox>, backlog: &mut VecDeque<Request>) {
    if backlog.is_empty() {
        std::mem::swap(backlog, &mut inbox.requests);
    } else {
        backlog.append(&mut inbox.requests);
    }
    let out_of_order = std::mem::take(&mut inbox.out_of_order);
    drop(inbox);
    if out_of_order {
        let requests = backlog.make_contiguous();
        requests.sort_unstable_by_key(|request| request.number);
    }
}

#[cfg(test)]
mod tests {
    use freehold_core::Key;
    use tokio::time::Instant;

    use super::*;
    use crate::request::{Level, Operation, Reply};

    const LIMITS: QueueLimits = QueueLimits {
        keys_max: 2,
        bytes_max: 1 << 20,
    };

    fn request() -> (Request, oneshot::Receiver<crate::request::Ending>) {
        let (sender, receiver) = oneshot::channel();
        let operation = Operation::Delete(Key::new("k").unwrap());
        let (now, reply) = (Instant::now(), Reply::One(sender));
        let request = Request::new(operation, Level::Strong, now, now, reply);
        (request, receiver)
    }

    #[tokio::test]
    async fn what_comes_from_another_lane_stands_where_it_arrived() {
        let arrivals = Arc::new(Arrivals::default());
        let (former, new) = (
            Queue::new(LIMITS, arrivals.clone()),
            Queue::new(LIMITS, arrivals),
        );
        let mut callers = Vec::new();
        let mut push = |queue: &Queue| {
            let (request, caller) = request();
            callers.push(caller);
            queue.push(request, 0).unwrap();
        };
        let (mut there, mut here) = (VecDeque::new(), VecDeque::new());
        push(&former);
        push(&former);
        push(&new);
        new.drain_into(&mut here);
        push(&new);
        former.drain_into(&mut there);
        // Over the bound: they were accepted before. And in pieces, the later one first.
        new.push_again(there.pop_back().unwrap(), 0).unwrap();
        new.drain_into(&mut here);
        new.push_again(there.pop_back().unwrap(), 0).unwrap();
        new.drain_into(&mut here);
        let numbers: Vec<u64> = here.iter().map(|request| request.number).collect();
        assert_eq!((numbers, new.keys()), (vec![1, 2, 3, 4], 4));
    }

    #[tokio::test]
    async fn behind_a_barrier_older_maps_count_no_more() {
        let queue = Queue::new(LIMITS, Arc::default());
        let (early, _early_caller) = request();
        queue.push(early, 4).unwrap();
        let mut passed = queue.barrier(5);
        for generation in [4, 5] {
            let (late, _caller) = request();
            let pushed = queue.push(late, generation).map_err(|(_, refused)| refused);
            let expected = if generation < 5 {
                Err(Refused::Stale)
            } else {
                Ok(())
            };
            assert_eq!(pushed, expected);
        }
        // Draining takes requests, not barriers.
        let mut backlog = VecDeque::new();
        queue.drain_into(&mut backlog);
        assert!(
            passed
                .try_recv()
                .is_err_and(|error| error == oneshot::error::TryRecvError::Empty)
        );
        let barriers = queue.take_into(&mut backlog);
        assert_eq!((barriers.len(), backlog.len()), (1, 2));
        drop(barriers);
        assert!(
            passed
                .try_recv()
                .is_err_and(|error| error == oneshot::error::TryRecvError::Closed)
        );
    }
}
