//! Who connects, with what password and which rights.

use freehold_storage::{Outcome, Refusal, StorageError};
use freehold_tests::{Engine, Login, Server, ServerOptions};

use crate::shard::{Result, Shard, expire, is_refused, keys, row, server, value};

on_servers!(
    a_password_file_is_read_at_every_connection,
    a_password_may_stand_in_a_variable,
    a_wrong_account_is_denied,
    a_database_that_is_not_there_is_a_missing_schema,
    four_rights_are_enough_for_requests,
    a_server_that_takes_no_writes_says_so,
);

fn refusal<T>(outcome: Result<T, StorageError>) -> Refusal {
    match outcome {
        Err(StorageError::Refused { refusal, .. }) => refusal,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it worked"),
    }
}

/// The DSN of an account without a password in it.
fn without_password(home: &Server, user: &str) -> String {
    home.dsn(&Login::new(user, "")).replace(":@", "@")
}

async fn a_password_file_is_read_at_every_connection(engine: Engine) -> Result<()> {
    let home = Server::of(engine).await?;
    let mut sql = home.connect().await?;
    sql.run("CREATE USER f@'%' IDENTIFIED BY 'first'; GRANT ALL ON freehold.* TO f@'%'")
        .await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("password");
    let dsn = format!(
        "{}?password_file={}",
        without_password(&home, "f"),
        file.display()
    );
    let server = server(&dsn)?;
    match server.connect().await {
        Err(StorageError::Unreachable { reason }) => {
            assert!(reason.contains(&file.display().to_string()), "{reason}");
        }
        _ => panic!("there is no file yet"),
    }
    // Only the first line counts, with either kind of line end.
    std::fs::write(&file, "first\r\nsecond\n")?;
    server.connect().await?;
    sql.run("ALTER USER f@'%' IDENTIFIED BY 'second'").await?;
    assert_eq!(refusal(server.connect().await), Refusal::Denied);
    std::fs::write(&file, "second")?;
    server.connect().await?;
    Ok(())
}

async fn a_password_may_stand_in_a_variable(engine: Engine) -> Result<()> {
    let home = Server::of(engine).await?;
    // A variable that is set wherever this test runs.
    let password = std::env::var("PATH")?;
    let mut sql = home.connect().await?;
    sql.run(&format!(
        "CREATE USER f@'%' IDENTIFIED BY '{password}'; GRANT ALL ON freehold.* TO f@'%'"
    ))
    .await?;
    let dsn = without_password(&home, "f");
    server(&format!("{dsn}?password_env=PATH"))?
        .connect()
        .await?;
    match server(&format!("{dsn}?password_env=FREEHOLD_NOT_SET"))?
        .connect()
        .await
    {
        Err(StorageError::Unreachable { reason }) => {
            assert!(reason.contains("FREEHOLD_NOT_SET"), "{reason}");
        }
        _ => panic!("the variable is not set"),
    }
    Ok(())
}

async fn a_wrong_account_is_denied(engine: Engine) -> Result<()> {
    let home = Server::of(engine).await?;
    let wrong = server(&home.dsn(&Login::new("admin", "wrong")))?
        .connect()
        .await;
    if let Err(error) = &wrong {
        assert!(!error.to_string().contains("wrong"), "{error}");
    }
    assert_eq!(refusal(wrong), Refusal::Denied);
    let mut sql = home.connect().await?;
    sql.run("CREATE USER nobody@'%' IDENTIFIED BY 'secret'")
        .await?;
    let without_rights = server(&home.dsn(&Login::new("nobody", "secret")))?;
    assert_eq!(refusal(without_rights.connect().await), Refusal::Denied);
    Ok(())
}

async fn a_database_that_is_not_there_is_a_missing_schema(engine: Engine) -> Result<()> {
    let home = Server::of(engine).await?;
    let elsewhere = server(&home.dsn(&Login::admin().database("elsewhere")))?;
    assert_eq!(refusal(elsewhere.connect().await), Refusal::Schema);
    Ok(())
}

async fn four_rights_are_enough_for_requests(engine: Engine) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let server = shard.account("f", "SELECT, INSERT, UPDATE, DELETE").await?;
    let mut data = server.connect().await?;
    let keys = keys(2);
    let rows: Vec<_> = keys.iter().map(|key| row(key, "v")).collect();
    assert_eq!(
        data.put(&shard.fence, &rows).await,
        [Outcome::Applied(()), Outcome::Applied(())]
    );
    assert_eq!(value(&mut data, &keys[0]).await?, Some(b"v".to_vec()));
    let rows = [expire(&keys[0], Some(60_000))];
    assert_eq!(
        data.expire(&shard.fence, &rows).await,
        [Outcome::Applied(true)]
    );
    assert_eq!(
        data.delete(&shard.fence, &keys[..1]).await,
        [Outcome::Applied(true)]
    );
    assert_eq!(data.claims(0).await?.claims.len(), 65_536);
    Ok(())
}

async fn a_server_that_takes_no_writes_says_so(engine: Engine) -> Result<()> {
    let mut shard = Shard::of(engine).await?;
    let server = shard.account("f", "SELECT, INSERT, UPDATE, DELETE").await?;
    let key = &keys(1)[0];
    let mut data = server.connect().await?;
    assert_eq!(
        data.put(&shard.fence, &[row(key, "v")]).await,
        [Outcome::Applied(())]
    );
    // While it is connected, and from the start.
    shard
        .home
        .connect()
        .await?
        .run("SET GLOBAL read_only = ON")
        .await?;
    for mut data in [data, server.connect().await?] {
        assert!(is_refused(
            &data.put(&shard.fence, &[row(key, "w")]).await[0],
            Refusal::ReadOnly
        ));
        let keys = std::slice::from_ref(key);
        assert!(is_refused(
            &data.delete(&shard.fence, keys).await[0],
            Refusal::ReadOnly
        ));
        let rows = [expire(key, None)];
        assert!(is_refused(
            &data.expire(&shard.fence, &rows).await[0],
            Refusal::ReadOnly
        ));
        assert_eq!(value(&mut data, key).await?, Some(b"v".to_vec()));
    }
    shard.home.stop().await?;
    *shard.home.options_mut() = ServerOptions::new(engine).argument("--innodb-read-only=ON");
    shard.home.start_again().await?;
    let mut data = server.connect().await?;
    let put = data.put(&shard.fence, &[row(key, "w")]).await;
    assert!(is_refused(&put[0], Refusal::ReadOnly), "{put:?}");
    assert_eq!(value(&mut data, key).await?, Some(b"v".to_vec()));
    Ok(())
}
