//! Ten times the load that a router can serve: what it still serves, what that takes of its memory,
//! and how soon it is itself again.

use std::time::Duration;

use clap::Parser;
use freehold_tests::{Engine, Router, Server, Shard};
use tokio::time::Instant;

use crate::Result;
use crate::callers::{Mix, Went, load};
use crate::gauge::{forget_peak, held, peak_mib};

/// Callers among which the most that is served is looked for.
const PEAK_CALLERS: [usize; 3] = [64, 256, 512];

/// How often as many callers there are then.
const TIMES: usize = 10;

/// A lone caller's calls in a row that have to be served for the router to be itself again.
const WELL: Duration = Duration::from_millis(500);

/// What a router may take until then, before it is given up.
const WELL_WITHIN: Duration = Duration::from_secs(60);

/// What it may take in a run that is long enough to be judged.
const WELL_AFTER_MAX: Duration = Duration::from_secs(5);

/// Of the peak, so much has to be served under ten times the load, in such a run.
const SERVED_PERCENT_MIN: f64 = 80.0;

/// A shorter run measures what else the machine does.
const JUDGED_FROM: Duration = Duration::from_secs(60);

/// Asks ten times as much of a router as it can serve, and prints what came of it.
///
/// Exit code 0: it stayed within its memory, every call ended with a word of the router that is in the
/// table, and it was itself again afterwards; of a minute and more also: it served at least 80 % of the
/// peak, and was itself again after 5 s.
#[derive(Debug, Clone, Parser)]
#[command(name = "overload", version)]
pub struct Options {
    /// Which database: mariadb or mysql.
    #[arg(long, default_value = "mariadb", value_parser = crate::options::engine)]
    pub engine: Engine,
    /// How long it lasts, in seconds. Looking for the peak takes as long again, at most a minute.
    #[arg(long, default_value_t = 300)]
    pub seconds: u64,
    /// How much memory more than at rest the router may take, in MiB.
    #[arg(long, default_value_t = 256)]
    pub growth_mib_max: u64,
}

/// What it came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// The load under which most was served, with its callers.
    pub peak: (usize, Went),
    /// Ten times as many callers.
    pub over: Went,
    /// Memory more than at rest, before all of it, at its most.
    pub growth_mib: u64,
    /// After the load was gone.
    pub well_after: Duration,
}

/// Runs it on one shard.
///
/// # Errors
/// Of the harness, and in words what the router did that it must not.
pub async fn run(options: &Options) -> Result<Report> {
    let server = Server::of(options.engine).await?;
    let mut router = Router::init_and_serve(&[Shard::new("a", &server, &[])], "").await?;
    let lasts = Duration::from_secs(options.seconds);
    let each = lasts.min(Duration::from_secs(60)) / 3;
    let at_rest = forget_peak(&mut router)?;
    let mut peak = (0, Went::default());
    for callers in PEAK_CALLERS {
        let went = load(router.address(), callers, each, Mix::PutAndGet).await?;
        check(&went, lasts >= JUDGED_FROM)?;
        if went.rate() > peak.1.rate() {
            peak = (callers, went);
        }
    }
    let over = load(router.address(), TIMES * peak.0, lasts, Mix::PutAndGet).await?;
    check(&over, lasts >= JUDGED_FROM)?;
    let well_after = until_well(&router).await?;
    let report = Report {
        peak,
        over,
        growth_mib: peak_mib(&mut router)?.saturating_sub(at_rest),
        well_after,
    };
    match report.fault(options, lasts >= JUDGED_FROM) {
        None => Ok(report),
        Some(fault) => Err(format!("{fault}\n{}", report.words()).into()),
    }
}

/// Every call ended with a word of the router that a caller can act upon: without a reason it is the
/// caller's own library that gave up. (In a short run that is only printed: where the machine has other
/// work besides, callers get no time to read their answers.)
fn check(went: &Went, is_judged: bool) -> Result<()> {
    let is_known = |status: &str| {
        ["RESOURCE_EXHAUSTED ", "UNAVAILABLE ", "DEADLINE_EXCEEDED "]
            .iter()
            .any(|known| status.starts_with(known))
            || status == "UNKNOWN OUTCOME_UNKNOWN"
            || (!is_judged && status == "CANCELLED")
    };
    match went.failed.keys().find(|status| !is_known(status)) {
        None => Ok(()),
        Some(status) => Err(format!("{status:?} under load: {:?}", went.failed).into()),
    }
}

async fn until_well(router: &Router) -> Result<Duration> {
    let began = Instant::now();
    loop {
        let went = load(router.address(), 1, WELL, Mix::PutAndGet).await?;
        let calls = held(router).await?.get("calls_max").copied();
        if went.failed.is_empty() && went.served > 0 && calls.unwrap_or(0) <= 1 {
            return Ok(began.elapsed().saturating_sub(WELL));
        }
        if began.elapsed() > WELL_WITHIN {
            return Err(format!("not itself again: {:?}, {calls:?} calls", went.failed).into());
        }
    }
}

impl Report {
    /// What the router did that it must not.
    fn fault(&self, options: &Options, is_judged: bool) -> Option<String> {
        let share = self.served_percent();
        if self.growth_mib > options.growth_mib_max {
            Some(format!("{} MiB more than at rest", self.growth_mib))
        } else if is_judged && share < SERVED_PERCENT_MIN {
            Some(format!("{share:.0} % of the peak served"))
        } else if is_judged && self.well_after > WELL_AFTER_MAX {
            Some(format!("itself again after {:.1?} only", self.well_after))
        } else {
            None
        }
    }

    /// What was served under ten times the load, of the peak.
    fn served_percent(&self) -> f64 {
        100.0 * self.over.rate() / self.peak.1.rate()
    }

    /// All of it, for people.
    #[must_use]
    pub fn words(&self) -> String {
        let (callers, peak) = &self.peak;
        let times = TIMES * callers;
        let share = self.served_percent();
        format!(
            "peak: {:.0}/s for {callers} callers, p99 {:.1?}\n\
             over: {:.0}/s for {times} callers, p99 of what was served {:.1?}: {share:.0} % of the \
             peak\nnot served: {:?}\nmemory: {} MiB more than before, at most\n\
             itself again: {:.1?} after the load was gone\n",
            peak.rate(),
            peak.p99(),
            self.over.rate(),
            self.over.p99(),
            self.over.failed,
            self.growth_mib,
            self.well_after
        )
    }
}
