//! Calls on one key that nobody awaits in between.

use freehold_client::ClientOptions;
use freehold_tests::Router;
use futures::future::join_all;

use crate::scene::{Result, client, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_to_one_key_are_applied_in_the_order_of_their_calls() -> Result<()> {
    let router = Router::embedded().await?;
    let options = ClientOptions {
        streams: 4,
        // Most of them wait here.
        in_flight_max: 8,
        ..options()
    };
    let client = client(&[&router], &options).await?;
    for round in 0..20 {
        let key = format!("k{round}");
        let calls = (0..200).map(|number| client.put(key.clone(), format!("{number}")));
        for reply in join_all(calls).await {
            reply?;
        }
        let reply = client.get(key).await?;
        assert_eq!(reply.value().ok_or("it is gone")?, "199");
    }
    Ok(())
}

/// A value of 1 MiB each way, far more than is handed out at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_and_small_ones_share_a_stream() -> Result<()> {
    let router = Router::embedded().await?;
    let client = client(&[&router], &options()).await?;
    let value = |number: usize| {
        vec![
            b'x';
            if number.is_multiple_of(8) {
                1 << 20
            } else {
                10
            }
        ]
    };
    let puts = (0..64).map(|number| client.put(format!("k{number}"), value(number)));
    for reply in join_all(puts).await {
        reply?;
    }
    let gets = (0..64).map(|number| client.get(format!("k{number}")));
    for (number, reply) in join_all(gets).await.into_iter().enumerate() {
        assert_eq!(reply?.value().ok_or("it is gone")?, &value(number));
    }
    // More than an answer holds: the rest is asked for again.
    let keys = (0..64).map(|number| format!("k{number}"));
    for (number, reply) in client.batch_get(keys).await?.into_iter().enumerate() {
        assert_eq!(reply?.value().ok_or("it is gone")?, &value(number));
    }
    Ok(())
}
