//! What `deploy/` gives to operators works as it stands: the example config, and accounts that have
//! no more rights than they need.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{fs, time::Duration};

use freehold_tests::{
    Engine, Login, Result, Router, Server, ServerOptions, Shard, deploy, replication,
};

/// The router runs with this config, knows its two shards, and sweeps and moves with accounts of
/// their own.
async fn is_a_config(text: &str) -> Result<()> {
    let shard = Shard {
        name: "x".to_owned(),
        master: String::new(),
        replicas: Vec::new(),
    };
    let mut router = Router::configure(&[shard], "")?;
    fs::write(router.config_file(), text).unwrap();
    router.launch()?;
    // Its servers are nobody's here. The router runs all the same, and shows them as down.
    router
        .wait_for_health("two shards down", |status, health| {
            status == 503 && health.matches("\"up\":false").count() == 2
        })
        .await?;
    for account in ["freehold_sweeper", "freehold_mover"] {
        let names_it = |line: &str| line.starts_with("user") && line.contains(account);
        assert!(text.lines().any(names_it), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn the_example_config_is_one() -> Result<()> {
    is_a_config(&fs::read_to_string(deploy::folder().join("freehold.toml")).unwrap()).await
}

#[tokio::test]
async fn the_config_to_copy_from_the_readme_is_one() -> Result<()> {
    let readme = fs::read_to_string(deploy::folder().with_file_name("README.md")).unwrap();
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (config, _) = rest.split_once("```").unwrap();
    is_a_config(config).await
}

const PASSWORDS: [(&str, &str); 4] = [
    ("FREEHOLD_PASSWORD", "data-password"),
    ("FREEHOLD_SWEEPER_PASSWORD", "sweeper-password"),
    ("FREEHOLD_MOVER_PASSWORD", "mover-password"),
    ("FREEHOLD_SCHEMA_PASSWORD", "schema-password"),
];

const ACCOUNTS: &str = "[sweeper]\nuser = \"freehold_sweeper\"\npassword_env = \"SWEEPER\"\n\
                        [mover]\nuser = \"freehold_mover\"\npassword_env = \"MOVER\"\n";

const SCHEMA: [&str; 4] = ["--user", "freehold_schema", "--password-env", "SCHEMA"];

/// A master and its replica with the accounts of `deploy/`, initialised, and a router for them.
struct Scene {
    master: Server,
    replica: Server,
    router: Router,
}

impl Scene {
    async fn new(engine: Engine) -> Result<Self> {
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
        let shards = [shard(&master, &replica)];
        let mut router = Router::configure(&shards, ACCOUNTS)?;
        router.set_environment("SWEEPER", "sweeper-password");
        router.set_environment("MOVER", "mover-password");
        router.set_environment("SCHEMA", "schema-password");
        router
            .with_config(&[&["init"], &SCHEMA[..]].concat())
            .await?
            .success()?;
        admin.run(&deploy::sql(engine, "grants.sql", &[])?).await?;
        replication::wait_until_caught_up(&master, &replica).await?;
        Ok(Self {
            master,
            replica,
            router,
        })
    }

    /// The rows of the store, dead ones included.
    async fn rows(&self) -> Result<u64> {
        let mut sql = self.master.connect().await?;
        sql.one("SELECT COUNT(*) FROM store").await
    }

    async fn refuses(&self, user: &str, password: &str, statement: &str) -> Result<()> {
        let mut sql = self.master.connect_as(&Login::new(user, password)).await?;
        let refused = sql.run(statement).await.expect_err(statement).to_string();
        assert!(refused.contains("denied"), "{user}: {refused}");
        Ok(())
    }
}

/// The shard as its routers reach it.
fn shard(master: &Server, replica: &Server) -> Shard {
    let data = Login::new("freehold", "data-password");
    Shard {
        name: "a".to_owned(),
        master: master.dsn(&data),
        replicas: vec![replica.dsn(&data)],
    }
}

async fn requests_work(scene: &Scene) -> Result<()> {
    let Scene {
        master,
        replica,
        router,
        ..
    } = scene;
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
    replication::wait_until_caught_up(master, replica).await?;
    let said = router
        .cli(&["get", "k", "--consistency", "eventual"])
        .await?
        .success()?;
    assert!(said.contains('v'), "{said}");
    Ok(())
}

/// The sweeper, with its own account, deletes what expired and what was deleted.
async fn sweeping_works(scene: &Scene) -> Result<()> {
    scene
        .router
        .admin_cli(&["sweep", "--dry-run"])
        .await?
        .success()?;
    within_a_minute("two rows that are due to be deleted", async || {
        Ok(scene.rows().await? <= 1)
    })
    .await
}

async fn least_rights(engine: Engine) -> Result<()> {
    let mut scene = Scene::new(engine).await?;
    scene.router.serve().await?;
    requests_work(&scene).await?;
    sweeping_works(&scene).await?;
    for (user, password, statement) in [
        (
            "freehold",
            "data-password",
            "UPDATE shard SET cluster_id = cluster_id + 1",
        ),
        ("freehold", "data-password", "DELETE FROM slots"),
        ("freehold", "data-password", "UPDATE leases SET paused = 1"),
        (
            "freehold_sweeper",
            "sweeper-password",
            "UPDATE store SET version = 1",
        ),
        (
            "freehold_mover",
            "mover-password",
            "UPDATE store SET version = 1",
        ),
        ("freehold_mover", "mover-password", "DELETE FROM slots"),
        (
            "freehold_mover",
            "mover-password",
            "UPDATE shard SET term = 9",
        ),
    ] {
        scene.refuses(user, password, statement).await?;
    }
    // With these rights and the settings of deploy/, there is nothing for the doctor to find.
    for account in [&SCHEMA[..], &[]] {
        let found = scene
            .router
            .with_config(&[&["doctor"], account].concat())
            .await?
            .success()?;
        assert!(
            found.contains("0 errors, 0 warnings, 0 pieces of advice"),
            "{found}"
        );
    }
    Ok(())
}

/// Without `[sweeper] user` it is the account for requests that would have to sweep.
async fn a_config_that_cannot_sweep(engine: Engine) -> Result<()> {
    let mut scene = Scene::new(engine).await?;
    let shards = [shard(&scene.master, &scene.replica)];
    let careless = Router::configure(&shards, "")?;
    let found = careless.with_config(&["doctor"]).await?;
    let said = &found.stdout;
    assert_eq!(found.code, Some(1), "{said}");
    for wanted in [
        "the sweeper's account",
        "no SELECT, UPDATE on leases",
        "GRANT SELECT, UPDATE ON `freehold`.`leases`",
    ] {
        assert!(said.contains(wanted), "no '{wanted}' in\n{said}");
    }
    // That much a router may do itself, to judge its replicas.
    assert!(!said.contains("cannot ask for the lag"), "{said}");

    scene.router.with_config(&["doctor"]).await?.success()?;
    // A replica that stands: everybody's requests go on, and nothing is swept.
    let stop = match engine {
        Engine::MariaDb => "STOP SLAVE SQL_THREAD",
        Engine::MySql => "STOP REPLICA SQL_THREAD",
    };
    scene.replica.connect().await?.run(stop).await?;
    let said = scene.router.with_config(&["doctor"]).await?.success()?;
    assert!(said.contains("Sweeping of the shard stops"), "{said}");
    scene.replica.kill();
    let found = scene.router.with_config(&["doctor"]).await?;
    assert!(
        found.stdout.contains("the shard is not swept"),
        "{}",
        found.stdout
    );
    scene.router.serve().await?;
    scene.router.cli(&["put", "k", "v"]).await?.success()?;
    scene.router.cli(&["del", "k"]).await?.success()?;
    let waits = "freehold_sweeper_waiting{shard=\"a\",reason=\"replica_silent\"} 1\n";
    within_a_minute("the metric to name the replica", async || {
        Ok(scene.router.http_get("/metrics").await?.1.contains(waits))
    })
    .await?;
    let said = scene.router.admin_cli(&["sweep"]).await?.success()?;
    assert!(said.contains("cannot say how far it is behind"), "{said}");
    Ok(())
}

/// Slots move from one master to another with the account that is made for it, and routers look at
/// moves with it.
async fn moving_rights(engine: Engine) -> Result<()> {
    let (a, b) = tokio::try_join!(Server::of(engine), Server::of(engine))?;
    let data = Login::new("freehold", "data-password");
    let shards = [("a", &a), ("b", &b)].map(|(name, master)| Shard {
        name: name.to_owned(),
        master: master.dsn(&data),
        replicas: Vec::new(),
    });
    let mut router = Router::configure(&shards, ACCOUNTS)?;
    for (name, password) in [
        ("SWEEPER", "sweeper"),
        ("MOVER", "mover"),
        ("SCHEMA", "schema"),
    ] {
        router.set_environment(name, &format!("{password}-password"));
    }
    for master in [&a, &b] {
        let accounts = deploy::sql(engine, "accounts.sql", &PASSWORDS)?;
        master.connect().await?.run(&accounts).await?;
    }
    let init = [&["init"], &SCHEMA[..]].concat();
    router.with_config(&init).await?.success()?;
    for master in [&a, &b] {
        let grants = deploy::sql(engine, "grants.sql", &[])?;
        master.connect().await?.run(&grants).await?;
    }
    router.serve().await?;
    router.cli(&["put", "user:1", "Ada"]).await?.success()?;
    // The key's slot, and some that have no rows.
    let there = ["move", "--slots", "15100-15200", "--to", "b", "--yes"];
    let moved = router.with_config(&there).await?.success()?;
    assert!(moved.contains("'b' owns 101 slots, with 1 row"), "{moved}");
    let read = router.cli(&["get", "user:1"]).await?.success()?;
    assert!(read.contains("Ada"), "{read}");
    let seen = "freehold_mover_abandoned 0\n";
    within_a_minute("the router to see that no move is open", async || {
        Ok(router.http_get("/metrics").await?.1.contains(seen))
    })
    .await?;
    let (_, metrics) = router.http_get("/metrics").await?;
    assert!(
        !metrics.contains("freehold_mover_errors_total{"),
        "{metrics}"
    );
    Ok(())
}

async fn within_a_minute(what: &str, holds: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let looking = async {
        while !holds().await? {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    let looked = tokio::time::timeout(Duration::from_secs(60), looking).await;
    looked.unwrap_or_else(|_| panic!("a minute is over, waiting for {what}"))
}

#[tokio::test]
async fn mariadb_accounts_have_the_rights_they_need_and_no_more() -> Result<()> {
    least_rights(Engine::MariaDb).await
}

#[tokio::test]
async fn mysql_accounts_have_the_rights_they_need_and_no_more() -> Result<()> {
    least_rights(Engine::MySql).await
}

#[tokio::test]
async fn mariadb_slots_move_with_the_rights_of_a_mover() -> Result<()> {
    moving_rights(Engine::MariaDb).await
}

#[tokio::test]
async fn mysql_slots_move_with_the_rights_of_a_mover() -> Result<()> {
    moving_rights(Engine::MySql).await
}

#[tokio::test]
async fn doctor_says_why_a_shard_on_mariadb_would_not_be_swept() -> Result<()> {
    a_config_that_cannot_sweep(Engine::MariaDb).await
}

#[tokio::test]
async fn doctor_says_why_a_shard_on_mysql_would_not_be_swept() -> Result<()> {
    a_config_that_cannot_sweep(Engine::MySql).await
}
