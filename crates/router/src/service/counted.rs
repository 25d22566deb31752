//! A stream of responses that is counted as one request when it ends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{Stream, StreamExt as _};
use tonic::{Code, Status};

use super::ResponseStream;
use crate::metrics::Metrics;

/// Counts on its end: with its last status, or as cancelled by the caller.
pub(super) struct Counted<T> {
    responses: ResponseStream<T>,
    method: &'static str,
    metrics: Metrics,
    code: Code,
}

impl<T> Counted<T> {
    pub(super) fn new(
        responses: ResponseStream<T>,
        method: &'static str,
        metrics: Metrics,
    ) -> Self {
        Self {
            responses,
            method,
            metrics,
            code: Code::Cancelled,
        }
    }
}

impl<T> Stream for Counted<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let response = ready!(self.responses.poll_next_unpin(cx));
        match &response {
            Some(Ok(_)) => {}
            Some(Err(status)) => self.code = status.code(),
            None if self.code == Code::Cancelled => self.code = Code::Ok,
            None => {}
        }
        Poll::Ready(response)
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        self.metrics.request(self.method, self.code);
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn counted(metrics: &Metrics, items: Vec<Result<u8, Status>>) -> Counted<u8> {
        Counted::new(Box::pin(stream::iter(items)), "Scan", metrics.clone())
    }

    #[tokio::test]
    async fn a_stream_counts_once_with_how_it_ended() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        counted(&metrics, vec![Ok(1), Ok(2)]).count().await;
        counted(&metrics, vec![Ok(1), Err(Status::aborted(""))])
            .count()
            .await;
        let mut broken_off = counted(&metrics, vec![Ok(1), Ok(2)]);
        broken_off.next().await;
        drop(broken_off);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for code in ["OK", "ABORTED", "CANCELLED"] {
            let line = format!(r#"requests_total{{method="Scan",shard="",code="{code}"}} 1"#);
            assert!(text.contains(&line), "{line} is missing in {text}");
        }
    }
}
