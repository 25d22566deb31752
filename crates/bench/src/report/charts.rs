//! Charts over the number of callers, one file each.

use std::path::Path;

use plotters::{
    coord::Shift,
    prelude::{
        BLACK, ChartBuilder, Circle, Color, DrawingArea, IntoDrawingArea, IntoLogRange, LineSeries,
        Palette, Palette99, PathElement, SVGBackend, SeriesLabelPosition, WHITE,
    },
    style::ShapeStyle,
};

use super::{Run, medians::median};
use crate::{error::Error, measure::Record, targets::Target, workload::Workload};

/// Pixels.
const SIZE: (u32, u32) = (900, 540);

/// A figure that gets a chart.
struct Figure {
    name: &'static str,
    label: &'static str,
    of: fn(&Record) -> f64,
}

const FIGURES: [Figure; 5] = [
    Figure {
        name: "rate",
        label: "operations per second",
        of: |record| record.rate_per_second,
    },
    Figure {
        name: "p50",
        label: "p50, microseconds",
        of: |record| exact(record.p50_us),
    },
    Figure {
        name: "p99",
        label: "p99, microseconds",
        of: |record| exact(record.p99_us),
    },
    Figure {
        name: "p999",
        label: "p99.9, microseconds",
        of: |record| exact(record.p999_us),
    },
    Figure {
        name: "database-cpu",
        label: "store CPU per operation, microseconds",
        of: |record| record.database_cpu_us,
    },
];

/// A target's medians, with the callers of each.
struct Line {
    target: Target,
    points: Vec<(f64, f64)>,
}

/// Draws what there is; returns the names of the files.
pub(super) fn draw(folder: &Path, run: &Run<'_>) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for workload in [Workload::Get, Workload::Put] {
        for figure in &FIGURES {
            let lines = lines(run, workload, figure);
            if lines.is_empty() {
                continue;
            }
            let name = format!("{}-{}.svg", workload.as_str(), figure.name);
            let path = folder.join(&name);
            let title = format!("{}: {}", workload.as_str(), figure.label);
            chart(&path, &title, figure.label, &lines).map_err(|reason| Error::Chart {
                path: path.clone(),
                reason,
            })?;
            names.push(name);
        }
    }
    Ok(names)
}

/// With the first size of values alone.
#[allow(clippy::cast_precision_loss)]
fn lines(run: &Run<'_>, workload: Workload, figure: &Figure) -> Vec<Line> {
    let mut cells: Vec<_> = run
        .plan
        .cells
        .iter()
        .copied()
        .filter(|cell| cell.workload == workload)
        .collect();
    let Some(first) = cells.first().map(|cell| cell.data) else {
        return Vec::new();
    };
    cells.retain(|cell| cell.data == first);
    cells.sort_unstable();
    let mut lines = Vec::new();
    // One point would be no line.
    let targets = run.plan.targets.iter().copied();
    for target in targets.filter(|target| *target != Target::EmptyCall) {
        let point = |cell: &crate::plan::Cell| {
            let median = median(run.records, target, *cell, figure.of)?;
            // A logarithm needs something to stand on: a process that slept is below one tick.
            Some((cell.callers as f64, median.max(0.1)))
        };
        let points: Vec<(f64, f64)> = cells.iter().filter_map(point).collect();
        if !points.is_empty() {
            lines.push(Line { target, points });
        }
    }
    lines
}

fn chart(path: &Path, title: &str, label: &str, lines: &[Line]) -> Result<(), String> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    draw_on(&root, title, label, lines).map_err(|error| error.to_string())?;
    root.present().map_err(|error| error.to_string())
}

fn draw_on<'a>(
    root: &DrawingArea<SVGBackend<'a>, Shift>,
    title: &str,
    label: &str,
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    root.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let callers_max = points().map(|point| point.0).fold(2.0, f64::max);
    let least = points().map(|point| point.1).fold(f64::MAX, f64::min);
    let most = points().map(|point| point.1).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(root)
        .caption(title, ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(80)
        .build_cartesian_2d(
            (0.9..callers_max * 1.1).log_scale().base(2.0),
            (least * 0.8..most * 1.3).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("callers")
        .y_desc(label)
        .x_label_formatter(&|callers| format!("{callers:.0}"))
        .y_label_formatter(&|value| short(*value))
        .light_line_style(WHITE)
        .draw()?;
    for (index, line) in lines.iter().enumerate() {
        let style: ShapeStyle = Palette99::pick(index).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(line.target.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        let dot = |point: &(f64, f64)| Circle::new(*point, 3, style.filled());
        chart.draw_series(line.points.iter().map(dot))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// `12k` for 12,000.
fn short(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.0}k", value / 1_000.0)
    } else if value >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

#[allow(clippy::cast_precision_loss)]
const fn exact(number: u64) -> f64 {
    number as f64
}
