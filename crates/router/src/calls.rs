//! From a validated operation to its ending, whatever the service that asks.

use std::{sync::Arc, time::Duration};

use freehold_core::{Key, Route, limits::RESPONSE_BYTES_MAX};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    budget::Budgets,
    failure::Failure,
    reloads::Reloads,
    request::{AnswerBudget, Answers, Ending, Level, Numbered, Operation, Reply, Request},
    settings::RouterSettings,
    shards::Shards,
    validate::Validator,
    versions::Versions,
};

/// Longer than any stream, and far from the end of the clock.
const STREAM_TIMEOUT_MAX: Duration = Duration::from_secs(365 * 86_400);

/// What every service method needs.
#[derive(Debug)]
pub struct Calls {
    /// Map and queues.
    pub shards: Arc<Shards>,
    /// What the operator chose.
    pub settings: RouterSettings,
    /// Limits of requests.
    pub validator: Validator,
    /// For stored rows.
    pub versions: Versions,
    /// What all calls share.
    pub budgets: Budgets,
    /// How the config file is followed.
    pub reloads: Reloads,
    /// Cancelled when no new work is taken any more.
    pub draining: CancellationToken,
}

impl Calls {
    /// Sends one operation and waits for its ending. The lanes see to it that it comes by the
    /// deadline.
    ///
    /// # Errors
    /// Any [`Failure`].
    pub async fn ask(&self, operation: Operation, level: Level, deadline: Instant) -> Ending {
        let (sender, receiver) = oneshot::channel();
        let request = Request::new(
            operation,
            level,
            Instant::now(),
            deadline,
            Reply::One(sender),
        );
        self.shards.dispatch(request);
        // A request answers when it is dropped, so the sender never just disappears.
        receiver.await.unwrap_or(Err(Failure::ShuttingDown))
    }

    /// Sends many operations, in order, and waits for all endings. They run in parallel over lanes
    /// and shards.
    pub async fn ask_all(
        &self,
        operations: Vec<Result<Operation, Failure>>,
        level: Level,
        deadline: Instant,
    ) -> Vec<Ending> {
        let count = operations.len();
        let (channel, mut endings) = mpsc::channel(count.max(1));
        // All of them go into one response.
        let budget = Arc::new(AnswerBudget::new(RESPONSE_BYTES_MAX));
        let answers = Arc::new(Answers { channel, budget });
        let received = Instant::now();
        let mut results: Vec<Option<Ending>> = Vec::with_capacity(count);
        for (id, operation) in (0..).zip(operations) {
            match operation {
                Ok(operation) => {
                    let answers = answers.clone();
                    let reply = Reply::Numbered { id, answers };
                    results.push(None);
                    let level = level.clone();
                    self.shards
                        .dispatch(Request::new(operation, level, received, deadline, reply));
                }
                Err(failure) => {
                    self.shards.unrouted.refused(&failure);
                    results.push(Some(Err(failure)));
                }
            }
        }
        drop(answers);
        while let Some(Numbered { id, ending, .. }) = endings.recv().await {
            let index = usize::try_from(id).unwrap_or(usize::MAX);
            if let Some(result) = results.get_mut(index) {
                *result = Some(ending);
            }
        }
        results
            .into_iter()
            .map(|ending| ending.unwrap_or(Err(Failure::ShuttingDown)))
            .collect()
    }

    /// The name of the shard that serves an operation's key; empty if none does.
    #[must_use]
    pub fn owner(&self, operation: &Operation) -> &str {
        let slot = operation.key().map(Key::slot);
        match slot.map(|slot| self.shards.map.load().route(slot)) {
            Some(Route::Owner { shard, .. }) => &self.shards.shard(shard).name,
            _ => "",
        }
    }

    /// The deadline of a call that arrived now.
    #[must_use]
    pub fn deadline(&self, metadata: &tonic::metadata::MetadataMap) -> Instant {
        Instant::now() + crate::deadline::time_allowed(metadata, self.settings.request_timeout)
    }

    /// The deadline that the caller of a stream gave, if it gave one: a stream may outlast any
    /// single request.
    #[must_use]
    pub fn stream_deadline(metadata: &tonic::metadata::MetadataMap) -> Option<Instant> {
        metadata
            .contains_key("grpc-timeout")
            .then(|| Instant::now() + crate::deadline::time_allowed(metadata, STREAM_TIMEOUT_MAX))
    }

    /// The longest that a request may take.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.settings.request_timeout
    }
}
