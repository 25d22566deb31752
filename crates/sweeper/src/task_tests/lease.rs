//! One sweeper per shard.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{rows_left, start, start_with, until};
use crate::{fake::Fake, settings::SweeperSettings};

#[tokio::test(start_paused = true)]
async fn of_two_sweepers_one_deletes_and_the_other_takes_over_when_it_ends() {
    let master = Fake::with_rows(3_000);
    let (one, two) = (start(1, &master), start(2, &master));
    until("one of them has the lease", || {
        one.state().held_here || two.state().held_here
    })
    .await;
    let (first, second, second_id) = if one.state().held_here {
        (one, two, 2)
    } else {
        (two, one, 1)
    };
    until("the other knows", || second.waits_for() == Some("lease")).await;
    assert!(!second.state().held_here);
    assert_eq!(second.state().holder, first.state().holder);
    assert!(
        master
            .world()
            .deletions
            .iter()
            .all(|it| it.lease_holder != Some(second_id))
    );

    first.shutdown.cancel();
    first.task.await.unwrap();
    assert!(rows_left(&master) > 0);
    assert_eq!(
        master.world().lease,
        None,
        "a shutdown gives the lease back"
    );
    until("the other swept the rest", || rows_left(&master) == 0).await;
    assert!(second.state().rows_deleted > 0);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_dies_is_followed_after_its_lease() {
    let master = Fake::with_rows(100_000);
    let first = start(1, &master);
    until("it sweeps", || !master.world().deletions.is_empty()).await;
    let second = start(2, &master);
    first.task.abort();
    let died = Instant::now();
    until("the other has the lease", || second.state().held_here).await;
    assert!(
        died.elapsed() < Duration::from_secs(16),
        "{:?}",
        died.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_sweeper_that_cannot_renew_has_stopped_before_its_lease_ends() {
    for deletion_takes_ms in [1, 700, 2_400] {
        let master = Fake::with_rows(10_000);
        master.world().deletion_takes = Duration::from_millis(deletion_takes_ms);
        let settings = SweeperSettings {
            batch_rows_max: 1,
            ..SweeperSettings::default()
        };
        let sweeper = start_with(1, &master, &[], settings);
        until("it sweeps", || master.world().deletions.len() > 2).await;
        let ends_at = {
            let mut world = master.world();
            world.lease_frozen = true;
            world.lease.as_ref().unwrap().2
        };
        sleep(Duration::from_secs(60)).await;
        let last = master.world().deletions.last().unwrap().clone();
        let ended = last
            .ended
            .unwrap_or(last.started + SweeperSettings::default().statement_time_max);
        assert!(
            ended <= ends_at,
            "still deleting {:?} after the end",
            ended - ends_at
        );
        assert!(!sweeper.state().held_here);
        assert_eq!(sweeper.waits_for(), Some("master"));
        assert!(
            sweeper
                .state()
                .last_error
                .unwrap()
                .message
                .contains("no answer to the lease")
        );

        master.world().lease_frozen = false;
        let before = master.world().deletions.len();
        until("it sweeps again", || {
            master.world().deletions.len() > before
        })
        .await;
        sweeper.shutdown.cancel();
        sweeper.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_another_took_ends_sweeping_at_once() {
    let master = Fake::with_rows(100_000);
    let sweeper = start(1, &master);
    until("it sweeps", || !master.world().deletions.is_empty()).await;
    // As after a jump of the database's clock.
    let taken = Instant::now() + Duration::from_secs(3_600);
    master.world().lease = Some((9, "router-9".to_owned(), taken));
    until("it knows", || sweeper.waits_for() == Some("lease")).await;
    assert_eq!(sweeper.state().holder.as_deref(), Some("router-9"));
    let before = master.world().deletions.len();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(master.world().deletions.len(), before);
}
