//! Replicas that lag.

use std::{collections::BTreeMap, time::Duration};

use freehold_tests::{Server, replication};
use rand::{RngExt as _, rngs::StdRng};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::scene::Result;

/// The longest delay, in seconds.
const DELAY_S_MAX: u32 = 5;

/// How long a fault lasts at most.
const LASTS_MS_MAX: u64 = 2_500;

/// Makes one replica lag in one way after the other until `stop`, and says what was done how often.
pub(crate) async fn make_lag(
    replica: &Server,
    mut random: StdRng,
    stop: CancellationToken,
) -> Result<BTreeMap<String, u64>> {
    let mut done = BTreeMap::new();
    let mut note = |kind: String| *done.entry(kind).or_default() += 1;
    while !stop.is_cancelled() {
        let lasts = Duration::from_millis(random.random_range(200..LASTS_MS_MAX));
        match random.random_range(0..4) {
            0 => {
                let seconds = random.random_range(1..=DELAY_S_MAX);
                replication::set_delay(replica, seconds).await?;
                note(format!("delay {seconds} s"));
            }
            1 => {
                replication::stop_applier(replica).await?;
                note("applier stopped".to_owned());
            }
            2 => {
                let mut sql = replica.connect().await?;
                sql.run("STOP REPLICA IO_THREAD").await?;
                note("receiver stopped".to_owned());
            }
            _ => note("nothing".to_owned()),
        }
        stop.run_until_cancelled(sleep(lasts)).await;
        // Both threads again, without delay: some of the time it is as it should be.
        replication::set_delay(replica, 0).await?;
        let pause = Duration::from_millis(random.random_range(100..1_500));
        stop.run_until_cancelled(sleep(pause)).await;
    }
    Ok(done)
}
