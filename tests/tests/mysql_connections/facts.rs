//! What a server tells of itself.

use freehold_storage::{Refusal, StorageError, schema::FACT_VARIABLES};
use freehold_tests::{Engine, Server, ServerOptions, replication};

use crate::shard::{Result, Shard, server};

on_servers!(
    the_facts_are_those_of_the_server,
    a_purge_backlog_is_told_or_denied,
    a_replica_that_stands_still_has_no_lag_to_tell,
    a_connection_that_has_a_name_is_looked_at_too,
);

async fn the_facts_are_those_of_the_server(engine: Engine) -> Result<()> {
    let shard = Shard::with_options(ServerOptions::new(engine).server_id(77)).await?;
    let facts = shard.schema().await?.facts().await?;
    let name = match engine {
        Engine::MariaDb => "MariaDB",
        Engine::MySql => "MySQL",
    };
    assert_eq!((facts.engine.as_str(), facts.server_id), (name, 77));
    // Both clocks are this machine's.
    let skew_ms = facts.clock_skew_ms.unsigned_abs();
    assert!(
        skew_ms <= facts.clock_error_ms,
        "{skew_ms} and {}",
        facts.clock_error_ms
    );
    assert_eq!(facts.key_collation.as_deref(), Some("binary"));
    assert!(
        facts
            .variables
            .keys()
            .all(|name| FACT_VARIABLES.contains(&name.as_str()))
    );
    for (variable, expected) in [
        ("max_allowed_packet", "67108864"),
        ("binlog_format", "ROW"),
        ("log_bin", "ON"),
    ] {
        assert_eq!(
            facts.variables.get(variable).map(String::as_str),
            Some(expected)
        );
    }
    let mut sql = shard.home.connect().await?;
    sql.run("ALTER TABLE store MODIFY `key` VARCHAR(700) CHARACTER SET latin1 NOT NULL")
        .await?;
    let facts = shard.schema().await?.facts().await?;
    assert_eq!(facts.key_collation.as_deref(), Some("latin1_swedish_ci"));

    let account = shard.account("f", "SELECT").await?;
    let facts = account.connect_schema().await?.facts().await?;
    assert!(
        facts.grants.iter().any(|grant| grant.contains("SELECT ON")),
        "{:?}",
        facts.grants
    );
    assert!(
        !facts.grants.concat().contains("IDENTIFIED"),
        "{:?}",
        facts.grants
    );
    assert_eq!(
        facts.clock_skew_ms.unsigned_abs().max(facts.clock_error_ms),
        facts.clock_error_ms
    );
    Ok(())
}

async fn a_purge_backlog_is_told_or_denied(engine: Engine) -> Result<()> {
    let shard = Shard::of(engine).await?;
    assert!(shard.sweep().await?.purge_backlog().await?.is_some());
    let account = shard.account("f", "SELECT").await?;
    match account.connect_sweep().await?.purge_backlog().await {
        Err(StorageError::Refused { refusal, .. }) => assert_eq!(refusal, Refusal::Denied),
        // MariaDB tells everybody.
        other => assert!(engine == Engine::MariaDb && other?.is_some()),
    }
    shard
        .home
        .connect()
        .await?
        .run("GRANT PROCESS ON *.* TO f@'%'")
        .await?;
    assert!(
        account
            .connect_sweep()
            .await?
            .purge_backlog()
            .await?
            .is_some()
    );
    Ok(())
}

async fn a_replica_that_stands_still_has_no_lag_to_tell(engine: Engine) -> Result<()> {
    let master = Server::of(engine).await?;
    let replica = replication::start_replica(&master).await?;
    let connect = |home: &Server| server(&home.dsn(&freehold_tests::Login::admin()));
    // A master follows nobody.
    assert_eq!(
        connect(&master)?
            .connect_sweep()
            .await?
            .replica_lag()
            .await?,
        None
    );
    let mut sweep = connect(&replica)?.connect_sweep().await?;
    assert!(sweep.replica_lag().await?.is_some());
    replication::stop_applier(&replica).await?;
    assert_eq!(sweep.replica_lag().await?, None);
    replication::start_applier(&replica).await?;
    replica
        .connect()
        .await?
        .run("STOP REPLICA IO_THREAD")
        .await?;
    assert_eq!(sweep.replica_lag().await?, None);
    Ok(())
}

async fn a_connection_that_has_a_name_is_looked_at_too(engine: Engine) -> Result<()> {
    let master = Server::of(engine).await?;
    let replica = replication::start_replica(&master).await?;
    replication::copy_by_name(&master, &replica, "other").await?;
    let replica_dsn = replica.dsn(&freehold_tests::Login::admin());
    let mut sweep = server(&replica_dsn)?.connect_sweep().await?;
    freehold_tests::until("the replica to follow", async || {
        Ok(sweep.replica_lag().await?.is_some())
    })
    .await
}
