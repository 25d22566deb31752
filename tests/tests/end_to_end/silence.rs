//! Logs and messages hold no key, no value and no password, however much is logged and whatever
//! goes wrong.

use std::time::Duration;

use freehold_client::Write;
use freehold_tests::{Engine, Login, Router, Server, Shard};

use crate::{
    scene::{Result, client, until},
    wire,
};

const KEY: &str = "KEYSECRETKEY";
const VALUE: &str = "VALUESECRETVALUE";
const PASSWORD: &str = "PASSWORDSECRET";

async fn logs_hold_no_key_value_or_password(engine: Engine) -> Result<()> {
    let mut server = Server::of(engine).await?;
    let mut sql = server.connect().await?;
    sql.run(&format!(
        "CREATE USER loud@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO loud@'%'"
    ))
    .await?;
    let shard = Shard {
        name: "a".to_owned(),
        master: server.dsn(&Login::new("loud", PASSWORD)),
        replicas: Vec::new(),
    };
    let more = "[log]\nfilter = \"trace,h2=info,hyper=info,tower=info\"\n";
    let mut router = Router::init_and_serve(&[shard], more).await?;
    everything_that_can_be_asked(&router).await?;

    // And everything that can go wrong.
    sql.run("UPDATE shard SET stamp = stamp + 1, epoch = epoch + 1")
        .await?;
    everything_that_can_be_asked(&router).await?;
    stuck_behind_a_lock(&server, &router).await?;
    sql.run("RENAME TABLE store TO elsewhere").await?;
    assert!(client(&router).await?.put(KEY, VALUE).await.is_err());
    sql.run("RENAME TABLE elsewhere TO store").await?;
    server.kill();
    assert!(client(&router).await?.put(KEY, VALUE).await.is_err());
    server.start_again().await?;
    let mut sql = server.connect().await?;
    sql.run("ALTER USER loud@'%' IDENTIFIED BY 'another'")
        .await?;
    server.kill_and_start_again().await?;
    until("the login to be refused", async || {
        Ok(router.log().contains("1045"))
    })
    .await?;
    let doctor = router.with_config(&["doctor"]).await?;
    let explained = router.admin_cli(&["shards", "--json"]).await?;
    router.stop(Duration::from_secs(30)).await?;

    let log = router.log();
    assert!(log.len() > 1_000, "something is logged: {log}");
    let said = [
        doctor.stdout,
        doctor.stderr,
        explained.stdout,
        explained.stderr,
    ]
    .concat();
    for secret in [KEY, VALUE, PASSWORD] {
        let hex = secret
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        let debug = secret
            .bytes()
            .map(|byte| byte.to_string())
            .collect::<Vec<_>>()
            .join(", ");
        for form in [secret.to_owned(), hex.clone(), hex.to_uppercase(), debug] {
            for (place, text) in [("the log", &log), ("a command", &said)] {
                let line = text.lines().find(|line| line.contains(&form));
                assert_eq!(line, None, "{secret} as {form} in {place}");
            }
        }
    }
    Ok(())
}

async fn everything_that_can_be_asked(router: &Router) -> Result<()> {
    let client = client(router).await?;
    client.put(KEY, VALUE).ttl(Duration::from_secs(100)).await?;
    client.get(KEY).await?;
    client.ttl(KEY).await?;
    client.persist(KEY).await?;
    client
        .batch_get([KEY.to_owned(), format!("{KEY}2")])
        .await?;
    client
        .batch_write([Write::put(KEY, VALUE), Write::delete(KEY)])
        .await?;
    let stub = wire::stub(router).await?;
    let timeout = Duration::from_secs(10);
    wire::put(&stub, KEY, VALUE, timeout).await;
    wire::get(&stub, KEY, timeout).await;
    let mut scan = client
        .scan(&freehold_client::ScanOptions {
            prefix: KEY.into(),
            ..Default::default()
        })
        .await?;
    while scan.next().await?.is_some() {}
    // What breaks a limit is told of by its field.
    let long = format!("{KEY}{}", "x".repeat(1_024));
    for refused in [
        client.put(long, VALUE).await.err(),
        client.put(KEY, VALUE).ttl(Duration::ZERO).await.err(),
    ] {
        let message = refused.map(|error| error.to_string()).unwrap_or_default();
        assert!(!message.is_empty() && !message.contains(KEY), "{message}");
    }
    router.admin_cli(&["explain", KEY]).await?.success()?;
    Ok(())
}

/// A row that somebody else has locked: the statement fails on the server, with words of its own.
async fn stuck_behind_a_lock(server: &Server, router: &Router) -> Result<()> {
    let mut sql = server.connect().await?;
    sql.run("BEGIN; UPDATE store SET version = 1").await?;
    let client = client(router).await?;
    let mut message = String::new();
    // On a busy machine the caller's time may be over before the wait for the lock is.
    until("the lock to be told of", async || {
        let ended = client.put(KEY, VALUE).await;
        message = ended.err().ok_or("it was written")?.to_string();
        Ok(message.contains("1205"))
    })
    .await?;
    sql.run("ROLLBACK").await?;
    for secret in [KEY, VALUE, PASSWORD] {
        assert!(!message.contains(secret), "{message}");
    }
    Ok(())
}

on_servers!(logs_hold_no_key_value_or_password);
