//! Writes of one lane keep their order, also across a connection that the lane gave up.

use std::time::Duration;

use freehold_tests::{Engine, Login, Proxy, Router, Server, Shard};
use tonic::Code;

use crate::{
    scene::{Result, until},
    wire::{self, Stub},
};

const KEY: &str = "k";

const PATIENT: Duration = Duration::from_secs(20);

/// Stores the key and says which session did: it is seen waiting for a lock that is held meanwhile.
async fn put_and_find_session(server: &Server, stub: &Stub) -> Result<u64> {
    let (mut holder, mut sql) = tokio::try_join!(server.connect(), server.connect())?;
    holder
        .run("BEGIN; SELECT stamp FROM shard FOR UPDATE")
        .await?;
    let mut found = None;
    let find = async {
        until("a session to write", async || {
            let sessions = sql.other_sessions().await?;
            let mut writers = sessions
                .iter()
                .filter(|session| session.statement.starts_with("REPLACE INTO store"));
            found = writers.next().map(|session| session.id);
            Ok(found.is_some())
        })
        .await?;
        holder.close().await?;
        Result::<()>::Ok(())
    };
    let (put, ended) = tokio::join!(wire::put(stub, KEY, "before", PATIENT), find);
    ended?;
    match (put.code, found) {
        (Code::Ok, Some(session)) => Ok(session),
        _ => Err(format!("{put:?}").into()),
    }
}

/// The network keeps a write until the lane has given it up, opened another connection and stored a
/// later write of the same key. Then it arrives.
async fn a_write_that_was_given_up_is_not_stored_over_a_later_one(engine: Engine) -> Result<()> {
    let server = Server::of(engine).await?;
    let proxy = Proxy::to(&server).await?;
    let shard = Shard {
        name: "a".to_owned(),
        master: proxy.dsn(&server, &Login::admin()),
        replicas: Vec::new(),
    };
    let more = "[lanes]\nstatement_timeout_ms = 2100\n";
    let router = Router::init_and_serve(&[shard], more).await?;
    let stub = wire::stub(&router).await?;

    let mut former = 0;
    until("a write to be on its way", async || {
        former = put_and_find_session(&server, &stub).await?;
        proxy.hold();
        let early = wire::put(&stub, KEY, "early", Duration::from_millis(500)).await;
        if early.reason == "OUTCOME_UNKNOWN" {
            return Ok(true);
        }
        // A lane that was idle for a moment asks first whether its connection lives.
        proxy.release();
        Ok(false)
    })
    .await?;
    until("the later write", async || {
        Ok(wire::put(&stub, KEY, "later", PATIENT).await.code == Code::Ok)
    })
    .await?;
    proxy.release();
    let mut sql = server.connect().await?;
    until("the session that was given up to end", async || {
        let sessions = sql.other_sessions().await?;
        Ok(sessions.iter().all(|session| session.id != former))
    })
    .await?;
    let stored: Vec<u8> = sql.one("SELECT value FROM store").await?;
    assert_eq!(String::from_utf8_lossy(&stored), "later");
    let read = router.cli(&["get", KEY]).await?.success()?;
    assert_eq!(read.trim_end(), "later");
    Ok(())
}

on_servers!(a_write_that_was_given_up_is_not_stored_over_a_later_one);
