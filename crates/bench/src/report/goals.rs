//! What Freehold must reach, and whether it did in this run.

use serde::Serialize;

use super::{
    Run,
    medians::{cell, median},
};
use crate::{measure::Record, targets::Target, workload::Workload};

/// Callers that most goals are about.
const MANY: usize = 256;

/// One row of the table of goals.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Goal {
    /// What it is about.
    pub(super) what: String,
    /// What is asked for.
    pub(super) must: String,
    /// What came out, in the same unit; absent if this run does not say.
    pub(super) got: Option<f64>,
    /// Whether that is enough.
    pub(super) met: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn is_met(self, got: f64) -> bool {
        match self {
            Self::AtLeast(bound) => got >= bound,
            Self::AtMost(bound) => got <= bound,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {bound:.2}{unit}"),
            Self::AtMost(bound) => format!("≤ {bound:.2}{unit}"),
        }
    }
}

fn goal(what: &str, bound: Bound, unit: &str, got: Option<f64>) -> Goal {
    let got = got.filter(|got| got.is_finite());
    Goal {
        what: what.to_owned(),
        must: bound.text(unit),
        got,
        met: got.map(|got| bound.is_met(got)),
    }
}

/// All of them, in the order in which they were set.
pub(super) fn of(run: &Run<'_>) -> Vec<Goal> {
    let figures = Figures(run);
    let mut goals = rates(&figures);
    goals.extend(costs(&figures));
    goals.extend(single_caller(&figures));
    goals.extend(mixes(&figures));
    goals.extend(memory(run));
    let shards = "measured by `freehold-bench shards`";
    for (what, must) in [
        ("router CPU per operation, 1,000 shards against 10", shards),
        (
            "one request's hash, look-up and enqueue, 1,000 shards against 1",
            shards,
        ),
        ("start with 65,536 slots on 1,000 shards", shards),
        (
            "router memory with 10,000 open connections",
            "measured by `freehold-bench connections`",
        ),
    ] {
        goals.push(Goal {
            what: what.to_owned(),
            must: must.to_owned(),
            got: None,
            met: None,
        });
    }
    goals
}

/// Medians by what they are of.
struct Figures<'a>(&'a Run<'a>);

impl Figures<'_> {
    fn median(
        &self,
        target: Target,
        workload: Workload,
        callers: usize,
        figure: fn(&Record) -> f64,
    ) -> Option<f64> {
        let cell = cell(&self.0.plan.cells, workload, callers)?;
        median(self.0.records, target, cell, figure)
    }

    fn rate(&self, target: Target, workload: Workload) -> Option<f64> {
        self.median(target, workload, MANY, |record| record.rate_per_second)
    }

    /// How many times `other`'s rate.
    fn times(&self, target: Target, other: Target, workload: Workload) -> Option<f64> {
        Some(self.rate(target, workload)? / self.rate(other, workload)?)
    }

    fn p50(&self, target: Target) -> Option<f64> {
        self.median(target, Workload::Get, 1, p50)
    }
}

fn rates(figures: &Figures<'_>) -> Vec<Goal> {
    use Bound::AtLeast;
    use Target::{Client, Direct, Raw, Redis, RedisAlways, RedisPipelined, Unary};
    use Workload::{Get, Put, PutTtl};
    let times = |target, other, workload| figures.times(target, other, workload);
    let mut goals = vec![
        goal(
            "GET, unary, 256 callers",
            AtLeast(2.5),
            " × direct",
            times(Unary, Direct, Get),
        ),
        goal(
            "GET, Rust client, 256 callers",
            AtLeast(7.0),
            " × direct",
            times(Client, Direct, Get),
        ),
        goal(
            "GET, Rust client, 256 callers",
            AtLeast(0.8),
            " × the raw limit",
            times(Client, Raw, Get),
        ),
        goal(
            "GET, Rust client, 256 callers",
            AtLeast(1.5),
            " × redis",
            times(Client, Redis, Get),
        ),
        goal(
            "PUT, Rust client, 256 callers",
            AtLeast(5.0),
            " × direct",
            times(Client, Direct, Put),
        ),
        goal(
            "PUT, Rust client, 256 callers",
            AtLeast(0.6),
            " × redis-always",
            times(Client, RedisAlways, Put),
        ),
        goal(
            "PUT with TTL, Rust client, 256 callers",
            AtLeast(4.0),
            " × direct",
            times(Client, Direct, PutTtl),
        ),
    ];
    goals.push(Goal {
        what: "GET, Rust client, 256 callers".to_owned(),
        must: "reported: × redis-pipelined".to_owned(),
        got: times(Client, RedisPipelined, Get),
        met: None,
    });
    goals
}

