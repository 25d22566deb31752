//! What a run showed: medians, and their ratios to calling the database directly.

use std::{fmt::Write, fs, path::Path};

use crate::{
    error::Error,
    measure::Record,
    plan::{Plan, Workload},
    targets::Target,
};

/// A table of medians.
pub(crate) fn table(plan: &Plan, records: &[Record]) -> String {
    let mut text = String::from(
        "medians      |   rate/s | x direct |  p50 us |  p99 us | database us | router us | callers us\n\
         -------------|----------|----------|---------|---------|-------------|-----------|-----------\n",
    );
    for workload in plan.workloads.iter().copied() {
        let direct = median(records, workload, Target::Direct, |record| {
            record.rate_per_second
        });
        for target in plan.targets.iter().copied() {
            let median = |figure: fn(&Record) -> f64| median(records, workload, target, figure);
            let rate = median(|record| record.rate_per_second);
            writeln!(
                text,
                "{:<3} {:<8} | {rate:>8.0} | {:>8.2} | {:>7.0} | {:>7.0} | {:>11.1} | {:>9.1} | {:>10.1}",
                workload.as_str(),
                target.as_str(),
                rate / direct,
                median(|record| exact(record.p50_us)),
                median(|record| exact(record.p99_us)),
                median(|record| record.database_cpu_us_per_operation),
                median(|record| record.router_cpu_us_per_operation),
                median(|record| record.callers_cpu_us_per_operation),
            )
            .expect("a string takes everything");
        }
    }
    text
}

/// All records, for machines.
pub(crate) fn write_json(path: &Path, records: &[Record]) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(records).expect("records are plain numbers and words");
    fs::write(path, text).map_err(|error| Error::Io {
        path: path.to_owned(),
        error,
    })
}

#[allow(clippy::cast_precision_loss)]
const fn exact(us: u64) -> f64 {
    us as f64
}

fn median(
    records: &[Record],
    workload: Workload,
    target: Target,
    figure: impl Fn(&Record) -> f64,
) -> f64 {
    let mut figures: Vec<f64> = records
        .iter()
        .filter(|record| (record.workload, record.target) == (workload, target))
        .map(figure)
        .collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
