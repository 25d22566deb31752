//! What `deploy/` gives to operators works as it stands: the example config, and accounts that have
//! no more rights than they need.

use std::fs;

use freehold_tests::{Engine, Error, Login, Result, Router, Server, ServerOptions, Shard, deploy};
use freehold_tests::{Sql, replication};

#[tokio::test]
async fn the_example_config_is_one() -> Result<()> {
    let shard = Shard {
        name: "x".to_owned(),
        master: String::new(),
        replicas: Vec::new(),
    };
    let mut router = Router::configure(&[shard], "")?;
    fs::copy(deploy::folder().join("freehold.toml"), router.config_file()).unwrap();
    router.launch()?;
    // Its servers are nobody's here. The router runs all the same, and shows them as down.
    router
        .wait_for_health("two shards down", |status, health| {
            status == 503 && health.matches("\"up\":false").count() == 2
        })
        .await
}

const PASSWORDS: [(&str, &str); 3] = [
    ("FREEHOLD_PASSWORD", "data-password"),
    ("FREEHOLD_SWEEPER_PASSWORD", "sweeper-password"),
    ("FREEHOLD_SCHEMA_PASSWORD", "schema-password"),
];

const SWEEPER: &str = "[sweeper]\nuser = \"freehold_sweeper\"\npassword_env = \"SWEEPER\"\n";

/// The rows of the store, dead ones included.
async fn rows(sql: &mut Sql) -> Result<u64> {
    sql.one("SELECT COUNT(*) FROM store").await
}

async fn least_rights(engine: Engine) -> Result<()> {
    let options = ServerOptions::new(engine).synced();
    let (master, replica) = tokio::try_join!(
        Server::start(options.clone()),
        Server::start(options.read_only())
    )?;
    replication::attach(&master, &replica).await?;
    let mut admin = master.connect().await?;
    admin
        .run(&deploy::sql(engine, "accounts.sql", &PASSWORDS)?)
        .await?;

    let data = Login::new("freehold", "data-password");
    let shard = Shard {
        name: "a".to_owned(),
        master: master.dsn(&data),
        replicas: vec![replica.dsn(&data)],
    };
    let mut router = Router::configure(&[shard], SWEEPER)?;
    router.set_environment("SWEEPER", "sweeper-password");
    router.set_environment("SCHEMA", "schema-password");
    let schema = ["--user", "freehold_schema", "--password-env", "SCHEMA"];
    router
        .with_config(&[&["init"], &schema[..]].concat())
        .await?
        .success()?;
    admin.run(&deploy::sql(engine, "grants.sql", &[])?).await?;
    replication::wait_until_caught_up(&master, &replica).await?;
    router.serve().await?;

    for (command, answer) in [
        (&["put", "k", "v"][..], ""),
        (&["get", "k"], "v"),
        (&["put", "short", "v", "--ttl", "1ms"], ""),
        (&["expire", "k", "1h"], ""),
        (&["persist", "k"], ""),
        (&["ttl", "k"], ""),
        (&["scan"], "k"),
        (&["put", "gone", "v"], ""),
        (&["del", "gone"], ""),
    ] {
        let said = router.cli(command).await?.success()?;
        assert!(said.contains(answer), "{command:?}: {said}");
    }
    replication::wait_until_caught_up(&master, &replica).await?;
    let said = router
        .cli(&["get", "k", "--consistency", "eventual"])
        .await?
        .success()?;
    assert!(said.contains('v'), "{said}");

    // The sweeper, with its own account, deletes what expired and what was deleted.
    router.admin_cli(&["sweep", "--dry-run"]).await?.success()?;
    let swept = async {
        while rows(&mut admin).await? > 1 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Ok::<(), Error>(())
    };
    let swept = tokio::time::timeout(std::time::Duration::from_secs(60), swept).await;
    let metrics = router.http_get("/metrics").await?.1;
    assert!(
        swept.is_ok(),
        "two rows are due and nobody deletes them\n{metrics}"
    );

    refuses(
        &master,
        "freehold",
        "data-password",
        "UPDATE shard SET epoch = epoch + 1",
    )
    .await?;
    refuses(&master, "freehold", "data-password", "DELETE FROM slots").await?;
    refuses(
        &master,
        "freehold_sweeper",
        "sweeper-password",
        "UPDATE store SET version = 1",
    )
    .await?;

    // With these rights and the settings of deploy/, there is nothing for the doctor to find.
    let found = router
        .with_config(&[&["doctor"], &schema[..]].concat())
        .await?;
    let found = found.success()?;
    assert!(
        found.contains("0 errors, 0 warnings, 0 pieces of advice"),
        "{found}"
    );
    Ok(())
}

async fn refuses(server: &Server, user: &str, password: &str, statement: &str) -> Result<()> {
    let mut sql = server.connect_as(&Login::new(user, password)).await?;
    let refused = sql.run(statement).await.expect_err(statement).to_string();
    assert!(refused.contains("denied"), "{user}: {refused}");
    Ok(())
}

#[tokio::test]
async fn mariadb_accounts_have_the_rights_they_need_and_no_more() -> Result<()> {
    least_rights(Engine::MariaDb).await
}

#[tokio::test]
async fn mysql_accounts_have_the_rights_they_need_and_no_more() -> Result<()> {
    least_rights(Engine::MySql).await
}
