//! TLS as the DSN asks for it.

use freehold_storage::StorageError;
use freehold_tests::{Engine, Login, Server, ServerOptions};

use crate::shard::{Result, server};

on_servers!(
    each_mode_checks_what_it_says_and_encrypts,
    a_password_goes_through_plain_and_encrypted_connections,
    a_missing_authority_file_is_named,
);

/// Where the server listens too, and what its certificate does not name.
const OTHER_NAME: &str = "127.0.0.2";

async fn connects(dsn: &str) -> Result<(), StorageError> {
    server(dsn).expect("a DSN").connect().await.map(drop)
}

fn reason(outcome: Result<(), StorageError>) -> String {
    match outcome {
        Err(StorageError::Unreachable { reason }) => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn each_mode_checks_what_it_says_and_encrypts(engine: Engine) -> Result<()> {
    let both = format!("--bind-address=127.0.0.1,{OTHER_NAME}");
    let home = Server::start(ServerOptions::new(engine).argument(&both)).await?;
    let foreign = tempfile::tempdir()?;
    let foreign = freehold_tests::Certificates::write(foreign.path())?.ca;
    let plain = home.dsn(&Login::admin());
    let other_name = plain.replace("127.0.0.1", OTHER_NAME);
    let own = format!("ssl_ca={}", home.ca_file().display());
    let foreign = format!("ssl_ca={}", foreign.display());

    connects(&plain).await?;
    connects(&format!("{other_name}?ssl_mode=required")).await?;
    for place in [&plain, &other_name] {
        connects(&format!("{place}?{own}")).await?;
        connects(&format!("{place}?ssl_mode=verify_ca&{own}")).await?;
    }
    connects(&format!("{plain}?ssl_mode=verify_identity&{own}")).await?;

    let wrong_name = connects(&format!("{other_name}?ssl_mode=verify_identity&{own}")).await;
    assert!(reason(wrong_name).contains("not valid for name"));
    for mode in ["verify_ca", "verify_identity"] {
        for authority in [foreign.as_str(), ""] {
            let refused = connects(&format!("{plain}?ssl_mode={mode}&{authority}")).await;
            let reason = reason(refused);
            assert!(reason.contains("certificate"), "{mode}: {reason}");
        }
    }
    // Encryption is in force: an account that must use it gets in.
    let mut sql = home.connect().await?;
    sql.run("CREATE USER careful@'%' IDENTIFIED BY 'secret' REQUIRE SSL")
        .await?;
    sql.run("GRANT ALL ON freehold.* TO careful@'%'").await?;
    let careful = home.dsn(&Login::new("careful", "secret"));
    connects(&format!("{careful}?ssl_mode=required")).await?;
    assert!(matches!(
        connects(&careful).await,
        Err(StorageError::Refused { .. })
    ));
    Ok(())
}

/// MySQL's usual way of keeping passwords, and MariaDB's two. The first use of a password needs the
/// long exchange, the second the short one.
async fn a_password_goes_through_plain_and_encrypted_connections(engine: Engine) -> Result<()> {
    let home = Server::of(engine).await?;
    let ways: &[&str] = match engine {
        Engine::MariaDb => &["VIA mysql_native_password USING PASSWORD('secret')"],
        Engine::MySql => &["WITH caching_sha2_password BY 'secret'"],
    };
    let mut sql = home.connect().await?;
    for (index, way) in ways.iter().enumerate() {
        for (protection, parameters) in [
            ("plain", String::new()),
            ("tls", format!("?ssl_ca={}", home.ca_file().display())),
        ] {
            let user = format!("{protection}{index}");
            sql.run(&format!(
                "CREATE USER {user}@'%' IDENTIFIED {way}; GRANT ALL ON freehold.* TO {user}@'%'"
            ))
            .await?;
            let dsn = home.dsn(&Login::new(&user, "secret"));
            for _ in 0..2 {
                connects(&format!("{dsn}{parameters}")).await?;
            }
        }
    }
    Ok(())
}

async fn a_missing_authority_file_is_named(engine: Engine) -> Result<()> {
    let home = Server::of(engine).await?;
    let dsn = format!("{}?ssl_ca=/nowhere/ca.pem", home.dsn(&Login::admin()));
    assert!(reason(connects(&dsn).await).contains("/nowhere/ca.pem"));
    Ok(())
}
