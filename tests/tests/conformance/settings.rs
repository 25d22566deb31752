//! Whatever a server's sessions are given by default, Freehold's promises hold.

use freehold_tests::Engine;

use crate::{
    bytes_exact, claims, expiry, fence, init, lease, operations, scan,
    store::{Result, Store},
    sweep,
};

on_servers!(
    every_sql_mode_will_do,
    every_character_set_and_collation_will_do,
    sessions_that_do_not_commit_or_isolate_by_default_will_do,
);

/// A round through all kinds of statements, on tables made under the same settings.
async fn everything(store: &Store, database: &str) -> Result<()> {
    store.empty(database).await?;
    operations::a_batch_answers_each_key_in_order(store).await?;
    operations::an_expire_changes_the_expiry_and_nothing_else(store).await?;
    bytes_exact::every_byte_may_stand_in_a_key(store).await?;
    bytes_exact::every_byte_may_stand_in_a_value(store).await?;
    bytes_exact::keys_that_look_alike_are_different_keys(store).await?;
    scan::a_prefix_finds_what_begins_with_it_and_nothing_else(store).await?;
    expiry::an_expired_row_is_nowhere_to_be_seen(store).await?;
    fence::a_write_with_another_fence_changes_no_row(store).await?;
    claims::states_and_peers_are_told_as_they_lie_there(store).await?;
    lease::one_of_two_holders_has_the_lease(store).await?;
    sweep::a_revived_row_is_never_deleted(store).await?;
    init::people_find_live_rows_in_the_view(store).await
}

async fn everything_under(store: &Store, settings: &[&str]) -> Result<()> {
    for setting in settings {
        // Shown if the test fails.
        println!("SET GLOBAL {setting}");
        let mut audit = store.audit().await?;
        audit.run(&format!("SET GLOBAL {setting}")).await?;
        everything(store, "").await?;
    }
    Ok(())
}

async fn every_sql_mode_will_do(store: &Store) -> Result<()> {
    // Each round costs seconds, so modes that bear each other share one.
    let common = [
        "sql_mode = ''",
        "sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,HIGH_NOT_PRECEDENCE,PAD_CHAR_TO_FULL_LENGTH,\
         NO_UNSIGNED_SUBTRACTION,NO_AUTO_VALUE_ON_ZERO'",
        "sql_mode = 'TRADITIONAL,ONLY_FULL_GROUP_BY,NO_DIR_IN_CREATE'",
    ];
    let own = match store.engine() {
        Some(Engine::MariaDb) => [
            "sql_mode = 'ORACLE'",
            "sql_mode = 'EMPTY_STRING_IS_NULL,TIME_ROUND_FRACTIONAL'",
        ],
        _ => [
            "sql_mode = 'TIME_TRUNCATE_FRACTIONAL'",
            "sql_mode = 'ALLOW_INVALID_DATES'",
        ],
    };
    everything_under(store, &common).await?;
    everything_under(store, &own).await
}

async fn every_character_set_and_collation_will_do(store: &Store) -> Result<()> {
    let own = match store.engine() {
        Some(Engine::MariaDb) => "CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_nopad_ai_ci",
        _ => "CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci",
    };
    let databases = [
        own,
        "CHARACTER SET latin1 COLLATE latin1_swedish_ci",
        "CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        "CHARACTER SET utf16 COLLATE utf16_unicode_ci",
        "CHARACTER SET sjis COLLATE sjis_japanese_ci",
        "CHARACTER SET binary",
    ];
    for database in databases {
        println!("CREATE DATABASE {database}");
        everything(store, database).await?;
    }
    // What new connections speak if they are not asked. (No client can speak UTF-16.)
    everything_under(
        store,
        &["character_set_server = latin1, collation_connection = latin1_german2_ci"],
    )
    .await
}

async fn sessions_that_do_not_commit_or_isolate_by_default_will_do(store: &Store) -> Result<()> {
    // What was set stays for the rounds that follow.
    let settings = [
        "autocommit = OFF",
        "TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "sql_safe_updates = ON, GLOBAL sql_select_limit = 3, GLOBAL completion_type = CHAIN, \
         GLOBAL innodb_lock_wait_timeout = 1",
        "TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
        "max_statement_time = 0",
    ];
    let known = if store.engine() == Some(Engine::MariaDb) {
        5
    } else {
        4
    };
    everything_under(store, &settings[..known]).await
}
