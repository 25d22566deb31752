//! The loop over a fake database, on a clock that only moves when nothing else can.

use std::{sync::Arc, time::Duration};

use freehold_storage::sweep::Holder;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    background,
    fake::{Fake, denied},
    metrics::SweeperMetrics,
    settings::SweeperSettings,
    state::{Board, Snapshot, SweeperState},
    task::Task,
    waiting::Waiting,
};

struct Running {
    shown: watch::Receiver<Snapshot>,
    wake: Arc<Notify>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn state(&self) -> SweeperState {
        self.shown.borrow().state(Instant::now())
    }

    fn waits_for(&self) -> Option<&'static str> {
        self.state().waiting_for.as_ref().map(Waiting::as_str)
    }
}

fn start_with(id: u64, master: &Fake, replicas: &[Fake], settings: SweeperSettings) -> Running {
    settings.check().unwrap();
    let (board, shown) = Board::new("a", &SweeperMetrics::default());
    let holder = Holder {
        id,
        name: format!("router-{id}"),
    };
    let (wake, shutdown) = (Arc::new(Notify::new()), CancellationToken::new());
    let stop_time_max = settings.stop_time_max;
    let task = Task::new(master.clone(), replicas.to_vec(), settings, holder, board);
    let (rng, woken, token) = (
        StdRng::seed_from_u64(id),
        Arc::clone(&wake),
        shutdown.clone(),
    );
    let task = tokio::spawn(async move {
        background::run(task, rng, &woken, token, stop_time_max).await;
    });
    Running {
        shown,
        wake,
        shutdown,
        task,
    }
}

fn start(id: u64, master: &Fake) -> Running {
    start_with(id, master, &[], SweeperSettings::default())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = timeout(Duration::from_secs(600), async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}

fn rows_left(master: &Fake) -> usize {
    master.world().rows.len()
}

#[tokio::test(start_paused = true)]
async fn everything_due_is_deleted_in_bounded_batches_with_pauses() {
    let master = Fake::with_rows(1_000);
    let sweeper = start(1, &master);
    until("all rows are gone", || rows_left(&master) == 0).await;
    until("it shows that nothing is due", || {
        sweeper.waits_for() == Some("rows")
    })
    .await;
    let state = sweeper.state();
    assert_eq!(state.rows_deleted, 1_000);
    assert_eq!(
        (state.held_here, state.holder.as_deref()),
        (true, Some("router-1"))
    );
    let deletions = master.world().deletions.clone();
    assert_eq!(deletions.len(), 8);
    assert!(deletions.iter().all(|deletion| deletion.rows <= 128));
    for pair in deletions.windows(2) {
        // A batch takes 11 ms here, and its read one more.
        let pause = pair[1].started - pair[0].ended.unwrap();
        assert!(pause >= Duration::from_millis(12), "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_sweeper_reads_seldom_and_keeps_its_lease() {
    let master = Fake::with_rows(0);
    let sweeper = start(1, &master);
    until("it has the lease", || sweeper.state().held_here).await;
    let reads = master.world().reads;
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        assert!(sweeper.state().held_here);
    }
    let reads = master.world().reads - reads;
    assert!((20..=30).contains(&reads), "{reads} reads in a minute");
    assert!(
        master
            .world()
            .lease
            .as_ref()
            .is_some_and(|lease| lease.2 > Instant::now())
    );
    assert_eq!(master.world().dials.len(), 1);
}

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
        let master = Fake::with_rows(1_000_000);
        master.world().deletion_takes = Duration::from_millis(deletion_takes_ms);
        let sweeper = start(1, &master);
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
    let master = Fake::with_rows(1_000_000);
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

#[tokio::test(start_paused = true)]
async fn a_pause_is_noticed_within_seconds_and_ends_so() {
    let master = Fake::with_rows(100_000);
    let sweeper = start(1, &master);
    until("it sweeps", || !master.world().deletions.is_empty()).await;
    master.world().paused = true;
    let paused = Instant::now();
    until("it shows the pause", || {
        sweeper.waits_for() == Some("operator")
    })
    .await;
    assert!(
        paused.elapsed() < Duration::from_secs(4),
        "{:?}",
        paused.elapsed()
    );
    assert!(sweeper.state().paused && sweeper.state().held_here);
    let before = master.world().deletions.len();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(master.world().deletions.len(), before);

    master.world().paused = false;
    let resumed = Instant::now();
    until("it sweeps again", || {
        master.world().deletions.len() > before
    })
    .await;
    assert!(
        resumed.elapsed() < Duration::from_secs(5),
        "{:?}",
        resumed.elapsed()
    );

    master.world().paused = true;
    sweeper.wake.notify_one();
    let nudged = Instant::now();
    until("it shows the pause", || {
        sweeper.waits_for() == Some("operator")
    })
    .await;
    assert!(
        nudged.elapsed() < Duration::from_secs(1),
        "{:?}",
        nudged.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn it_stops_for_a_replica_and_for_the_purge_and_says_which() {
    let (master, replica) = (Fake::with_rows(100_000), Fake::with_rows(0));
    let settings = SweeperSettings {
        purge_backlog_max: Some(10),
        ..Default::default()
    };
    let sweeper = start_with(1, &master, std::slice::from_ref(&replica), settings);
    let deleted = || master.world().deletions.len();
    until("it sweeps", || deleted() > 0).await;

    for unfit in [None, Some(Duration::from_secs(6))] {
        replica.world().lag = unfit;
        until("it waits for the replica", || {
            sweeper.waits_for() == Some("replica")
        })
        .await;
        assert!(
            sweeper
                .state()
                .waiting_for
                .unwrap()
                .to_string()
                .contains("replica fake:3306")
        );
        let before = deleted();
        sleep(Duration::from_secs(30)).await;
        assert_eq!(deleted(), before);
        assert!(sweeper.state().held_here, "waiting keeps the lease");
        replica.world().lag = Some(Duration::ZERO);
        until("it sweeps again", || deleted() > before).await;
    }

    master.world().purge_backlog = Ok(Some(11));
    until("it waits for the purge", || {
        sweeper.waits_for() == Some("purge")
    })
    .await;
    let before = deleted();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(deleted(), before);
    master.world().purge_backlog = Ok(Some(10));
    until("it sweeps again", || deleted() > before).await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_replica_stops_it_but_does_not_cost_the_lease() {
    let (master, replica) = (Fake::with_rows(100_000), Fake::with_rows(0));
    replica.world().frozen = true;
    let settings = SweeperSettings::default();
    let sweeper = start_with(1, &master, std::slice::from_ref(&replica), settings);
    until("it waits for the replica", || {
        sweeper.waits_for() == Some("replica")
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
