//! The truth about a write when its connection breaks, and about a connection whose call was given
//! up.

use std::{pin::pin, time::Duration};

use freehold_core::Key;
use freehold_storage::{Columns, DataConnection, Outcome, Refusal, StorageError};
use freehold_tests::{Engine, Session, Sql};
use tokio::time::{sleep, timeout};

use crate::shard::{
    Result, Shard, WITHIN, expire, is_lost, is_refused, is_unreachable, keys, row, until,
    until_waiting,
};

on_servers!(
    a_write_whose_connection_is_killed_has_an_unknown_outcome,
    a_connection_that_was_killed_while_idle_is_found_out_by_a_ping,
    a_connection_that_was_idle_for_too_long_applies_nothing,
    a_killed_statement_is_not_called_refused,
    a_dropped_call_leaves_no_connection_behind,
    a_server_that_does_not_answer_is_unreachable_in_time,
);

/// A transaction that holds the row of a key.
async fn hold(shard: &Shard, key: &Key) -> Result<Sql> {
    let mut sql = shard.home.connect().await?;
    let slot = key.slot();
    sql.run(&format!(
        "BEGIN; SELECT slot FROM store WHERE slot = {slot} FOR UPDATE"
    ))
    .await?;
    Ok(sql)
}

/// The sessions of the tests' own account besides this one.
async fn others(sql: &mut Sql) -> Result<Vec<Session>> {
    let mut sessions = sql.other_sessions().await?;
    sessions.retain(|session| session.user == "admin");
    Ok(sessions)
}

/// Ends the session that runs a statement on `store`, once it does.
async fn end_writer(shard: &Shard, how: &str) -> Result<()> {
    let mut sql = shard.home.connect().await?;
    let writes = |session: &Session| {
        let starts = |statement| session.statement.starts_with(statement);
        // What is only being prepared was certainly not run.
        session.command != "Prepare" && (starts("REPLACE INTO store") || starts("UPDATE store"))
    };
    let find = async {
        loop {
            if let Some(writer) = sql.other_sessions().await?.into_iter().find(writes) {
                return sql.run(&format!("{how} {}", writer.id)).await;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    Ok(timeout(WITHIN, find).await??)
}

/// Each kind of write of one row, ended while it waits for the row.
async fn ended_writes(engine: Engine, how: &str) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let key = &keys(1)[0];
    let mut data = shard.data().await?;
    assert_eq!(
        data.put(&shard.fence, &[row(key, "v")]).await,
        [Outcome::Applied(())]
    );
    for kind in 0..3 {
        until("a write to be ended while it waits", async || {
            let held = hold(&shard, key).await?;
            let mut data = shard.data().await?;
            let error = {
                let mut write = pin!(async {
                    match kind {
                        0 => error_of(&data.put(&shard.fence, &[row(key, "w")]).await[0]),
                        1 => {
                            error_of(&data.delete(&shard.fence, std::slice::from_ref(key)).await[0])
                        }
                        _ => error_of(&data.expire(&shard.fence, &[expire(key, Some(1))]).await[0]),
                    }
                });
                tokio::select! {
                    biased;
                    error = &mut write => error,
                    ended = end_writer(&shard, how) => {
                        ended?;
                        write.await
                    }
                }
            };
            let is_too_late = is_busy(error.as_ref());
            if !is_too_late {
                let is_lost = matches!(error, Some(StorageError::Lost { .. }));
                assert!(is_lost, "write {kind} after {how}: {error:?}");
                // It is known to be broken: nothing is sent any more.
                assert!(is_unreachable(
                    &data.put(&shard.fence, &[row(key, "x")]).await[0]
                ));
            }
            held.close().await?;
            assert_eq!(shard.stored(key).await?, Some(b"v".to_vec()));
            Ok(!is_too_late)
        })
        .await?;
    }
    Ok(())
}

fn error_of<T>(outcome: &Outcome<T>) -> Option<StorageError> {
    match outcome {
        Outcome::Failed(error) => Some(error.clone()),
        Outcome::Applied(_) | Outcome::FenceDisagrees => None,
    }
}

/// Whether the wait for the row was over before anybody ended it: on a busy machine.
fn is_busy(error: Option<&StorageError>) -> bool {
    matches!(
        error,
        Some(StorageError::Refused {
            refusal: Refusal::Busy,
            ..
        })
    )
}

async fn a_write_whose_connection_is_killed_has_an_unknown_outcome(engine: Engine) -> Result<()> {
    ended_writes(engine, "KILL CONNECTION").await
}

async fn a_killed_statement_is_not_called_refused(engine: Engine) -> Result<()> {
    ended_writes(engine, "KILL QUERY").await
}

async fn a_connection_that_was_killed_while_idle_is_found_out_by_a_ping(
    engine: Engine,
) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let key = &keys(1)[0];
    let mut pinged = shard.data().await?;
    let mut written = shard.data().await?;
    pinged.ping().await?;
    // Prepared before: a statement that cannot even be prepared was certainly not run.
    assert_eq!(
        written.put(&shard.fence, &[row(key, "v")]).await,
        [Outcome::Applied(())]
    );
    let mut sql = shard.home.connect().await?;
    for other in others(&mut sql).await? {
        // Some are of connections that closed a moment ago.
        let _ = sql.run(&format!("KILL {}", other.id)).await;
    }
    until("the killed sessions to end", async || {
        Ok(others(&mut sql).await?.is_empty())
    })
    .await?;
    assert!(matches!(
        pinged.ping().await,
        Err(StorageError::Unreachable { .. })
    ));
    assert!(is_unreachable(
        &pinged.put(&shard.fence, &[row(key, "v")]).await[0]
    ));
    // Without the ping nobody can tell whether the server had read the statement.
    assert!(is_lost(
        &written.put(&shard.fence, &[row(key, "v")]).await[0]
    ));
    Ok(())
}

/// The server says goodbye to a connection before it closes it, or just closes it. Neither is taken
/// for the answer to what is sent next.
async fn a_connection_that_was_idle_for_too_long_applies_nothing(engine: Engine) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let key = &keys(1)[0];
    let mut sql = shard.home.connect().await?;
    sql.run("SET GLOBAL wait_timeout = 1").await?;
    let mut connections = Vec::new();
    for _ in 0..3 {
        let mut data = shard.data().await?;
        assert_eq!(
            data.put(&shard.fence, &[row(key, "v")]).await,
            [Outcome::Applied(())]
        );
        connections.push(data);
    }
    until("the idle sessions to end", async || {
        Ok(others(&mut sql).await?.is_empty())
    })
    .await?;
    let [pinged, written, read] = &mut connections[..] else {
        unreachable!("three were opened")
    };
    let ping = pinged.ping().await;
    assert!(
        matches!(ping, Err(StorageError::Unreachable { .. })),
        "{ping:?}"
    );
    let put = &written.put(&shard.fence, &[row(key, "w")]).await[0];
    println!("a write after goodbye: {put:?}");
    assert!(is_lost(put) || is_unreachable(put), "{put:?}");
    let read = read.read(std::slice::from_ref(key), Columns::Expiry).await;
    assert!(
        read.as_ref().is_err_and(StorageError::breaks_connection),
        "{read:?}"
    );
    assert_eq!(shard.stored(key).await?, Some(b"v".to_vec()));
    Ok(())
}

