//! Another server at the master's address: a copy of the master shows a copy of its fence.

use std::time::Duration;

use freehold_tests::{Answer, Engine, Login, Proxy, Router, Server, Shard, replication};
use tonic::Code;

use crate::{
    scene::{Result, until},
    wire,
};

const IMPATIENT: Duration = Duration::from_millis(500);

async fn ask(router: &Router, command: &[&str]) -> Result<Answer> {
    Ok(router.cli(command).await?)
}

/// The replica is behind. What it has must not be given out as the latest acknowledged write, by no
/// kind of read, from the first moment on. All is served as soon as the master is back.
async fn a_replica_in_the_masters_place_answers_no_strong_read(engine: Engine) -> Result<()> {
    let master = Server::of(engine).await?;
    let replica = replication::start_replica(&master).await?;
    let proxy = Proxy::to(&master).await?;
    let shard = Shard {
        name: "a".to_owned(),
        master: proxy.dsn(&master, &Login::admin()),
        replicas: Vec::new(),
    };
    let router = Router::init_and_serve(&[shard], "").await?;
    ask(&router, &["put", "k", "old"]).await?.success()?;
    replication::wait_until_caught_up(&master, &replica).await?;
    replication::stop_applier(&replica).await?;
    ask(&router, &["put", "k", "new"]).await?.success()?;

    proxy.lead_to(&replica);
    let stub = wire::stub(&router).await?;
    let mut asked = 0;
    until("the router to have met the replica", async || {
        let get = wire::get(&stub, "k", IMPATIENT).await;
        assert_ne!(get.code, Code::Ok, "a read was answered");
        let put = wire::put(&stub, "k", "newer", IMPATIENT).await;
        assert_ne!(put.code, Code::Ok, "a write was applied");
        asked += 1;
        let shards = router.admin_cli(&["shards", "--json"]).await?.success()?;
        Ok(asked >= 10 && shards.contains("not adopted"))
    })
    .await?;
    for command in [&["ttl", "k"][..], &["scan"]] {
        let answer = ask(&router, command).await?;
        assert!(answer.success().is_err(), "{command:?} was answered");
    }

    proxy.lead_to(&master);
    until("the master to be served again", async || {
        let Ok(value) = ask(&router, &["get", "k"]).await?.success() else {
            return Ok(false);
        };
        assert_eq!(value.trim_end(), "new");
        Ok(true)
    })
    .await
}

on_servers!(a_replica_in_the_masters_place_answers_no_strong_read);
