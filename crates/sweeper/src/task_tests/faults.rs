//! Servers that fall silent, refuse, or change.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{rows_left, start, start_with, until};
use crate::{
    fake::{Fake, denied},
    settings::SweeperSettings,
};

#[tokio::test(start_paused = true)]
async fn a_frozen_replica_stops_it_but_does_not_cost_the_lease() {
    let (master, replica) = (Fake::with_rows(100_000), Fake::with_rows(0));
    replica.world().frozen = true;
    let settings = SweeperSettings::default();
    let sweeper = start_with(1, &master, std::slice::from_ref(&replica), settings);
    until("it waits for the replica", || {
        sweeper.waits_for() == Some("replica_silent")
    })
    .await;
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        assert!(sweeper.state().held_here);
    }
    assert!(master.world().deletions.is_empty());
    let error = sweeper.state().last_error.unwrap();
    assert!(
        error.message.starts_with("replica fake:3306: "),
        "{error:?}"
    );
    replica.world().frozen = false;
    until("it sweeps", || !master.world().deletions.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_purge_that_it_may_not_see_does_not_stop_it() {
    let master = Fake::with_rows(100);
    master.world().purge_backlog = Err(denied());
    let sweeper = start(1, &master);
    until("all rows are gone", || rows_left(&master) == 0).await;
    assert!(
        sweeper
            .state()
            .last_error
            .unwrap()
            .message
            .contains("PROCESS privilege")
    );
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_disagrees_only_makes_it_read_again() {
    let master = Fake::with_rows(100);
    master.world().fence_at_deletion.stamp = 2;
    let sweeper = start(1, &master);
    until("all rows are gone", || rows_left(&master) == 0).await;
    assert_eq!(master.world().deletions.len(), 2);
    assert_eq!(sweeper.state().rows_deleted, 100);
    assert_eq!(sweeper.state().last_error, None);
    assert_eq!(master.world().dials.len(), 1, "the connection stays good");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_down_or_frozen_is_swept_again() {
    let master = Fake::with_rows(100_000);
    let sweeper = start(1, &master);
    until("it sweeps", || !master.world().deletions.is_empty()).await;
    for freeze in [false, true] {
        let set = |out: bool| {
            let mut world = master.world();
            if freeze {
                world.frozen = out
            } else {
                world.down = out
            }
        };
        set(true);
        until("it notices", || sweeper.waits_for() == Some("master")).await;
        let dials = master.world().dials.len();
        sleep(Duration::from_secs(60)).await;
        let dials = master.world().dials.len() - dials;
        assert!((4..=20).contains(&dials), "{dials} attempts in a minute");
        assert!(!sweeper.state().held_here);
        set(false);
        let before = rows_left(&master);
        until("it sweeps again", || rows_left(&master) < before).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_is_quick_also_while_the_server_is_frozen() {
    let master = Fake::with_rows(100_000);
    let sweeper = start(1, &master);
    until("it sweeps", || !master.world().deletions.is_empty()).await;
    master.world().frozen = true;
    sleep(Duration::from_millis(500)).await;
    let asked = Instant::now();
    sweeper.shutdown.cancel();
    sweeper.task.await.unwrap();
    assert!(
        asked.elapsed() <= Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_the_master_is_asked_less_and_less() {
    let master = Fake::with_rows(100);
    master.world().fence_at_deletion.stamp = 2;
    master.world().fence_stays_behind = true;
    let sweeper = start(1, &master);
    until("it says so", || sweeper.waits_for() == Some("fence")).await;
    let before = master.world().deletions.len();
    sleep(Duration::from_secs(60)).await;
    let attempts = master.world().deletions.len() - before;
    assert!((5..=25).contains(&attempts), "{attempts} in a minute");
    assert!(sweeper.state().held_here);
    master.world().fence_stays_behind = false;
    until("all rows are gone", || rows_left(&master) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_connection_that_was_idle_for_long_is_opened_anew() {
    let (master, replica) = (Fake::with_rows(100), Fake::with_rows(0));
    let settings = SweeperSettings::default();
    let _sweeper = start_with(1, &master, std::slice::from_ref(&replica), settings);
    until("all rows are gone", || rows_left(&master) == 0).await;
    assert_eq!(replica.world().dials.len(), 1);
    sleep(Duration::from_secs(120)).await;
    let again = Fake::with_rows(100).world().rows.clone();
    master.world().rows = again;
    until("all rows are gone", || rows_left(&master) == 0).await;
    assert_eq!(replica.world().dials.len(), 2);
}
