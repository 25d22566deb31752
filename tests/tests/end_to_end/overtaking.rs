//! Writes to one key keep their order, also across a connection that a lane gave up, and across a
//! change of owners.

use std::time::Duration;

use freehold_proto::v1::{self, pipeline_response::Response};
use freehold_tests::{Engine, Login, Proxy, Router, Server, Shard};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    fence::Moved,
    scene::{NAMES, Result, keys_of, until},
    wire::{self, Stub, Verdict},
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
    let more = "[lanes]\nstatement_timeout_ms = 3500\n";
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

/// A stream, and what comes back on it.
struct Stream {
    sender: mpsc::Sender<v1::PipelineRequest>,
    responses: tonic::Streaming<v1::PipelineResponse>,
}

impl Stream {
    async fn open(router: &Router) -> Result<Self> {
        let (sender, outbound) = mpsc::channel(8);
        let mut stub = wire::stub(router).await?;
        let responses = stub.pipeline(ReceiverStream::new(outbound)).await?;
        let responses = responses.into_inner();
        Ok(Self { sender, responses })
    }

    async fn put(&self, id: u64, key: &str, value: &str) -> Result<()> {
        let request = Some(wire::pipelined_put(key, value));
        let timeout = None;
        let request = v1::PipelineRequest {
            id,
            request,
            timeout,
        };
        Ok(self.sender.send(request).await?)
    }

    async fn answer(&mut self) -> Result<Option<v1::PipelineResponse>> {
        Ok(self.responses.message().await?)
    }
}

/// One write is on its way to the former owner when its slot changes hands; the router hears of the
/// new owner, and the caller goes on writing. Then the former owner turns the first one away.
/// Says whether the second write had to wait for the first, for as long as the first was `held`, and
/// how the first ended.
async fn write_across_a_change_of_owners(engine: Engine, held: Duration) -> Result<(bool, Code)> {
    let moved = Moved::new();
    let (old, new) = moved.owners();
    let masters = tokio::try_join!(Server::of(engine), Server::of(engine))?;
    let masters: [Server; 2] = masters.into();
    let proxy = Proxy::to(&masters[old]).await?;
    let mut shards: Vec<Shard> = (0..2)
        .map(|place| Shard::new(NAMES[place], &masters[place], &[]))
        .collect();
    shards[old].master = proxy.dsn(&masters[old], &Login::admin());
    let router = Router::init_and_serve(&shards, "[server]\nrequest_timeout_ms = 60000\n").await?;
    let mut stream = Stream::open(&router).await?;
    let key = moved.keys[0].as_str();
    stream.put(0, key, "before").await?;
    assert!(matches!(
        stream.answer().await?,
        Some(v1::PipelineResponse {
            response: Some(Response::Put(_)),
            ..
        })
    ));

    proxy.hold();
    let kept = proxy.kept();
    stream.put(1, key, "first").await?;
    until("the first write to be on its way", async || {
        Ok(proxy.kept() > kept)
    })
    .await?;
    moved.change_hands(&masters).await?;
    // A write to the new owner shows the router its fence.
    let elsewhere = keys_of(new, 2, "others").next().ok_or("a key")?;
    router.cli(&["put", &elsewhere, "1"]).await?.success()?;
    until("the router to know the new owner", async || {
        let way = router
            .admin_cli(&["explain", key, "--json"])
            .await?
            .success()?;
        let way: serde_json::Value = serde_json::from_str(&way)?;
        Ok(way["shard"] == NAMES[new])
    })
    .await?;
    stream.put(2, key, "second").await?;
    // Long enough for it to be stored now, if nothing keeps it back.
    let mut answers = Vec::new();
    if let Ok(early) = timeout(held, stream.answer()).await {
        answers.extend(early?);
    }
    let waited = answers.is_empty();
    proxy.release();
    while answers.len() < 2 {
        answers.push(stream.answer().await?.ok_or("an answer")?);
    }
    answers.sort_by_key(|answer| answer.id);
    let verdicts = answers.iter();
    let verdicts = verdicts.map(|answer| Verdict::of_item(&answer.response, held));
    let verdicts: Vec<Verdict> = verdicts.collect();
    assert_eq!(verdicts[1].code, Code::Ok, "{verdicts:?}");
    let first = (verdicts[0].code, verdicts[0].reason.as_str());
    let told = [(Code::Ok, ""), (Code::Unavailable, "SHARD_UNAVAILABLE")];
    assert!(told.contains(&first), "{verdicts:?}");
    let mut sql = masters[new].connect().await?;
    let stored = format!("SELECT value FROM store WHERE `key` = '{key}'");
    let stored: Vec<u8> = sql.one(&stored).await?;
    assert_eq!(String::from_utf8_lossy(&stored), "second");
    Ok((waited, first.0))
}

/// The former owner answers soon: both are stored, one after the other.
async fn a_change_of_owners_swaps_no_writes(engine: Engine) -> Result<()> {
    let seen = write_across_a_change_of_owners(engine, Duration::from_millis(300)).await?;
    println!("the second waited, the first ended: {seen:?}");
    Ok(())
}

/// The former owner hangs: the second does not wait for ever, and the first is not stored after it.
async fn a_former_owner_that_hangs_keeps_nobody(engine: Engine) -> Result<()> {
    let seen = write_across_a_change_of_owners(engine, Duration::from_secs(5)).await?;
    assert_eq!(seen, (false, Code::Unavailable));
    Ok(())
}

on_servers!(
    a_write_that_was_given_up_is_not_stored_over_a_later_one,
    a_change_of_owners_swaps_no_writes,
    a_former_owner_that_hangs_keeps_nobody,
);
