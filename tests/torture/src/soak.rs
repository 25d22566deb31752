//! A router that is used for a long time by callers that come and go: memory and descriptors stay as
//! they were, and nothing is left of who has gone.

use std::time::Duration;

use clap::Parser;
use freehold_tests::{Engine, Router, Server, Shard, until};
use tokio::time::Instant;

use crate::Result;
use crate::callers::{Mix, load};
use crate::gauge::{Taken, held};

/// Callers of one visit.
const CALLERS: usize = 64;

/// How long a visit lasts.
const VISIT: Duration = Duration::from_secs(4);

/// What memory may grow by from the first quarter to the last: the allocator's own.
const GROWTH_MIB_MAX: u64 = 24;

/// Descriptors that may be more: a connection to a database that is being renewed.
const DESCRIPTORS_MORE_MAX: usize = 4;

/// Sessions of the database that may be more: one that is being renewed.
const SESSIONS_MORE_MAX: usize = 2;

/// Of a thousand requests so many may fail.
const FAILED_PER_MILLE_MAX: u64 = 1;

const SETTINGS: &str = "[sweeper]\nidle_ms = 50\n";

/// Uses a router for a long time, with a sweeper that is always busy.
///
/// Exit code 0: it served, and what it takes stayed as it was.
#[derive(Debug, Clone, Parser)]
#[command(name = "soak", version)]
pub struct Options {
    /// Which database: mariadb or mysql.
    #[arg(long, default_value = "mariadb", value_parser = crate::options::engine)]
    pub engine: Engine,
    /// How long, in seconds.
    #[arg(long, default_value_t = 3_600)]
    pub seconds: u64,
}

/// What is looked at between two visits.
#[derive(Debug, Clone, Copy)]
struct Look {
    taken: Taken,
    /// Sessions of the database.
    sessions: usize,
}

/// Runs it on one shard: what the router took after each visit, and how many requests were served.
///
/// # Errors
/// Of the harness, and in words what was left behind or grew.
pub async fn run(options: &Options, mut tell: impl FnMut(&str)) -> Result<()> {
    let server = Server::of(options.engine).await?;
    let mut router = Router::init_and_serve(&[Shard::new("a", &server, &[])], SETTINGS).await?;
    let began = Instant::now();
    let (mut looks, mut served, mut failed) = (Vec::new(), 0, 0);
    // Four at least: one for each quarter.
    while looks.len() < 4 || began.elapsed() < Duration::from_secs(options.seconds) {
        let went = load(router.address(), CALLERS, VISIT, Mix::Everything).await?;
        served += went.served;
        failed += went.failed.values().sum::<u64>();
        if went.served == 0 || failed * 1_000 > served * FAILED_PER_MILLE_MAX {
            return Err(format!("{served} served, {failed} not: {:?}", went.failed).into());
        }
        until("nothing of the callers to be left", async || {
            let held = held(&router).await?;
            Ok(!held.is_empty() && held.values().all(|level| *level == 0))
        })
        .await?;
        let taken = Taken::by(&mut router)?;
        let sessions = server.connect().await?.other_sessions().await?.len();
        looks.push(Look { taken, sessions });
        tell(&format!(
            "{:>5} s: {served} served, {failed} not; {} MiB, {} descriptors, {sessions} sessions\n",
            began.elapsed().as_secs(),
            taken.memory_mib,
            taken.descriptors
        ));
    }
    judge(&looks)
}

/// The least of the last quarter is no more than the most of the first one allows.
fn judge(looks: &[Look]) -> Result<()> {
    let quarter = looks.len() / 4;
    let (first, last) = (
        &looks[..quarter.max(1)],
        &looks[looks.len() - quarter.max(1)..],
    );
    let memory = |looks: &[Look]| looks.iter().map(|look| look.taken.memory_mib).min();
    let descriptors = |looks: &[Look]| looks.iter().map(|look| look.taken.descriptors).min();
    let sessions = |looks: &[Look]| looks.iter().map(|look| look.sessions).min();
    let more = memory(last)
        .unwrap_or(0)
        .saturating_sub(memory(first).unwrap_or(0));
    if more > GROWTH_MIB_MAX {
        return Err(format!("{more} MiB more in the last quarter than in the first").into());
    }
    let (before, after) = (descriptors(first), descriptors(last));
    if after > before.map(|before| before + DESCRIPTORS_MORE_MAX) {
        return Err(format!("{after:?} descriptors in the last quarter, {before:?} before").into());
    }
    let (before, after) = (sessions(first), sessions(last));
    if after > before.map(|before| before + SESSIONS_MORE_MAX) {
        return Err(format!("{after:?} sessions in the last quarter, {before:?} before").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(taken: impl Iterator<Item = (u64, usize, usize)>) -> Vec<Look> {
        let look = |(memory_mib, descriptors, sessions)| Look {
            taken: Taken {
                memory_mib,
                descriptors,
            },
            sessions,
        };
        taken.map(look).collect()
    }

    #[test]
    fn what_grows_is_seen_and_what_goes_up_and_down_is_not() {
        let up_and_down = looks((0..40).map(|n| (100 + 40 * (n % 2), 20 + n as usize % 3, 5)));
        assert!(judge(&up_and_down).is_ok());
        assert!(judge(&looks((0..40).map(|n| (100 + n, 20, 5)))).is_err());
        assert!(judge(&looks((0..40).map(|n| (100, 20 + n, 5)))).is_err());
        assert!(judge(&looks((0..40).map(|n| (100, 20, 5 + n)))).is_err());
    }
}
