//! Accounts with the least rights, passwords outside the config, and connections with and without
//! TLS.

use std::fs;

use freehold_tests::{Engine, Router, Server, Shard, deploy};

use crate::scene::{Result, client, until};

const ROUTER: &str = "router-password";
const SWEEPER: &str = "sweeper-password";
const SCHEMA: &str = "schema-password";

/// A server with the accounts of `deploy/`, whose passwords the config does not hold.
struct Scene {
    server: Server,
    router: Router,
}

impl Scene {
    /// `parameters` are those of the DSN; `requires` is what the accounts require. The rights are
    /// those of `deploy/`.
    async fn new(engine: Engine, parameters: &str, requires: &str) -> Result<Self> {
        let server = Server::of(engine).await?;
        let passwords = [
            ("FREEHOLD_PASSWORD", ROUTER),
            ("FREEHOLD_SWEEPER_PASSWORD", SWEEPER),
            ("FREEHOLD_MOVER_PASSWORD", "mover-password"),
            ("FREEHOLD_SCHEMA_PASSWORD", SCHEMA),
        ];
        let mut sql = server.connect().await?;
        sql.run(&deploy::sql(engine, "accounts.sql", &passwords)?)
            .await?;
        for user in ["freehold", "freehold_sweeper", "freehold_schema"] {
            sql.run(&format!("ALTER USER '{user}'@'%' {requires}"))
                .await?;
        }
        let parameters = parameters.replace("CA", &server.ca_file().display().to_string());
        let dsn = |user: &str| {
            format!(
                "mysql://{user}@127.0.0.1:{}/freehold?{parameters}",
                server.port()
            )
        };
        let shard = Shard {
            name: "a".to_owned(),
            master: dsn("freehold"),
            replicas: Vec::new(),
        };
        let sweeper = "[sweeper]\nuser = \"freehold_sweeper\"\npassword_file = \"sweeper\"\n";
        let mut router = Router::configure(&[shard], sweeper)?;
        for (name, password) in [("router", ROUTER), ("sweeper", SWEEPER), ("schema", SCHEMA)] {
            // What stands behind the first line is no part of it.
            fs::write(
                router.folder().join(name),
                format!("{password}\nnot this\n"),
            )?;
        }
        router.set_environment("ROUTER_PASSWORD", ROUTER);
        Ok(Self { server, router })
    }

    /// Init, the rights on single tables, and a first request.
    async fn serves(&mut self) -> Result<()> {
        let init = [
            "init",
            "--user",
            "freehold_schema",
            "--password-file",
            "schema",
        ];
        self.router.with_config(&init).await?.success()?;
        let grants = deploy::sql(self.server.engine(), "grants.sql", &[])?;
        self.server.connect().await?.run(&grants).await?;
        self.router.serve().await?;
        let client = client(&self.router).await?;
        until("a first write", async || {
            Ok(client.put("k", "v").await.is_ok())
        })
        .await?;
        let read = client.get("k").await?;
        assert_eq!(read.entry.map(|entry| entry.value), Some("v".into()));
        assert!(client.persist("k").await?.existed);
        assert!(client.delete("k").await?.existed);
        self.sweeps().await
    }

    /// The sweeper's own account may do what it must.
    async fn sweeps(&self) -> Result<()> {
        let mut sql = self.server.connect().await?;
        until("the deleted row to be swept", async || {
            Ok(crate::table::count(&mut sql).await? == 0)
        })
        .await
    }

    async fn tls_sessions(&self) -> Result<u64> {
        let mut sql = self.server.connect().await?;
        let (_, accepted): (String, u64) = sql
            .one("SHOW GLOBAL STATUS LIKE 'Ssl_finished_accepts'")
            .await?;
        Ok(accepted)
    }
}

async fn a_password_file_and_a_plain_connection(engine: Engine) -> Result<()> {
    let mut scene = Scene::new(engine, "password_file=router", "").await?;
    scene.serves().await?;
    assert_eq!(scene.tls_sessions().await?, 0, "the DSN asks for no TLS");
    Ok(())
}

async fn a_password_variable_and_a_verified_certificate(engine: Engine) -> Result<()> {
    let parameters = "password_env=ROUTER_PASSWORD&ssl_mode=verify_ca&ssl_ca=CA";
    let mut scene = Scene::new(engine, parameters, "REQUIRE SSL").await?;
    scene.serves().await?;
    assert!(scene.tls_sessions().await? > 0);
    Ok(())
}

async fn a_certificate_of_another_authority_is_refused(engine: Engine) -> Result<()> {
    let stranger = Server::of(Engine::MariaDb).await?;
    let ca = stranger.ca_file().display();
    let parameters = format!("password_file=router&ssl_mode=verify_ca&ssl_ca={ca}");
    let scene = Scene::new(engine, &parameters, "").await?;
    let init = [
        "init",
        "--user",
        "freehold_schema",
        "--password-file",
        "schema",
    ];
    let answer = scene.router.with_config(&init).await?;
    assert_eq!(answer.code, Some(3), "{}{}", answer.stdout, answer.stderr);
    let words = answer.stderr.to_lowercase();
    assert!(
        words.contains("shard 'a'") && words.contains("certificate"),
        "{}",
        answer.stderr
    );
    Ok(())
}

async fn a_password_that_was_rotated_is_taken_at_the_next_connection(engine: Engine) -> Result<()> {
    let mut scene = Scene::new(engine, "password_file=router", "").await?;
    scene.serves().await?;
    let mut sql = scene.server.connect().await?;
    sql.run("ALTER USER 'freehold'@'%' IDENTIFIED BY 'rotated'")
        .await?;
    fs::write(scene.router.folder().join("router"), "rotated\n")?;
    scene.server.kill_and_start_again().await?;
    let client = client(&scene.router).await?;
    until("the new password to be used", async || {
        Ok(client.put("k", "2").await.is_ok())
    })
    .await
}

on_servers!(
    a_password_file_and_a_plain_connection,
    a_password_variable_and_a_verified_certificate,
    a_certificate_of_another_authority_is_refused,
    a_password_that_was_rotated_is_taken_at_the_next_connection,
);

/// The first login with such a password is another exchange than the later ones: over a plain
/// connection with the server's RSA key, over TLS as it is.
async fn logs_in_with_caching_sha2_password(parameters: &str, requires: &str) -> Result<()> {
    let method = format!("IDENTIFIED WITH caching_sha2_password BY '{ROUTER}' {requires}");
    let mut scene = Scene::new(Engine::MySql, parameters, requires).await?;
    let mut sql = scene.server.connect().await?;
    sql.run(&format!(
        "ALTER USER 'freehold'@'%' {method}; FLUSH PRIVILEGES"
    ))
    .await?;
    scene.serves().await?;
    let plugin: String = sql
        .one("SELECT plugin FROM mysql.user WHERE user = 'freehold'")
        .await?;
    assert_eq!(plugin, "caching_sha2_password");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caching_sha2_password_over_a_plain_connection() -> Result<()> {
    logs_in_with_caching_sha2_password("password_file=router", "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caching_sha2_password_over_tls() -> Result<()> {
    let parameters = "password_file=router&ssl_mode=verify_ca&ssl_ca=CA";
    logs_in_with_caching_sha2_password(parameters, "REQUIRE SSL").await
}
