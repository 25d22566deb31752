//! Slots moved by the program, as an operator moves them.

use std::time::Duration;

use freehold_tests::Router;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::Result;

/// How long one command may take: a move that rests for requests takes its time.
const ENDS_WITHIN: Duration = Duration::from_secs(6 * 3_600);

/// What a command came to.
#[derive(Debug, Clone, Serialize)]
pub struct Moved {
    /// From its start to its end.
    pub seconds: f64,
    /// Rows that were copied.
    pub rows: u64,
    /// Each time slots changed hands.
    pub pauses: Vec<Pause>,
    /// Whether it stopped for replicas and was resumed: what came before is not in the numbers.
    pub was_resumed: bool,
}

/// How long writes to some slots waited, and for what, as `freehold --json move` says it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pause {
    /// How many changed hands together.
    pub slots: usize,
    /// All of it.
    pub whole_ms: f64,
    /// For writes in flight, and the commit that stops the others.
    pub fence_ms: f64,
    /// For the last keys to be copied and compared.
    pub drain_ms: f64,
    /// For the replicas.
    pub replicas_ms: f64,
    /// For the commits that make the target the owner.
    pub opening_ms: f64,
}

/// What the program prints for each of its moves.
#[derive(Debug, Deserialize)]
struct Told {
    rows: u64,
    pauses: Vec<Pause>,
}

/// Runs `freehold move`, or another command that moves slots, without asking.
///
/// # Errors
/// If it does not succeed, with what it said.
pub async fn carry_out(router: &Router, arguments: &[&str]) -> Result<Moved> {
    let log = "moving";
    let before = router.log_of(log).len();
    let began = Instant::now();
    let mut process = router.begin(&[arguments, &["--yes", "--json"]].concat(), log)?;
    let mut status = process.wait(ENDS_WITHIN).await?;
    let mut said = router.log_of(log).split_off(before);
    let mut was_resumed = false;
    // A busy machine: writes were let go, as they should be.
    while !status.success() && said.contains("did not follow within") {
        was_resumed = true;
        for again in [
            &["moves", "--resume", "--json"][..],
            &[arguments, &["--yes", "--json"]].concat(),
        ] {
            let before = router.log_of(log).len();
            status = router.begin(again, log)?.wait(ENDS_WITHIN).await?;
            said = router.log_of(log).split_off(before);
            if !status.success() {
                break;
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("freehold {}: {status}\n{said}", arguments.join(" ")).into());
    }
    let mut moved = Moved {
        seconds,
        rows: 0,
        pauses: Vec::new(),
        was_resumed,
    };
    for line in said.lines().filter(|line| line.starts_with('{')) {
        let told: Told = serde_json::from_str(line)
            .map_err(|error| format!("freehold {}: {error}: {line}", arguments.join(" ")))?;
        moved.rows += told.rows;
        moved.pauses.extend(told.pauses);
    }
    Ok(moved)
}
