//! One slot changes its owner again and again while all callers write to it.

use std::sync::Arc;

use freehold_core::Key;
use serde::Serialize;

use crate::Result;
use crate::moving::Stage;
use crate::moving::callers::{Callers, Manner};
use crate::moving::command::carry_out;
use crate::moving::rows::{Own, Rows};

/// Every key has the same tag.
const PREFIX: &str = "{one slot}:";

/// Rows of each caller.
const ROWS_EACH: u32 = 4;

/// How often the run says how far it is.
const TELL_EVERY: u32 = 100;

/// What all changes came to.
#[derive(Debug, Clone, Serialize)]
pub struct Changes {
    /// Writes in a second, while the owner changed.
    pub per_second: f64,
    /// Of each change the longest that a write took, in milliseconds.
    pub longest_ms: Vec<f64>,
    /// Of each change how long the mover held writes up, in milliseconds.
    pub pauses_ms: Vec<f64>,
    /// How long each command took.
    pub seconds: Vec<f64>,
}

/// Changes the owner, one move after the other.
///
/// # Errors
/// Of a caller or a move, if the owner did not change, and in words of a row that is wrong in the
/// end.
pub async fn measure(stage: &Stage) -> Result<Changes> {
    let options = &stage.options;
    let rows = Arc::new(Rows {
        prefix: PREFIX.to_owned(),
        count: options.callers * ROWS_EACH,
        value_bytes: options.value_bytes,
    });
    rows.load(&stage.client).await?;
    let slot = Key::new(rows.key(0))?.slot().to_string();
    let router = stage.servers.router();
    // Whoever has it now.
    carry_out(router, &["move", "--slots", &slot, "--to", "a"]).await?;
    let own = Own::deal_out(&rows, options.callers);
    let mut callers = Callers::start(&stage.client, &rows, own, Manner::Writing, stage.seed);
    let mut changes = Changes {
        per_second: 0.0,
        longest_ms: Vec::new(),
        pauses_ms: Vec::new(),
        seconds: Vec::new(),
    };
    let mut writes = 0;
    for number in 1..=options.changes {
        let to = ["a", "b"][number as usize % 2];
        let words = ["move", "--slots", &slot, "--to", to];
        let change = carry_out(router, &words);
        let (moved, seen) = callers.during(change).await?;
        if moved.pauses.is_empty() {
            return Err(format!("slot {slot} did not go to {to}").into());
        }
        let longest = seen.answers.iter().map(|answer| answer.took).max();
        let longest = longest.unwrap_or_default().as_secs_f64() * 1_000.0;
        changes.longest_ms.push(longest);
        let pauses = moved.pauses.iter().map(|pause| pause.whole_ms);
        changes.pauses_ms.push(pauses.sum());
        changes.seconds.push(moved.seconds);
        writes += seen.answers.len();
        if number % TELL_EVERY == 0 {
            eprintln!("{number} changes of owner");
        }
    }
    changes.per_second = writes as f64 / changes.seconds.iter().sum::<f64>();
    rows.check(&stage.client, &callers.stop().await?).await?;
    Ok(changes)
}
