//! A connection that is opened when it is needed, and never used again after it failed.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use freehold_storage::{Server, StorageError, SweepConnection};
use tokio::time::{Instant, timeout};

/// A connection that was idle for longer is not trusted: servers and firewalls drop such ones
/// without a word.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Which of a shard's servers leads it now, by its place among them.
pub type Leader = Arc<dyn Fn() -> usize + Send + Sync>;

/// Where connections come from: a server, or a test's fake of one.
#[async_trait]
pub(crate) trait Dial: Clone + Send + Sync + 'static {
    async fn dial(&self) -> Result<Box<dyn SweepConnection>, StorageError>;

    /// For people: no user, no password.
    fn address(&self) -> &str;
}

#[async_trait]
impl Dial for Server {
    async fn dial(&self) -> Result<Box<dyn SweepConnection>, StorageError> {
        self.connect_sweep().await
    }

    fn address(&self) -> &str {
        Self::address(self)
    }
}

/// At most one connection to a server.
///
/// Whoever uses it takes it out, and puts it back only if it is still good: what was dropped half
/// way or got no answer is never used again.
pub(crate) struct Link<D> {
    server: D,
    idle: Option<(Box<dyn SweepConnection>, Instant)>,
}

impl<D: Dial> Link<D> {
    pub(crate) fn new(server: D) -> Self {
        Self { server, idle: None }
    }

    pub(crate) fn address(&self) -> &str {
        self.server.address()
    }

    pub(crate) async fn take(
        &mut self,
        time_max: Duration,
    ) -> Result<Box<dyn SweepConnection>, StorageError> {
        match self.idle.take() {
            Some((connection, since)) if since.elapsed() < IDLE_TIME_MAX => Ok(connection),
            _ => within(time_max, "a connection attempt", self.server.dial()).await,
        }
    }

    /// Drops the connection, if there is one.
    pub(crate) fn close(&mut self) {
        self.idle = None;
    }

    pub(crate) fn put_back(&mut self, connection: Box<dyn SweepConnection>) {
        self.idle = Some((connection, Instant::now()));
    }
}

/// Waits for an answer up to a limit: a frozen server keeps its connections open for ever.
pub(crate) async fn within<T>(
    time_max: Duration,
    what: &str,
    answer: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    timeout(time_max, answer).await.unwrap_or_else(|_| {
        Err(StorageError::Lost {
            reason: format!("no answer to {what} within {time_max:?}").into(),
        })
    })
}

/// How long to wait after so many failures in a row: it doubles, up to a limit.
pub(crate) fn retry_after(failures: u32, min: Duration, max: Duration) -> Duration {
    // Beyond that the limit is reached whatever it is.
    let doublings = failures.saturating_sub(1).min(20);
    (min * (1 << doublings)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_double_up_to_their_limit() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let waits: Vec<_> = (1..=8)
            .map(|failures| retry_after(failures, min, max).as_millis())
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(retry_after(u32::MAX, min, max), max);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_a_lost_connection_after_the_limit() {
        let silence = std::future::pending::<Result<(), StorageError>>();
        let error = within(Duration::from_secs(2), "a ping", silence)
            .await
            .unwrap_err();
        assert!(error.breaks_connection());
        assert!(
            error.to_string().contains("no answer to a ping within 2s"),
            "{error}"
        );
    }
}
