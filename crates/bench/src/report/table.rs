//! `report.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{Run, goals::Goal, medians::median};
use crate::{measure::Record, plan::Cell, targets::Target, workload::Workload};

/// The whole text.
pub(super) fn text(run: &Run<'_>, goals: &[Goal], charts: &[String]) -> String {
    let mut text = String::from("# Freehold side by side with what it is compared with\n\n");
    head(&mut text, run);
    goals_table(&mut text, goals);
    figures(&mut text, run);
    absent(&mut text, run);
    if !charts.is_empty() {
        text += "\n## Charts\n\n";
        for chart in charts {
            line(&mut text, &format!("![{chart}]({chart})"));
        }
    }
    text
}

fn head(text: &mut String, run: &Run<'_>) {
    let plan = run.plan;
    for words in [
        format!(
            "- database: {}, every commit flushed and synced",
            run.database
        ),
        format!("- machine: {}, all processes on it", run.machine),
        format!("- command: `{}`", run.command),
        format!(
            "- {} rows; medians of {} interleaved repetitions of {} s each",
            plan.rows,
            plan.repetitions,
            plan.duration.as_secs_f64()
        ),
    ] {
        line(text, &words);
    }
    if let Some((target, time)) = plan.slow {
        let us = time.as_micros();
        let name = target.as_str();
        line(
            text,
            &format!("- {name} was slowed down on purpose by {us} µs per operation"),
        );
    }
    line(text, "\nTargets:\n");
    for target in &plan.targets {
        line(
            text,
            &format!("- `{}`: {}", target.as_str(), target.explanation()),
        );
    }
}

fn goals_table(text: &mut String, goals: &[Goal]) {
    line(text, "\n## Goals\n");
    line(text, "| goal | must | got | |");
    line(text, "|---|---|---:|---|");
    for goal in goals {
        let got = goal.got.map_or("–".to_owned(), |got| format!("{got:.2}"));
        let met = match goal.met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None if goal.got.is_some() => "",
            None => "not in this run",
        };
        line(
            text,
            &format!("| {} | {} | {got} | {met} |", goal.what, goal.must),
        );
    }
}

fn figures(text: &mut String, run: &Run<'_>) {
    line(text, "\n## Figures\n");
    line(
        text,
        "CPU is in microseconds per operation: of what keeps the rows, of what stands between it \
         and the callers, and of the callers. `statements` is what the store itself counted, per \
         operation.",
    );
    let mut cells = run.plan.cells.clone();
    cells.sort_unstable();
    let mut last: Option<Workload> = None;
    for cell in cells {
        if last != Some(cell.workload) {
            last = Some(cell.workload);
            line(text, &format!("\n### {}\n", cell.workload.as_str()));
            line(
                text,
                "| callers | bytes | target | rate/s | × direct | p50 µs | p99 µs | p99.9 µs | \
                 store CPU | between CPU | callers CPU | statements |",
            );
            line(
                text,
                "|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
            );
        }
        for target in run.plan.targets.iter().copied() {
            if target.has_no_part_in(cell.workload, cell.callers).is_none() {
                figures_of(text, run, cell, target);
            }
        }
    }
}

fn figures_of(text: &mut String, run: &Run<'_>, cell: Cell, target: Target) {
    let of = |target: Target, figure: fn(&Record) -> f64| median(run.records, target, cell, figure);
    let start = format!(
        "| {} | {} | {} |",
        cell.callers,
        cell.data.value_bytes,
        target.as_str()
    );
    let Some(rate) = of(target, rate) else {
        line(text, &format!("{start} missing | | | | | | | | |"));
        return;
    };
    let own = |figure| of(target, figure).unwrap_or(f64::NAN);
    let times = of(Target::Direct, self::rate)
        .map_or("–".to_owned(), |direct| format!("{:.2}", rate / direct));
    let rest = format!(
        " {rate:.0} | {times} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.3} |",
        own(|record| exact(record.p50_us)),
        own(|record| exact(record.p99_us)),
        own(|record| exact(record.p999_us)),
        own(|record| record.database_cpu_us),
        own(|record| record.between_cpu_us),
        own(|record| record.callers_cpu_us),
        own(|record| exact(record.counted.statements) / exact(record.operations.max(1))),
    );
    line(text, &(start + &rest));
}

fn absent(text: &mut String, run: &Run<'_>) {
    if !run.missing.is_empty() {
        line(text, "\n## Missing: could not run\n");
        for (target, reason) in run.missing {
            let reason = reason.lines().next().unwrap_or_default();
            line(text, &format!("- `{}`: {reason}", target.as_str()));
        }
    }
    if !run.failures.is_empty() {
        line(text, "\n## Rounds that failed\n");
        for failure in run.failures {
            line(text, &format!("- {failure}"));
        }
    }
    let without = super::without_part(run.plan);
    if !without.is_empty() {
        line(text, "\n## Without a part\n");
        let mut places: BTreeMap<(Target, &str), BTreeSet<&str>> = BTreeMap::new();
        for one in without {
            let place = places.entry((one.target, one.reason)).or_default();
            place.insert(one.cell.workload.as_str());
        }
        for ((target, reason), workloads) in places {
            let workloads: Vec<&str> = workloads.into_iter().collect();
            let (target, workloads) = (target.as_str(), workloads.join(", "));
            line(text, &format!("- `{target}` in {workloads}: {reason}"));
        }
    }
}

fn line(text: &mut String, words: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{words}");
}

fn rate(record: &Record) -> f64 {
    record.rate_per_second
}

#[allow(clippy::cast_precision_loss)]
const fn exact(number: u64) -> f64 {
    number as f64
}
