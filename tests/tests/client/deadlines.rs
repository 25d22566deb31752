//! Every call ends by its deadline, with the truth.

use std::time::Duration;

use freehold_client::{Client, ClientOptions, Error};
use freehold_tests::Router;
use tokio::time::Instant;

use crate::scene::{PATIENT, Result, client, options};

const SHORT: Duration = Duration::from_millis(500);

/// Far below [`PATIENT`], for a machine with too much to do.
const SOON: Duration = Duration::from_secs(10);

fn reason_of<T: std::fmt::Debug>(ended: Result<T, Error>) -> String {
    match ended {
        Err(Error::NotApplied { reason, .. }) => reason,
        Err(Error::OutcomeUnknown { .. }) => "unknown".to_owned(),
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_router_keeps_no_caller_past_its_deadline() -> Result<()> {
    let mut router = Router::embedded().await?;
    let options = ClientOptions {
        in_flight_max: 2,
        keepalive_interval: PATIENT * 10,
        ..options()
    };
    let client = client(&[&router], &options).await?;
    client.put("k", "0").await?;
    router.freeze()?;
    let began = Instant::now();
    let (write, read, third) = tokio::join!(
        client.put("k", "1").timeout(SHORT),
        client.get("k").timeout(SHORT),
        client.put("other", "1").timeout(SHORT),
    );
    let took = began.elapsed();
    assert!(took >= SHORT && took < SOON, "{took:?}");
    assert_eq!(reason_of(write), "unknown", "it was sent");
    assert_eq!(reason_of(read), "NO_ANSWER", "a read has no outcome");
    assert_eq!(reason_of(third), "NOT_SENT", "two are in flight already");
    // The answers that come late make room.
    router.thaw()?;
    client.put("k", "2").await?;
    let reply = client.get("k").await?;
    assert_eq!(reply.value().ok_or("it is gone")?, "2");
    assert_eq!(
        client.get("other").await?.value(),
        None,
        "it was never sent"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_stays_silent_is_given_up_for_another() -> Result<()> {
    let (mut a, mut b) = tokio::try_join!(Router::embedded(), Router::embedded())?;
    let options = ClientOptions {
        keepalive_interval: SHORT,
        keepalive_timeout: SHORT,
        ..options()
    };
    let client = client(&[&a, &b], &options).await?;
    client.put("k", "1").await?;
    let has_it = |reply: freehold_client::GetReply| reply.value().is_some();
    let at_a = crate::scene::client(&[&a], &options)
        .await?
        .get("k")
        .await?;
    let frozen = if has_it(at_a) { &mut a } else { &mut b };
    frozen.freeze()?;
    // A read that is lost goes to the other one, which does not have the key.
    let reply = client.get("k").await?;
    assert_eq!(reply.value(), None);
    frozen.thaw()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_a_silent_router_did_not_answer_is_the_last_that_goes_there() -> Result<()> {
    let (mut a, b) = tokio::try_join!(Router::embedded(), Router::embedded())?;
    let options = ClientOptions {
        reconnect_delay_min: PATIENT,
        reconnect_delay_max: PATIENT,
        keepalive_interval: PATIENT * 10,
        ..options()
    };
    let client = client(&[&a, &b], &options).await?;
    a.freeze()?;
    let mut unanswered = 0;
    for _ in 0..10 {
        let reply = client.batch_get(["k"]).timeout(PATIENT / 10).await;
        unanswered += usize::from(reply.is_err());
    }
    a.thaw()?;
    assert_eq!(unanswered, 1, "every other one would have gone there");
    Ok(())
}

#[tokio::test]
async fn a_full_client_says_so_at_once_and_forgets_whom_nobody_awaits() -> Result<()> {
    let options = ClientOptions {
        waiting_max: 2,
        ..options()
    };
    // Port 1 of this host: nobody listens there.
    let client = Client::connect_lazily("127.0.0.1:1", &options)?;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut call = Box::pin(client.put("k", "1"));
        assert!(futures::poll!(&mut call).is_pending());
        waiting.push(call);
    }
    assert_eq!(reason_of(client.put("k", "1").await), "CLIENT_FULL");
    // A call that is dropped makes room.
    waiting.pop();
    let mut call = Box::pin(client.put("k", "1"));
    assert!(futures::poll!(&mut call).is_pending());
    Ok(())
}
