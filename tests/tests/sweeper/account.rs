//! The account that operators are told to make for sweepers has every right that it needs.

use freehold_sweeper::SweeperSettings;
use freehold_tests::{Engine, Login, deploy};

use crate::shard::{Result, Shard};

async fn it_sweeps_with_the_least_rights(engine: Engine) -> Result {
    let mut shard = Shard::with_replica(engine).await?;
    let passwords = [
        ("FREEHOLD_PASSWORD", "secret-1"),
        ("FREEHOLD_SWEEPER_PASSWORD", "secret-2"),
        ("FREEHOLD_MOVER_PASSWORD", "mover-password"),
        ("FREEHOLD_SCHEMA_PASSWORD", "secret-3"),
    ];
    let mut admin = shard.master.connect().await?;
    admin
        .run(&deploy::sql(engine, "accounts.sql", &passwords)?)
        .await?;
    admin.run(&deploy::sql(engine, "grants.sql", &[])?).await?;
    shard.login = Login::new("freehold_sweeper", "secret-2");

    shard.put_expired("key", 500).await?;
    let sweeper = shard.sweeper(1, SweeperSettings::default());
    sweeper
        .until("all are gone", |state| state.rows_deleted == 500)
        .await;
    sweeper.handle.set_paused(true).await?;
    assert!(sweeper.state().paused);
    assert_eq!(sweeper.handle.count_due().await?.rows, 0);
    // Neither the replica's lag nor the purge was out of its sight.
    assert_eq!(sweeper.state().last_error, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_sweeps_with_the_least_rights_on_mariadb() -> Result {
    it_sweeps_with_the_least_rights(Engine::MariaDb).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_sweeps_with_the_least_rights_on_mysql() -> Result {
    it_sweeps_with_the_least_rights(Engine::MySql).await
}
