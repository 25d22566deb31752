//! Why a move stops, or a batch of it begins again.

use std::time::Duration;

use freehold_core::{Key, Slot, moving::Unmovable};
use freehold_storage::{Refusal, StorageError};

/// Why a move stopped. Its slots are as safe as ever, and may be moved on or back.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MoveError {
    /// It was asked to stop.
    #[error("the move was interrupted: resume it or cancel it")]
    Interrupted,
    /// It was asked to leave the move to others.
    #[error("the move was left to the routers' movers")]
    LeftToOthers,
    /// Somebody else goes on with it, or has ended it.
    #[error(
        "another mover has taken the move over, and goes on or has ended it: see freehold moves"
    )]
    TakenOver,
    /// It cannot be moved from there, or not to there.
    #[error("slot {slot}: {why}")]
    Unmovable {
        /// One of them.
        slot: Slot,
        /// Why.
        why: Unmovable,
    },
    /// Rows differ although nobody wrote them.
    #[error(
        "{} rows differ between the shards after they were copied, among them {}; the source still \
         owns the slots: resume the move to copy them again, or cancel it",
        .keys.len(), words(.keys)
    )]
    Differs {
        /// Their keys; as many as were found before it stopped.
        keys: Vec<Key>,
    },
    /// A shard has no server to work with.
    #[error("shard '{shard}': {why}")]
    Shard {
        /// Which.
        shard: String,
        /// Why.
        why: String,
    },
    /// The clocks of the masters are too far apart.
    #[error(
        "the clocks of the two masters differ by {skew_ms} ms, and {} ms are allowed: set them right \
         first, or keys would expire at other times", .max.as_millis()
    )]
    Clocks {
        /// How far.
        skew_ms: u64,
        /// What is allowed.
        max: Duration,
    },
    /// Replicas that may be promoted did not follow in time.
    #[error(
        "'{shard}': {servers} did not follow within {} ms; let them catch up, or mark them \
         promote=never", .waited.as_millis()
    )]
    Behind {
        /// Whose.
        shard: String,
        /// Which.
        servers: String,
        /// How long.
        waited: Duration,
    },
    /// The mover's account lacks a right.
    #[error("{why}: freehold doctor says which statement grants what the mover needs")]
    Denied {
        /// What the server said.
        why: String,
    },
    /// It began again too often.
    #[error("gave up after {repeats} attempts; the last one ended because {why}")]
    Repeats {
        /// How often.
        repeats: u32,
        /// What ended the last one.
        why: String,
    },
}

impl MoveError {
    /// Whether what stopped the move passes by itself, so that whoever comes by may go on with it:
    /// nobody has to look at it first.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::LeftToOthers
            | Self::Shard { .. }
            | Self::Clocks { .. }
            | Self::Behind { .. }
            | Self::Denied { .. }
            | Self::Repeats { .. } => true,
            Self::Interrupted | Self::TakenOver | Self::Unmovable { .. } | Self::Differs { .. } => {
                false
            }
        }
    }
}

/// The first few keys, as people read them.
fn words(keys: &[Key]) -> String {
    const SHOWN_MAX: usize = 5;
    let shown = keys.iter().take(SHOWN_MAX);
    let shown: Vec<String> = shown
        .map(|key| format!("'{}'", key.bytes().escape_ascii()))
        .collect();
    shown.join(", ")
}

/// What ends an attempt at a batch.
#[derive(Debug)]
pub(crate) enum Halt {
    /// Begin again with a take-over: something was lost, broke, or is not as it was.
    Again(String),
    /// The move is over for now.
    Stop(MoveError),
}

impl From<MoveError> for Halt {
    fn from(error: MoveError) -> Self {
        Self::Stop(error)
    }
}

impl From<StorageError> for Halt {
    fn from(error: StorageError) -> Self {
        let why = error.to_string();
        match error {
            // The next attempt would be told the same.
            StorageError::Refused {
                refusal: Refusal::Denied,
                ..
            } => Self::Stop(MoveError::Denied { why }),
            _ => Self::Again(why),
        }
    }
}
