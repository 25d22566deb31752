//! A plan as it is shown.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    exit::Failure,
    output::{Output, human, table},
    planning::{Plan, PlannedMove},
};

/// Shows a plan; `nothing` is said where there is nothing to do. `begins_small`: a sample of it goes first.
pub(super) fn show(
    plan: &Plan,
    (nothing, begins_small): (&str, bool),
    output: Output,
) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&to_json(plan));
    }
    if plan.moves.is_empty() {
        return output.line(nothing);
    }
    let mut table = table::table(&["FROM", "TO", "SLOTS", "ROWS", "BYTES", "TIME"]);
    for planned in &plan.moves {
        let about = if planned.estimated { "about " } else { "" };
        table.add_row(vec![
            planned.source.as_str().into(),
            planned.target.as_str().into(),
            table::number(human::count(planned.slots.len() as u64)),
            table::number(format!("{about}{}", human::count(planned.rows))),
            table::number(format!("{about}{}", human::bytes(planned.bytes))),
            table::number(planned.time.map_or_else(
                || "not known yet".to_owned(),
                |time| format!("about {}", human::duration(time)),
            )),
        ]);
    }
    output.line(&table::render(&table))?;
    match plan.pause_max {
        Some(pause) => {
            let pause = human::duration(pause);
            output.line(&format!(
                "Time by the rate of the last move. Writes to a slot waited {pause} at most in it."
            ))
        }
        None if begins_small => output.line(
            "No move was measured yet: a few slots go first, and the time of the others is told then.",
        ),
        None => Ok(()),
    }
}

fn to_json(plan: &Plan) -> Value {
    let pause_ms = plan.pause_max.map(|pause| pause.as_secs_f64() * 1_000.0);
    let one = |planned: &PlannedMove| {
        json!({
            "source": planned.source,
            "target": planned.target,
            "slots": planned.slots.to_string(),
            "rows": planned.rows,
            "bytes": planned.bytes,
            "estimated": planned.estimated,
            "time_s": planned.time.as_ref().map(Duration::as_secs_f64),
            "pause_ms": pause_ms,
        })
    };
    let moves: Vec<Value> = plan.moves.iter().map(one).collect();
    json!({ "plan": moves })
}
