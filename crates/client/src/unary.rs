//! Calls that use no pipe: batches and scans, one gRPC call each, to any router.

use std::time::Duration;

use freehold_proto::v1::key_value_client::KeyValueClient;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Response, Status, transport::Channel};

use crate::{
    client::{Client, MESSAGE_BYTES_MAX, deadline_of},
    error::{CallKind, Error, Failure, NOT_SENT, is_a_routers},
    retry::Again,
};

/// Calls until an answer comes, the error is final, or `timeout` is over. `send` is given what is
/// left of it.
pub(crate) async fn call<T, F>(
    client: &Client,
    kind: CallKind,
    timeout: Duration,
    send: impl Fn(KeyValueClient<Channel>, Duration) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let deadline = deadline_of(Instant::now(), timeout);
    let (mut attempts, mut unsent) = (0, 0);
    loop {
        let failure = match attempt(client, kind, deadline, &send).await {
            Ok(answer) => {
                client.retries().earn(1);
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        let was_sent =
            !matches!(&failure.error, Error::NotApplied { reason, .. } if reason == NOT_SENT);
        attempts += u32::from(was_sent);
        let Some(mut pause) = client.retries().again(failure.again, attempts) else {
            return Err(failure.error);
        };
        if failure.again == Again::Elsewhere {
            // There may be no other router.
            unsent += 1;
            pause = client.retries().pause(unsent);
        }
        if Instant::now() + pause >= deadline {
            return Err(failure.error);
        }
        sleep(pause).await;
    }
}

async fn attempt<T, F>(
    client: &Client,
    kind: CallKind,
    deadline: Instant,
    send: &impl Fn(KeyValueClient<Channel>, Duration) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let Some((router, channel)) = client.routers().channel(client.next_turn()) else {
        let trouble = client.routers().trouble();
        let error = Error::not_sent(&format!("no router is known: {trouble}"));
        let again = Again::Elsewhere;
        return Err(Failure { error, again });
    };
    let stub = KeyValueClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let left = deadline.saturating_duration_since(Instant::now());
    match timeout_at(deadline, send(stub, left)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => {
            let failure = Failure::of_status(&status, kind);
            if failure.again == Again::Elsewhere || !is_a_routers(&status) {
                let trouble = status.message().to_owned();
                client.routers().failed(&router, trouble);
            }
            Err(failure)
        }
        Err(_) => {
            let words = "the deadline passed before the answer came".to_owned();
            // A router answers before it does, unless something is wrong with it.
            client.routers().failed(&router, words.clone());
            let again = Again::Never;
            Err(Failure {
                error: Error::no_answer(words, kind),
                again,
            })
        }
    }
}
