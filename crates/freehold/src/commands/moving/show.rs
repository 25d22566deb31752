//! A move as people watch it.

use std::time::Duration;

use freehold_mover::{Pause, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::output::{Output, human};

/// How often it changes.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// A bar on standard error.
#[derive(Clone)]
pub(super) struct Bar {
    bar: ProgressBar,
    started: Instant,
}

impl Bar {
    pub(super) fn new(output: Output, slots: u64) -> Self {
        let bar = match output.is_json() {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(slots),
        };
        bar.enable_steady_tick(TICK);
        let template = "{wide_bar} {percent:>3}%  {msg}  ETA {eta}";
        Self {
            bar: match ProgressStyle::with_template(template) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            },
            started: Instant::now(),
        }
    }

    /// Shows what comes.
    pub(super) fn follow(&self, mut progress: watch::Receiver<Progress>) -> JoinHandle<()> {
        let bar = self.clone();
        tokio::spawn(async move {
            while progress.changed().await.is_ok() {
                let now = Seen::from(&*progress.borrow_and_update());
                bar.show(&now);
                tokio::time::sleep(TICK).await;
            }
        })
    }

    /// Shows how far it is now.
    pub(super) fn show(&self, now: &Seen) {
        self.bar.set_position(now.slots_done);
        self.bar.set_message(message(now, self.started.elapsed()));
    }

    /// Says something that the bar shall not write over.
    pub(super) fn note(&self, text: &str, output: Output) {
        self.bar.suspend(|| output.note(text));
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// How far a move is, as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) slots_done: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// What is being done.
    pub(super) doing: String,
    pub(super) resting_percent: u64,
    pub(super) pause_last: Option<Duration>,
}

impl From<&Progress> for Seen {
    fn from(progress: &Progress) -> Self {
        Self {
            slots_done: progress.slots_done,
            rows: progress.rows,
            bytes: progress.bytes,
            doing: progress.doing.to_owned(),
            resting_percent: progress.resting_percent,
            pause_last: progress.pauses.last().map(Pause::whole),
        }
    }
}

fn message(seen: &Seen, elapsed: Duration) -> String {
    let rate = seen.bytes as f64 / elapsed.as_secs_f64().max(0.001);
    let pause = seen
        .pause_last
        .map(|pause| format!(", last pause {}", human::duration(pause)));
    let resting = match seen.resting_percent {
        0 => String::new(),
        percent => format!(" ({percent} % of the time at rest for requests)"),
    };
    format!(
        "{}{resting}: {}, {}, {}/s{}",
        seen.doing,
        human::plural(seen.rows, "row"),
        human::bytes(seen.bytes),
        human::bytes(rate as u64),
        pause.unwrap_or_default()
    )
}
