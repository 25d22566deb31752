//! Whether the databases hold what they must: every slot has one owner, no master has rows of slots
//! that are not its own, and replicas have what their masters have.
//!
//! [`owners`] judges what the masters say of their slots, [`strays`] looks for rows where none may
//! be, and [`replicas`] compares servers page by page. None of it locks anything, and a [`pace`]
//! keeps it from hurting those who work. What looks wrong is looked at again before it is called
//! wrong: slots move and replicas lag while all of it goes on. [`cluster`] finds out who leads,
//! [`report`] is what came of it, and [`background`] does all this by itself.

pub(crate) mod background;
pub(crate) mod cluster;
pub(crate) mod owners;
pub(crate) mod pace;
pub(crate) mod replicas;
pub(crate) mod report;
pub(crate) mod strays;

use std::time::Duration;

use freehold_core::ShardClaims;
use futures::{StreamExt as _, stream};
use tokio::time::sleep;

use self::{
    cluster::{Leader, leaders},
    owners::{Ownership, judge},
    pace::Pace,
    report::{Compared, Report, ShardReport},
};
use crate::cluster::servers::ShardServers;

/// Servers that are asked at once.
const SERVERS_AT_ONCE: usize = 16;

/// How often what looks wrong with slots is looked at again, and the pause in between. A move leaves
/// its slots without an owner for a moment only.
const LOOKS: usize = 6;

/// See [`LOOKS`].
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Who hears of progress: shard, server, rows that were compared.
pub(crate) type Told<'a> = dyn FnMut(&str, &str, u64) + Send + 'a;

/// How an audit goes about it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Rows per second and server that are read at most.
    pub(crate) rate_max: f64,
    /// How long a replica may take to catch up where it differs.
    pub(crate) lag_max: Duration,
    /// Look at the rows of this shard only.
    pub(crate) only: Option<String>,
}

/// Looks at everything, one shard after another. `told` hears of progress: shard, server, rows.
pub(crate) async fn audit(
    shards: &[ShardServers],
    settings: &Settings,
    told: &mut Told<'_>,
) -> Report {
    let (slots, leaders) = slots(shards).await;
    let mut reports = Vec::with_capacity(shards.len());
    let is_wanted = |name: &str| settings.only.as_ref().is_none_or(|only| only == name);
    for (shard, leader) in shards.iter().zip(leaders) {
        if is_wanted(&shard.name) {
            reports.push(look_at_shard(&shard.name, leader, settings, told).await);
        }
    }
    Report {
        slots,
        shards: reports,
    }
}

/// Looks at the rows of one shard.
pub(crate) async fn audit_shard(
    shard: &ShardServers,
    settings: &Settings,
    told: &mut Told<'_>,
) -> ShardReport {
    let leader = leaders(std::slice::from_ref(shard)).await.pop();
    let leader = leader.unwrap_or_else(|| Err("it has no servers".to_owned()));
    look_at_shard(&shard.name, leader, settings, told).await
}

/// Looks at the slots alone.
pub(crate) async fn audit_slots(shards: &[ShardServers]) -> Ownership {
    slots(shards).await.0
}

async fn look_at_shard(
    name: &str,
    leader: Result<Leader<'_>, String>,
    settings: &Settings,
    told: &mut Told<'_>,
) -> ShardReport {
    let mut report = ShardReport::new(name);
    match leader {
        Err(why) => report.unreached = Some(why),
        Ok(leader) => {
            report.master = leader.server.address().to_owned();
            look_at_servers(&leader, settings, &mut report, told).await;
        }
    }
    report
}

async fn look_at_servers(
    leader: &Leader<'_>,
    settings: &Settings,
    report: &mut ShardReport,
    told: &mut Told<'_>,
) {
    match strays::find(leader).await {
        Ok(strays) => report.strays = strays,
        Err(error) => report.unreached = Some(error.to_string()),
    }
    for replica in &leader.replicas {
        let mut compared = Compared::new(replica.address());
        let mut pace = Pace::new(settings.rate_max);
        let shard = report.name.clone();
        let mut tell = |rows| told(&shard, replica.address(), rows);
        let lag_max = settings.lag_max;
        let ended = replicas::compare(
            leader,
            replica,
            lag_max,
            &mut pace,
            &mut compared,
            &mut tell,
        );
        if let Err(error) = ended.await {
            compared.unfinished = Some(error.to_string());
        }
        report.replicas.push(compared);
    }
}

/// What is wrong with the slots, and stays so.
async fn slots(shards: &[ShardServers]) -> (Ownership, Vec<Result<Leader<'_>, String>>) {
    let mut lasting: Option<Ownership> = None;
    let mut look = 0;
    loop {
        let leaders = leaders(shards).await;
        let claims: Vec<(&str, Option<&ShardClaims>)> = shards
            .iter()
            .zip(&leaders)
            .map(|(shard, leader)| {
                let claims = leader.as_ref().ok().map(|leader| &leader.claims);
                (shard.name.as_str(), claims)
            })
            .collect();
        let seen = judge(&claims);
        // What a shard says that was not asked before was seen but once.
        let before = lasting
            .take()
            .filter(|before| before.unasked == seen.unasked);
        let is_certain = before.is_some();
        let still = match before {
            None => seen,
            Some(before) => before.still(&seen),
        };
        look += 1;
        if still.is_clean() || (is_certain && look >= LOOKS) {
            return (still, leaders);
        }
        if look == 2 * LOOKS {
            return (still.uncertain(), leaders);
        }
        lasting = Some(still);
        sleep(LOOK_PAUSE).await;
    }
}

/// The results of all, in order; a bounded number at a time.
async fn all<T>(asked: Vec<impl Future<Output = T>>) -> Vec<T> {
    stream::iter(asked)
        .buffered(SERVERS_AT_ONCE)
        .collect()
        .await
}
