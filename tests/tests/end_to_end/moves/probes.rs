//! Writers that find out how long slots that move take no writes.

use std::time::Duration;

use freehold_core::Slot;
use freehold_tests::Router;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::slots;
use crate::scene::{Result, client, slot_of};

/// How many there are, each with a slot of its own.
const PROBES: usize = 4;

/// Shorter than what is looked for: a probe asks anew, and is not the one that waits.
const PATIENT: Duration = Duration::from_secs(1);

const PAUSE: Duration = Duration::from_millis(10);

/// Writers to slots that move, through one router.
pub(crate) struct Probes {
    stop: CancellationToken,
    probes: JoinSet<Duration>,
}

/// Endless keys in the slots that move.
pub(crate) fn moving_keys(prefix: &str) -> impl Iterator<Item = String> {
    let slots = slots();
    (0_u64..)
        .map(move |number| format!("{prefix}:{number}"))
        .filter(move |key| slots.contains(Slot(slot_of(key))))
}

impl Probes {
    pub(crate) async fn start(router: &Router, prefix: &str) -> Result<Self> {
        let (stop, mut probes) = (CancellationToken::new(), JoinSet::new());
        for key in moving_keys(prefix).take(PROBES) {
            let (client, stop) = (client(router).await?, stop.clone());
            probes.spawn(async move {
                let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
                loop {
                    let put = client.put(key.clone(), "probe").timeout(PATIENT).await;
                    if put.is_ok() {
                        longest = longest.max(last.elapsed());
                        last = Instant::now();
                        if stop.is_cancelled() {
                            return longest;
                        }
                    }
                    sleep(PAUSE).await;
                }
            });
        }
        Ok(Self { stop, probes })
    }

    /// The longest that one of the slots took no writes, once each takes them again.
    pub(crate) async fn stop(self) -> Duration {
        self.stop.cancel();
        let longest = self.probes.join_all().await;
        longest.into_iter().max().unwrap_or_default()
    }
}
