//! A server that is down when the router starts.

use std::time::Duration;

use freehold_tests::{Engine, Router, Server};
use tonic::Code;

use crate::{
    scene::{Result, keys_of, shards, until},
    wire,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// The two masters are of different kinds: a cluster may mix them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_at_start_keeps_no_other_from_serving_and_joins_later() -> Result<()>
{
    let (a, b) = tokio::try_join!(Server::of(Engine::MariaDb), Server::of(Engine::MySql))?;
    let mut masters = [a, b];
    let mut router = Router::configure(&shards(&masters), "")?;
    router.init().await?.success()?;
    masters[1].kill();
    router.launch()?;
    router
        .wait_for_health("the other shard up", |status, _| status == 200)
        .await?;

    let stub = wire::stub(&router).await?;
    for key in keys_of(0, 2, "here").take(20) {
        let stored = wire::put(&stub, &key, "1", TIMEOUT).await;
        assert_eq!(stored.code, Code::Ok, "{key}: {stored:?}");
        let read = wire::get(&stub, &key, TIMEOUT).await;
        assert_eq!(read.code, Code::Ok, "{key}: {read:?}");
    }
    for key in keys_of(1, 2, "there").take(20) {
        for refused in [
            wire::put(&stub, &key, "0", TIMEOUT).await,
            wire::get(&stub, &key, TIMEOUT).await,
        ] {
            assert_eq!(refused.code, Code::Unavailable, "{key}: {refused:?}");
            assert_eq!(refused.reason, "SHARD_UNAVAILABLE", "{key}: {refused:?}");
            assert!(
                refused.message.contains('b'),
                "names the shard: {refused:?}"
            );
            assert!(
                refused.took < TIMEOUT,
                "at once, not at the deadline: {refused:?}"
            );
        }
    }
    let (_, health) = router.http_get("/healthz").await?;
    let health: serde_json::Value = serde_json::from_str(&health)?;
    assert_eq!(health["shards"]["a"]["up"], true, "{health}");
    assert_eq!(health["shards"]["b"]["up"], false, "{health}");

    masters[1].start_again().await?;
    let mut keys = keys_of(1, 2, "there");
    until("the late server to be served", async || {
        let key = keys.next().expect("endless");
        Ok(wire::put(&stub, &key, "1", TIMEOUT).await.code == Code::Ok)
    })
    .await?;
    let rows = crate::table::rows(&masters[1]).await?;
    assert!(
        rows.iter().all(|row| row.value == "1"),
        "what was refused is not there: {rows:?}"
    );
    Ok(())
}
