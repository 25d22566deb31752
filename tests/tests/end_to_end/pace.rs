//! How fast something goes before and during a trouble, on a machine that has other work.
//!
//! What is measured is compared with a control that the trouble cannot reach: whatever slows both
//! is the machine's doing.

use std::{ops::Range, time::Duration};

use freehold_tests::Sql;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::scene::Result;

/// Calls are counted in windows of this length.
const WINDOW: Duration = Duration::from_millis(250);

/// When calls began, and what each took.
pub(crate) type Calls = Vec<(Instant, Duration)>;

/// What calls of one time took, mostly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Half of the calls took less.
    pub(crate) median: Duration,
    /// One of ten took more.
    pub(crate) slow: Duration,
    /// Calls in a window; half of the windows had more.
    pub(crate) calls_per_window: usize,
}

impl Pace {
    /// The pace of the calls that began in this time; none if there are too few to tell.
    pub(crate) fn of(calls: &Calls, time: &Range<Instant>) -> Option<Self> {
        let mut windows =
            vec![0; ((time.end - time.start).as_millis() / WINDOW.as_millis()) as usize];
        let mut took = Vec::new();
        for (began, duration) in calls.iter().filter(|(began, _)| time.contains(began)) {
            took.push(*duration);
            let window = (*began - time.start).as_millis() / WINDOW.as_millis();
            if let Some(count) = windows.get_mut(window as usize) {
                *count += 1;
            }
        }
        took.sort_unstable();
        windows.sort_unstable();
        Some(Self {
            median: *took.get(took.len() / 2)?,
            slow: *took.get(took.len() * 9 / 10)?,
            calls_per_window: *windows.get(windows.len() / 2)?,
        })
    }
}

/// Small writes straight to a server, one after the other, until it is stopped.
pub(crate) struct Control {
    stop: CancellationToken,
    writing: JoinHandle<Result<Calls>>,
}

impl Control {
    pub(crate) async fn start(mut server: Sql, pause: Duration) -> Result<Self> {
        server
            .run("CREATE TABLE control (id INT PRIMARY KEY, n INT) ENGINE=InnoDB")
            .await?;
        server.run("INSERT INTO control VALUES (1, 0)").await?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let writing = tokio::spawn(async move {
            let mut calls = Calls::new();
            while !stopped.is_cancelled() {
                let began = Instant::now();
                server
                    .run("UPDATE control SET n = n + 1 WHERE id = 1")
                    .await?;
                calls.push((began, began.elapsed()));
                sleep(pause).await;
            }
            Ok(calls)
        });
        Ok(Self { stop, writing })
    }

    pub(crate) async fn stop(self) -> Result<Calls> {
        self.stop.cancel();
        self.writing.await?
    }
}

#[test]
fn a_pace_is_that_of_its_time() {
    let start = Instant::now();
    let ms = Duration::from_millis;
    // A call each 10 ms, of 1 to 10 ms; and later ones that are slower.
    let calls: Calls = (0..200)
        .map(|n| {
            (
                start + ms(10 * n),
                ms(if n < 100 { n % 10 + 1 } else { 50 }),
            )
        })
        .collect();
    let first = Pace::of(&calls, &(start..start + ms(1_000))).expect("calls");
    assert_eq!(
        (first.median, first.slow, first.calls_per_window),
        (ms(6), ms(10), 25)
    );
    let second = Pace::of(&calls, &(start + ms(1_000)..start + ms(2_000))).expect("calls");
    assert_eq!((second.median, second.slow), (ms(50), ms(50)));
    assert!(Pace::of(&calls, &(start + ms(5_000)..start + ms(6_000))).is_none());
}
