//! A server in a zone with summer time, in the hour that autumn repeats.
//!
//! Local times of that hour mean two moments, and a server that is asked for one of them takes the
//! other half of the time. The zones here are made for the test: the clocks go back a little later
//! than now, or went back a little earlier. The server's clock itself runs as it always does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use freehold_tests::{Engine, ServerOptions};
use tempfile::TempDir;

use crate::{
    expiry,
    lane::{key, row_with_ttl},
    lease, operations,
    store::{Result, Store},
    sweep,
};

on_own_servers!(
    time_is_right_in_the_hour_before_the_clocks_go_back,
    time_is_right_in_the_hour_after_the_clocks_went_back,
    a_row_outlives_the_moment_the_clocks_go_back,
);

const HALF_AN_HOUR_S: i64 = 1_800;

async fn time_is_right_in_the_hour_before_the_clocks_go_back(engine: Engine) -> Result<()> {
    let folder = TempDir::new()?;
    let store = in_zone(engine, folder.path(), now_s()? + HALF_AN_HOUR_S).await?;
    assert_eq!(offset_s(&store).await?, 7_200, "it is summer");
    assert_eq!(
        error_of_local_clock_s(&store).await?,
        3_600,
        "else nothing can go wrong here"
    );
    everything_about_time(&store).await
}

async fn time_is_right_in_the_hour_after_the_clocks_went_back(engine: Engine) -> Result<()> {
    let folder = TempDir::new()?;
    let store = in_zone(engine, folder.path(), now_s()? - HALF_AN_HOUR_S).await?;
    assert_eq!(offset_s(&store).await?, 3_600, "summer is over");
    assert_eq!(error_of_local_clock_s(&store).await?, 0);
    everything_about_time(&store).await
}

async fn a_row_outlives_the_moment_the_clocks_go_back(engine: Engine) -> Result<()> {
    let folder = TempDir::new()?;
    // Soon, but not before the server is up and the row is there.
    let store = in_zone(engine, folder.path(), now_s()? + 15).await?;
    let mut lane = store.ready().await?;
    let k = key("k");
    lane.put([row_with_ttl(&k, "value", 120_000)]).await?;
    assert_eq!(offset_s(&store).await?, 7_200, "it is still summer");
    let mut ttl_ms_before = 120_000;
    loop {
        let winter = offset_s(&store).await? == 3_600;
        let found = lane.row(&k).await?.ok_or("the row is gone")?;
        let ttl_ms = found.ttl_ms.ok_or("no ttl")?;
        assert!(
            ttl_ms <= ttl_ms_before,
            "the row gained time: {ttl_ms_before}, then {ttl_ms}"
        );
        ttl_ms_before = ttl_ms;
        if winter {
            break;
        }
    }
    assert!(lane.expire_one(&k, Some(60_000)).await?);
    assert!(lane.delete_one(&k).await?);
    Ok(())
}

/// The tests of other modules that ask what time it is, on one and the same server.
async fn everything_about_time(store: &Store) -> Result<()> {
    expiry::an_expiry_is_counted_from_the_databases_now(store).await?;
    expiry::a_read_finds_a_row_until_the_very_millisecond_it_expires(store).await?;
    expiry::a_delete_finds_a_row_until_the_very_millisecond_it_expires(store).await?;
    expiry::an_expire_finds_a_row_until_the_very_millisecond_it_expires(store).await?;
    operations::an_expire_changes_the_expiry_and_nothing_else(store).await?;
    sweep::deleted_and_expired_rows_are_due_and_live_ones_are_not(store).await?;
    lease::a_lease_ends_by_the_databases_clock(store).await
}

/// How far off the clock is that a session in the server's zone sees. Of the two moments that its
/// local time means both servers take the later one.
async fn error_of_local_clock_s(store: &Store) -> Result<i64> {
    let mut audit = store.audit().await?;
    let query = "SELECT UNIX_TIMESTAMP()";
    let right = audit.number(query).await?;
    audit.run("SET time_zone = 'SYSTEM'").await?;
    let of_local_time = "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) AS SIGNED)";
    let shown = audit.number(of_local_time).await?;
    // Between the two looks a little time passed.
    Ok((shown - right) / 60 * 60)
}

/// How far local time is ahead of UTC.
async fn offset_s(store: &Store) -> Result<i64> {
    let mut audit = store.audit().await?;
    audit.run("SET time_zone = 'SYSTEM'").await?;
    let query = "SELECT ROUND(TIME_TO_SEC(TIMEDIFF(NOW(), UTC_TIMESTAMP())))";
    audit.number(query).await
}

/// The system's clock, which is the servers' too.
fn now_s() -> Result<i64> {
    let clock = rusqlite::Connection::open_in_memory()?;
    Ok(clock.query_row("SELECT unixepoch()", (), |row| row.get(0))?)
}

async fn in_zone(engine: Engine, folder: &Path, clocks_go_back_at_s: i64) -> Result<Store> {
    let file: PathBuf = folder.join("zone");
    fs::write(&file, zone(clocks_go_back_at_s.try_into()?))?;
    let name = file.to_str().ok_or("the path of the zone is not UTF-8")?;
    Store::with_options(ServerOptions::new(engine).time_zone(name)).await
}

/// A time zone file (RFC 9636, version 1): two hours ahead of UTC for half a year, until the
/// clocks go back to one hour ahead.
fn zone(clocks_go_back_at_s: i32) -> Vec<u8> {
    const HALF_A_YEAR_S: i32 = 182 * 86_400;
    let transitions = [clocks_go_back_at_s - HALF_A_YEAR_S, clocks_go_back_at_s];
    let names = b"SUMMER\0WINTER\0";
    let mut file = b"TZif".to_vec();
    file.extend([0; 16]);
    // UTC and standard indicators, leap seconds: none. Transitions, types, bytes of names.
    for count in [0, 0, 0, 2, 2, names.len() as u32] {
        file.extend(count.to_be_bytes());
    }
    transitions
        .iter()
        .for_each(|at| file.extend(at.to_be_bytes()));
    // Each transition's type; then each type's offset, whether it is summer time, and its name.
    file.extend([0, 1]);
    for (offset_s, summer, name) in [(7_200_i32, 1, 0), (3_600, 0, 7)] {
        file.extend(offset_s.to_be_bytes());
        file.extend([summer, name]);
    }
    file.extend(names);
    file
}
