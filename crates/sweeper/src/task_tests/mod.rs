//! The loop over a fake database, on a clock that only moves when nothing else can.

mod faults;
mod lease;

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
    fake::Fake,
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
    let servers = std::iter::once(master).chain(replicas).cloned().collect();
    let task = Task::new(servers, Arc::new(|| 0), settings, holder, board);
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

    master.world().rows.clear();
    until("nothing is due", || sweeper.waits_for() == Some("rows")).await;
    master.world().paused = true;
    sweeper.wake.notify_one();
    let nudged = Instant::now();
    until("it shows the pause", || {
        sweeper.waits_for() == Some("operator")
    })
    .await;
    master.world().paused = false;
    sweeper.wake.notify_one();
    until("it shows that nothing is due", || {
        sweeper.waits_for() == Some("rows")
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

    let late = Some(Duration::from_secs(6));
    for (unfit, word) in [(None, "replica_silent"), (late, "replica")] {
        replica.world().lag = unfit;
        until("it waits for the replica", || {
            sweeper.waits_for() == Some(word)
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
async fn a_long_pause_costs_neither_the_lease_nor_an_operators_word() {
    let master = Fake::with_rows(1_000);
    let minute = Duration::from_secs(60);
    let settings = SweeperSettings {
        pause_min: minute,
        pause_max: minute,
        ..SweeperSettings::default()
    };
    let sweeper = start_with(1, &master, &[], settings);
    until("it sweeps", || master.world().deletions.len() == 1).await;
    let first = master.world().deletions[0].started;
    while master.world().deletions.len() < 3 {
        sleep(Duration::from_millis(100)).await;
        assert!(sweeper.state().held_here);
    }
    assert!(first.elapsed() >= 2 * minute, "{:?}", first.elapsed());
    master.world().paused = true;
    let paused = Instant::now();
    until("it shows the pause", || {
        sweeper.waits_for() == Some("operator")
    })
    .await;
    assert!(paused.elapsed() < Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_router_that_does_not_offer_to_sweep_shows_who_does() {
    let master = Fake::with_rows(1_000);
    let settings = SweeperSettings {
        enabled: false,
        ..SweeperSettings::default()
    };
    let onlooker = start_with(1, &master, &[], settings);
    until("it has looked", || onlooker.waits_for() == Some("disabled")).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(master.world().lease, None);
    let other = start(2, &master);
    until("all rows are gone", || rows_left(&master) == 0).await;
    until("it shows the other", || onlooker.state().holder.is_some()).await;
    assert_eq!(onlooker.state().holder, other.state().holder);
    assert_eq!(onlooker.waits_for(), Some("disabled"));
}