async fn a_dropped_call_leaves_no_connection_behind(engine: Engine) -> Result<()> {
    let mut shard = Shard::of(engine).await?;
    let key = &keys(1)[0];
    let mut data = shard.data().await?;
    assert_eq!(
        data.put(&shard.fence, &[row(key, "v")]).await,
        [Outcome::Applied(())]
    );
    let held = hold(&shard, key).await?;
    let rows = [row(key, "w")];
    let mut admin = shard.home.connect().await?;
    // A write waits two seconds at most; a machine on which that is not seen in time tries again.
    let mut tries = 0..10;
    while tokio::select! {
        put = data.put(&shard.fence, &rows) => {
            assert!(is_refused(&put[0], Refusal::Busy), "the row was held: {put:?}");
            true
        }
        waits = until_waiting(&mut admin) => waits.map(|()| false)?,
    } {
        tries.next().ok_or("no wait was seen in time, ten times")?;
    }
    assert_unusable(&mut data, key).await;
    held.close().await?;

    let mut data = shard.data().await?;
    // Sent, and not answered.
    shard.home.freeze()?;
    tokio::select! {
        biased;
        _ = data.read(std::slice::from_ref(key), Columns::Expiry) => panic!("the server is frozen"),
        () = std::future::ready(()) => {}
    }
    shard.home.thaw()?;
    assert_unusable(&mut data, key).await;
    Ok(())
}

async fn assert_unusable(data: &mut Box<dyn DataConnection>, key: &Key) {
    let read = data.read(std::slice::from_ref(key), Columns::Expiry).await;
    assert!(
        matches!(read, Err(StorageError::Unreachable { .. })),
        "{read:?}"
    );
    assert!(matches!(
        data.ping().await,
        Err(StorageError::Unreachable { .. })
    ));
    assert!(matches!(
        data.claims(0).await,
        Err(StorageError::Unreachable { .. })
    ));
}

async fn a_server_that_does_not_answer_is_unreachable_in_time(engine: Engine) -> Result<()> {
    let mut shard = Shard::of(engine).await?;
    let dsn = shard.home.dsn(&freehold_tests::Login::admin());
    let options = freehold_storage::ConnectOptions {
        connect_timeout: Duration::from_millis(300),
        seed: 1,
    };
    let server = freehold_storage::Server::new(&freehold_storage::Dsn::parse(&dsn)?, options);
    shard.home.freeze()?;
    let frozen = timeout(WITHIN, server.connect()).await?;
    assert!(matches!(frozen, Err(StorageError::Unreachable { .. })));
    shard.home.thaw()?;
    shard.home.kill();
    let dead = timeout(WITHIN, server.connect()).await?;
    assert!(matches!(dead, Err(StorageError::Unreachable { .. })));
    Ok(())
}
