//! Lanes that go on after a mistake in this program.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tokio::time::sleep;

use crate::queue::Queue;

/// How long a lane rests after a panic, lest the same cause fills the log.
const PAUSE_AFTER_PANIC: Duration = Duration::from_millis(100);

/// Runs a lane until it ends. A panic in it, which is a mistake in this program, ends every request
/// it had with the truth for its stage, and a new lane goes on with the same queue: it is told that
/// there was one before.
pub(super) async fn run_again_after_panics<F: Future<Output = ()>>(
    queue: Arc<Queue>,
    lane: impl Fn(bool) -> F,
) {
    let mut after_panic = false;
    while AssertUnwindSafe(lane(after_panic))
        .catch_unwind()
        .await
        .is_err()
    {
        after_panic = true;
        queue.abandon();
        tracing::error!("a lane panicked: its requests were ended, and it starts again");
        sleep(PAUSE_AFTER_PANIC).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use freehold_core::Key;
    use tokio::{sync::oneshot, time::Instant};

    use super::*;
    use crate::{
        failure::Failure,
        queue::QueueLimits,
        request::{Answer, Level, Operation, Reply, Request, Stage},
    };

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_panics_ends_what_it_had_and_serves_what_comes_next() {
        let limits = QueueLimits {
            keys_max: 2,
            bytes_max: 1 << 20,
        };
        let queue = Arc::new(Queue::new(limits, Arc::default()));
        let ask = || {
            let (sender, receiver) = oneshot::channel();
            let key = Operation::Delete(Key::new("k").unwrap());
            let (now, reply) = (Instant::now(), Reply::One(sender));
            let request = Request::new(key, Level::Strong, now, now, reply);
            queue.push(request, 0).unwrap();
            receiver
        };
        let lane = |after_panic: bool| {
            let queue = &queue;
            async move {
                queue.wake_at(1);
                queue.ready().await;
                let mut backlog = VecDeque::new();
                queue.drain_into(&mut backlog);
                if !after_panic {
                    backlog[0].stage = Stage::Sent;
                    panic!("a mistake");
                }
                for request in &mut backlog {
                    request.end(Ok(Answer::Existed(true, bytes::Bytes::new())));
                }
            }
        };
        let lanes = run_again_after_panics(queue.clone(), lane);
        let callers = async {
            let (sent, waiting) = (ask(), ask());
            let sent = sent.await.unwrap();
            assert!(
                matches!(sent, Err(Failure::OutcomeUnknown { .. })),
                "{sent:?}"
            );
            let waiting = waiting.await.unwrap();
            assert!(matches!(waiting, Err(Failure::ShuttingDown)), "{waiting:?}");
            // Both places are free again.
            for answered in [ask(), ask()] {
                assert!(matches!(
                    answered.await.unwrap(),
                    Ok(Answer::Existed(true, _))
                ));
            }
        };
        tokio::join!(lanes, callers);
    }
}
