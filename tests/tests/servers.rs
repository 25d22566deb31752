//! The fixtures keep their promises: without that no other test means anything.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use freehold_tests::{Engine, Login, Result, Server, ServerOptions, replication};
use tokio::time::Instant;

async fn write(server: &Server, value: u32) -> Result<()> {
    let mut sql = server.connect().await?;
    sql.run("CREATE TABLE IF NOT EXISTS t (v INT PRIMARY KEY)")
        .await?;
    sql.run(&format!("INSERT INTO t VALUES ({value})")).await
}

async fn values(server: &Server) -> Result<Vec<u32>> {
    server
        .connect()
        .await?
        .rows("SELECT v FROM t ORDER BY v")
        .await
}

async fn survives_kill(engine: Engine) -> Result<()> {
    let mut server = Server::of(engine).await?;
    let port = server.port();
    write(&server, 1).await?;
    server.kill_and_start_again().await?;
    write(&server, 2).await?;
    server.stop().await?;
    assert!(
        server.connect().await.is_err(),
        "a stopped server must not answer"
    );
    server.start_again().await?;
    assert_eq!(values(&server).await?, [1, 2]);
    assert_eq!(server.port(), port);
    Ok(())
}

#[tokio::test]
async fn mariadb_keeps_its_data_over_a_kill_and_a_stop() -> Result<()> {
    survives_kill(Engine::MariaDb).await
}

#[tokio::test]
async fn mysql_keeps_its_data_over_a_kill_and_a_stop() -> Result<()> {
    survives_kill(Engine::MySql).await
}

async fn replicates(engine: Engine) -> Result<()> {
    let (master, replica) = tokio::try_join!(
        Server::start(ServerOptions::new(engine).synced()),
        Server::start(ServerOptions::new(engine).read_only()),
    )?;
    let mut master = master;
    write(&master, 1).await?;
    replication::attach(&master, &replica).await?;
    assert_eq!(values(&replica).await?, [1]);

    replication::stop_applier(&replica).await?;
    write(&master, 2).await?;
    assert_eq!(
        values(&replica).await?,
        [1],
        "applied although the applier stands still"
    );
    replication::start_applier(&replica).await?;
    replication::wait_until_caught_up(&master, &replica).await?;
    assert_eq!(values(&replica).await?, [1, 2]);

    // The receiver comes back by itself.
    master.kill_and_start_again().await?;
    write(&master, 3).await?;
    replication::wait_until_caught_up(&master, &replica).await?;
    assert_eq!(values(&replica).await?, [1, 2, 3]);

    replication::set_delay(&replica, 3600).await?;
    write(&master, 4).await?;
    let late = replication::wait_for_state(&replica, |state| state.receiving && state.applying);
    assert_eq!(late.await?.errors, "");
    assert_eq!(values(&replica).await?, [1, 2, 3]);
    Ok(())
}

#[tokio::test]
async fn mariadb_replicates_with_the_sql_of_deploy() -> Result<()> {
    replicates(Engine::MariaDb).await
}

#[tokio::test]
async fn mysql_replicates_with_the_sql_of_deploy() -> Result<()> {
    replicates(Engine::MySql).await
}

async fn frozen(engine: Engine) -> Result<()> {
    let mut server = Server::of(engine).await?;
    let mut sql = server.connect().await?;
    server.freeze()?;
    let answer = tokio::time::timeout(Duration::from_millis(300), sql.one::<u32>("SELECT 1"));
    assert!(answer.await.is_err(), "a frozen server must not answer");
    server.thaw()?;
    // The interrupted query still owes its row to that connection.
    assert_eq!(server.connect().await?.one::<u32>("SELECT 2").await?, 2);
    Ok(())
}

#[tokio::test]
async fn mariadb_freezes_and_thaws() -> Result<()> {
    frozen(Engine::MariaDb).await
}

#[tokio::test]
async fn mysql_freezes_and_thaws() -> Result<()> {
    frozen(Engine::MySql).await
}

/// A password's first use needs the long exchange (an RSA key over a plain connection, the
/// password itself over TLS), the second one the short: both ways, both times.
async fn logs_in(engine: Engine, plugin: &str) -> Result<()> {
    let server = Server::of(engine).await?;
    let mut admin = server.connect().await?;
    for (user, ca) in [
        ("plain", None),
        ("encrypted", Some(server.ca_file().to_owned())),
    ] {
        admin
            .run(&format!(
                "CREATE USER {user}@'%' IDENTIFIED {plugin} BY 'secret';
                 GRANT SELECT ON freehold.* TO {user}@'%'"
            ))
            .await?;
        let mut login = Login::new(user, "secret");
        login.ca = ca;
        for _ in 0..2 {
            let mut sql = server.connect_as(&login).await?;
            let cipher = sql
                .one::<(String, String)>("SHOW STATUS LIKE 'Ssl_cipher'")
                .await?
                .1;
            assert_eq!(
                !cipher.is_empty(),
                login.ca.is_some(),
                "{user}: cipher {cipher:?}"
            );
        }
    }
    let wrong = server.connect_as(&Login::new("plain", "wrong")).await;
    assert!(wrong.is_err_and(|error| error.to_string().contains("1045")));
    Ok(())
}

#[tokio::test]
async fn mariadb_takes_passwords_plain_and_encrypted() -> Result<()> {
    logs_in(Engine::MariaDb, "").await
}

#[tokio::test]
async fn mysql_takes_caching_sha2_passwords_plain_and_encrypted() -> Result<()> {
    logs_in(Engine::MySql, "WITH caching_sha2_password").await
}

async fn settings(engine: Engine) -> Result<()> {
    let options = ServerOptions::new(engine)
        .server_id(77)
        .time_zone("Europe/Berlin")
        .sql_mode("ANSI_QUOTES")
        .argument("--max-connections=33");
    let server = Server::start(options).await?;
    let mut sql = server.connect().await?;
    let query = "SELECT @@server_id, @@system_time_zone, @@sql_mode, @@max_connections, \
                 @@binlog_row_image, @@innodb_flush_log_at_trx_commit";
    let (id, zone, mode, connections, image, flush) = sql
        .one::<(u32, String, String, u32, String, u8)>(query)
        .await?;
    assert_eq!((id, connections, flush), (77, 33, 2));
    assert!(["CET", "CEST"].contains(&zone.as_str()), "{zone}");
    assert!(mode.contains("ANSI_QUOTES"), "{mode}");
    assert_eq!(image, "NOBLOB", "the settings of deploy/ are in force");
    Ok(())
}

#[tokio::test]
async fn mariadb_takes_the_options() -> Result<()> {
    settings(Engine::MariaDb).await
}

#[tokio::test]
async fn mysql_takes_the_options() -> Result<()> {
    settings(Engine::MySql).await
}

/// A test that is killed runs no destructors; its servers have to go all the same.
#[tokio::test]
async fn a_server_does_not_outlive_a_killed_owner() {
    // What it leaves behind goes with this folder.
    let folder = tempfile::tempdir().unwrap();
    let mut owner = Command::new(env!("CARGO_BIN_EXE_servers"))
        .env("TMPDIR", folder.path())
        .args(["mariadb", "1", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(owner.stdout.take().unwrap());
    let master = output
        .lines()
        .map(|line| line.unwrap())
        .find(|line| line.contains("master"));
    let master = master.expect("a config with a master");
    let (_, place) = master.split_once('@').unwrap();
    let (address, _) = place.split_once('/').unwrap();
    TcpStream::connect(address).unwrap();

    owner.kill().unwrap();
    owner.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).is_ok() {
        assert!(
            Instant::now() < deadline,
            "the server at {address} still runs"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
