//! A key's operations as an HTML page to look at: a lane per client, time from left to right.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::history::History;
use crate::record::{Action, Operation, Outcome};
use crate::verdict::{Violation, line};

/// Operations that are drawn, those nearest to the end of the proof.
const DRAWN_MAX: usize = 400;
const WIDTH: f64 = 2400.0;
const LANE: usize = 26;

/// Draws the operations around a violation; what proves it is outlined in red.
pub fn html(history: &History, violation: &Violation) -> String {
    let all = history.with_audit(&violation.key);
    let proof: Vec<u64> = violation.operations.iter().map(|one| one.id).collect();
    let end_ns = violation.operations.iter().map(|one| one.end_ns).max();
    let end_ns = end_ns.unwrap_or(i64::MAX);
    let mut drawn: Vec<&Operation> = all.iter().filter(|one| one.start_ns <= end_ns).collect();
    drawn.drain(..drawn.len().saturating_sub(DRAWN_MAX));
    let from_ns = drawn.iter().map(|one| one.start_ns).min().unwrap_or(0);
    let to_ns = drawn.iter().map(|one| one.end_ns).max().unwrap_or(1);
    let scale = WIDTH / (to_ns - from_ns).max(1) as f64;
    let x = |ns: i64| (ns.clamp(from_ns, to_ns) - from_ns) as f64 * scale;
    let mut lanes: BTreeMap<u32, usize> = BTreeMap::new();
    for one in &drawn {
        let next = lanes.len();
        lanes.entry(one.client).or_insert(next);
    }
    let height = (lanes.len() + 2) * LANE;
    let mut page = format!(
        "<!doctype html><meta charset=utf-8><title>{key}</title>\
         <style>body{{font:13px sans-serif}}text{{font:10px monospace}}pre{{white-space:pre-wrap}}</style>\
         <h1>{key}</h1><pre>{message}</pre><p>seed {seed}, <code>{command}</code>, from {from:.3} to {to:.3} ms</p>\
         <svg width={WIDTH} height={height} style='overflow:visible'>",
        key = text(&violation.key),
        message = text(&violation.message),
        seed = history.run.seed,
        command = text(&history.run.command),
        from = from_ns as f64 / 1e6,
        to = to_ns as f64 / 1e6,
    );
    for fault in &history.faults {
        if fault.start_ns <= to_ns && fault.end_ns >= from_ns {
            let (left, width) = (x(fault.start_ns), x(fault.end_ns) - x(fault.start_ns));
            let _ = write!(
                page,
                "<rect x={left:.1} width={width:.1} y=0 height={height} fill='#fdd' opacity=.5>\
                 <title>{0}</title></rect><text x={left:.1} y=10>{0}</text>",
                text(&fault.what)
            );
        }
    }
    for one in &drawn {
        let top = (lanes[&one.client] + 1) * LANE;
        let (left, width) = (x(one.start_ns), (x(one.end_ns) - x(one.start_ns)).max(2.0));
        let edge = if proof.contains(&one.id) {
            "red"
        } else {
            "none"
        };
        let _ = write!(
            page,
            "<rect x={left:.1} y={top} width={width:.1} height=14 fill='{}' stroke={edge} \
             stroke-width=2><title>{}</title></rect><text x={left:.1} y={}>{}</text>",
            colour(one),
            text(&line(one)),
            top + 11,
            text(&short(one)),
        );
    }
    page += "</svg><h2>What proves it</h2><pre>";
    for one in &violation.operations {
        let _ = writeln!(page, "{}", text(&line(one)));
    }
    page + "</pre>"
}

fn colour(operation: &Operation) -> &'static str {
    match (&operation.action, operation.outcome) {
        (_, Outcome::NotApplied) => "#ccc",
        (Action::Get { .. }, _) => "#9cf",
        (_, Outcome::Applied) => "#9d9",
        (_, Outcome::Unknown) => "#fc6",
    }
}

fn short(operation: &Operation) -> String {
    match &operation.action {
        Action::Put { value, .. } => format!("P {value}"),
        Action::Delete { .. } => "D".to_owned(),
        Action::Expire { .. } => "E".to_owned(),
        Action::Get { seen } => {
            let value = seen.as_ref().filter(|seen| seen.live);
            let value = value.map_or("-", |seen| seen.value.as_deref().unwrap_or("?"));
            format!("G {value}")
        }
    }
}

fn text(raw: &str) -> String {
    raw.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&#39;")
}
