//! Turns without a move and turns with one, so that a machine that slows down hurts both alike.

use std::time::Duration;

use serde::Serialize;
use tokio::time::sleep;

use crate::Result;
use crate::moving::Stage;
use crate::moving::callers::Seen;
use crate::moving::command::{Moved, carry_out};
use crate::moving::spread::Spread;

/// One turn of each.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Requests while nothing moves.
    pub without: Turn,
    /// Requests while slots move.
    pub with: Turn,
    /// That move.
    pub moved: Moved,
}

/// What callers saw in a turn.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Turn {
    /// How long it lasted.
    pub seconds: f64,
    /// Requests in a second, all of them answered.
    pub per_second: f64,
    /// How long requests took.
    pub all_ms: Spread,
    /// How long writes took.
    pub writes_ms: Spread,
}

impl Turn {
    /// What was seen in it.
    ///
    /// # Errors
    /// If nobody asked for anything.
    pub fn of(seen: &Seen) -> Result<Self> {
        let spread = |writes_only: bool| {
            let answers = seen.answers.iter();
            let answers = answers.filter(|answer| answer.writes || !writes_only);
            let ms = answers.map(|answer| (answer.took.as_secs_f64() * 1_000.0, 1));
            Spread::of(ms).ok_or("nobody asked for anything")
        };
        let seconds = seen.lasted.as_secs_f64();
        Ok(Self {
            seconds,
            per_second: seen.answers.len() as f64 / seconds,
            all_ms: spread(false)?,
            writes_ms: spread(true)?,
        })
    }
}

/// Moves slots there and back, in turns with nothing.
///
/// # Errors
/// Of a caller, or of a move.
pub async fn measure(stage: &mut Stage) -> Result<Vec<Round>> {
    let options = stage.options.clone();
    // Of those that the first shard has at first.
    let slots = format!("0-{}", options.slots - 1);
    let mut callers = stage.callers();
    let mut rounds = Vec::new();
    for number in 0..options.rounds {
        let to = ["b", "a"][number as usize % 2];
        let quiet = async || {
            sleep(Duration::from_secs(options.seconds)).await;
            Ok(())
        };
        let words = ["move", "--slots", &slots, "--to", to];
        let moving = carry_out(stage.servers.router(), &words);
        // Each is first now and then: what the one before left behind hits both alike.
        let (without, (moved, with)) = if number % 2 == 0 {
            let without = callers.during(quiet()).await?.1;
            (without, callers.during(moving).await?)
        } else {
            let moved = callers.during(moving).await?;
            (callers.during(quiet()).await?.1, moved)
        };
        let round = Round {
            without: Turn::of(&without)?,
            with: Turn::of(&with)?,
            moved,
        };
        eprintln!("round {}: {}", number + 1, round.words());
        rounds.push(round);
    }
    stage.own = callers.stop().await?;
    Ok(rounds)
}

impl Round {
    fn words(&self) -> String {
        let Self {
            without,
            with,
            moved,
        } = self;
        let pauses = moved.pauses.iter().map(|pause| pause.whole_ms);
        format!(
            "{:.0}/s and p99 {:.1} ms without a move, {:.0}/s and p99 {:.1} ms with one of {} rows \
             in {:.1} s; slots changed hands {} times, within {:.1} ms",
            without.per_second,
            without.all_ms.p99,
            with.per_second,
            with.all_ms.p99,
            moved.rows,
            moved.seconds,
            moved.pauses.len(),
            pauses.fold(0.0, f64::max),
        )
    }
}