fn costs(figures: &Figures<'_>) -> Vec<Goal> {
    use Target::{Client, Direct, Unary};
    let mut goals = Vec::new();
    for (workload, words, part) in [
        (Workload::Get, "GET", 1.0 / 7.0),
        (Workload::Put, "PUT", 1.0 / 4.0),
    ] {
        let cpu = |target| figures.median(target, workload, MANY, |record| record.database_cpu_us);
        for (target, name) in [(Unary, "unary"), (Client, "Rust client")] {
            let got = cpu(target).zip(cpu(Direct)).map(|(own, other)| own / other);
            let what = format!("database CPU per {words}, {name}, 256 callers");
            goals.push(goal(&what, Bound::AtMost(part), " × direct", got));
        }
        let p99 = |target| figures.median(target, workload, MANY, |record| exact(record.p99_us));
        for (target, name) in [(Unary, "unary"), (Client, "Rust client")] {
            let got = p99(target).zip(p99(Direct)).map(|(own, other)| own / other);
            let what = format!("p99 of {words}, {name}, 256 callers");
            goals.push(goal(&what, Bound::AtMost(1.0), " × direct", got));
        }
    }
    goals
}

fn single_caller(figures: &Figures<'_>) -> Vec<Goal> {
    use Target::{Client, Direct, EmptyCall, Unary};
    let both = figures.p50(EmptyCall).zip(figures.p50(Direct));
    let sum = both.map(|(empty, direct)| empty + direct);
    let unary = figures.p50(Unary).zip(sum).map(|(own, sum)| own / sum);
    let client = figures.p50(Client).zip(figures.p50(Direct));
    vec![
        goal(
            "one caller, unary, GET p50",
            Bound::AtMost(1.10),
            " × (an empty call + direct)",
            unary,
        ),
        goal(
            "one caller, Rust client, GET p50",
            Bound::AtMost(1.4),
            " × direct",
            client.map(|(own, direct)| own / direct),
        ),
    ]
}

fn mixes(figures: &Figures<'_>) -> Vec<Goal> {
    use Target::{Client, Direct};
    let hot = figures.rate(Client, Workload::Hot);
    let uniform = figures.rate(Client, Workload::Get);
    let mut goals = vec![goal(
        "one hot key, Rust client, 256 callers",
        Bound::AtLeast(1.5),
        " × the uniform rate",
        hot.zip(uniform).map(|(hot, uniform)| hot / uniform),
    )];
    for (workload, bound) in [
        (Workload::YcsbA, 4.0),
        (Workload::YcsbB, 4.0),
        (Workload::YcsbC, 4.0),
        (Workload::YcsbD, 4.0),
        (Workload::YcsbE, 1.0),
        (Workload::YcsbF, 4.0),
    ] {
        goals.push(goal(
            &format!("{}, Rust client, 256 callers", workload.as_str()),
            Bound::AtLeast(bound),
            " × direct",
            figures.times(Client, Direct, workload),
        ));
    }
    goals
}

fn memory(run: &Run<'_>) -> Vec<Goal> {
    // The first time: later it holds what other workloads needed.
    let cell = cell(&run.plan.cells, Workload::Get, MANY);
    let busy = run
        .records
        .iter()
        .find(|record| record.target == Target::Client && Some(record.cell) == cell)
        .map(|record| record.between_memory_mib);
    vec![
        goal(
            "router memory, idle",
            Bound::AtMost(32.0),
            " MiB",
            Some(run.router_idle_mib),
        ),
        goal(
            "router memory, 256 callers of the Rust client",
            Bound::AtMost(96.0),
            " MiB",
            busy,
        ),
    ]
}

fn p50(record: &Record) -> f64 {
    exact(record.p50_us)
}

#[allow(clippy::cast_precision_loss)]
const fn exact(us: u64) -> f64 {
    us as f64
}
