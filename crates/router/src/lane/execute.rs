//! One batch, one statement, one result.

use std::sync::Arc;

use freehold_core::{Fence, Key, limits};
use freehold_storage::{
    Columns, DataConnection, Inspected, Outcome, Read, Refusal, ScanPage, StorageError, Write,
};

use crate::batch::Rows;

/// What came back of a batch.
pub(super) enum Executed {
    /// One row per key, and the fence they were all read under.
    Read(Read),
    /// No row: the fence is not the one that they were to be read under.
    TurnedAway,
    /// One outcome per row of PUTs.
    Stored(Vec<Outcome<()>>),
    /// One outcome per row of DELETEs or EXPIREs.
    Existed(Vec<Outcome<bool>>),
    /// A stretch.
    Page(ScanPage),
    /// A row as it lies, and the fence it was read under.
    Raw(Inspected),
    /// Nothing: the whole statement failed.
    Failed(StorageError),
}

impl Executed {
    /// Whether something was written.
    pub(super) fn wrote(&self) -> bool {
        fn any<T>(outcomes: &[Outcome<T>]) -> bool {
            let mut outcomes = outcomes.iter();
            outcomes.any(|outcome| matches!(outcome, Outcome::Applied(_)))
        }
        match self {
            Self::Stored(outcomes) => any(outcomes),
            Self::Existed(outcomes) => any(outcomes),
            Self::Read(_) | Self::TurnedAway | Self::Page(_) | Self::Raw(_) | Self::Failed(_) => {
                false
            }
        }
    }

    /// Nobody can say any more what becomes of what was applied.
    pub(super) fn lose(&mut self, reason: &Arc<str>) {
        fn lose<T>(outcomes: &mut [Outcome<T>], reason: &Arc<str>) {
            for outcome in outcomes {
                if matches!(outcome, Outcome::Applied(_)) {
                    let reason = reason.clone();
                    *outcome = Outcome::Failed(StorageError::Lost { reason });
                }
            }
        }
        match self {
            Self::Stored(outcomes) => lose(outcomes, reason),
            Self::Existed(outcomes) => lose(outcomes, reason),
            Self::Read(_) | Self::TurnedAway | Self::Page(_) | Self::Raw(_) | Self::Failed(_) => {}
        }
    }

    /// Whether the connection is of no more use.
    pub(super) fn breaks_connection(&self) -> bool {
        fn any<T>(outcomes: &[Outcome<T>]) -> bool {
            let mut outcomes = outcomes.iter();
            outcomes.any(|outcome| matches!(outcome, Outcome::Failed(error) if breaks(error)))
        }
        match self {
            Self::Stored(outcomes) => any(outcomes),
            Self::Existed(outcomes) => any(outcomes),
            Self::Failed(error) => breaks(error),
            Self::Read(_) | Self::TurnedAway | Self::Page(_) | Self::Raw(_) => false,
        }
    }
}

/// A server that is read-only leads no more; what stands at its address may do so, by now.
fn breaks(error: &StorageError) -> bool {
    is_closed(error) || error.breaks_connection()
}

/// Whether the server takes no writes, and so proves nothing of what has to be fresh.
pub(super) fn is_closed(error: &StorageError) -> bool {
    matches!(error, StorageError::Refused { refusal, .. } if *refusal == Refusal::ReadOnly)
}

/// Sends the rows as one statement, which logs the keys of writes if `logs`. `fence` is what a write
/// proves, and a read if it is `under_fence`; else it brings back what the server shows (and a
/// replica's heartbeat with it).
pub(super) async fn execute(
    connection: &mut dyn DataConnection,
    rows: &Rows,
    logs: bool,
    fence: &Fence,
    under_fence: bool,
) -> Executed {
    if let Some(rows) = rows.writes().filter(|_| logs) {
        let outcomes = connection.write_logged(fence, rows).await;
        return match rows {
            Write::Put(_) => Executed::Stored(outcomes.into_iter().map(stored).collect()),
            Write::Delete(_) | Write::Expire(_) => Executed::Existed(outcomes),
        };
    }
    let read = match rows {
        Rows::Put(rows) => return Executed::Stored(connection.put(fence, rows).await),
        Rows::Delete(keys) => return Executed::Existed(connection.delete(fence, keys).await),
        Rows::Expire(rows) => return Executed::Existed(connection.expire(fence, rows).await),
        Rows::Get(keys) => {
            let bytes_max = value_bytes_max(keys.len());
            read(
                connection,
                keys,
                Columns::Value { bytes_max },
                fence,
                under_fence,
            )
            .await
        }
        Rows::Ttl(keys) => read(connection, keys, Columns::Expiry, fence, under_fence).await,
        Rows::Scan(range) if under_fence => {
            let page = connection.scan_under(fence, range).await;
            page.map(|page| page.map_or(Executed::TurnedAway, Executed::Page))
        }
        Rows::Scan(range) => connection.scan(range).await.map(Executed::Page),
        Rows::Inspect(key) => connection.inspect(key).await.map(Executed::Raw),
    };
    read.unwrap_or_else(Executed::Failed)
}

async fn read(
    connection: &mut dyn DataConnection,
    keys: &[Key],
    columns: Columns,
    fence: &Fence,
    under_fence: bool,
) -> Result<Executed, StorageError> {
    if !under_fence {
        return connection.read(keys, columns).await.map(Executed::Read);
    }
    let rows = connection.read_under(fence, keys, columns).await?;
    Ok(rows.map_or(Executed::TurnedAway, |rows| {
        Executed::Read(Read {
            fence: *fence,
            answered_by: fence.server_id,
            beat: None,
            rows,
        })
    }))
}

fn stored(outcome: Outcome<bool>) -> Outcome<()> {
    match outcome {
        Outcome::Applied(_) => Outcome::Applied(()),
        Outcome::FenceDisagrees => Outcome::FenceDisagrees,
        Outcome::Failed(error) => Outcome::Failed(error),
    }
}

/// The largest value that comes with a statement of so many rows: they share the budget evenly, and
/// alone every value that may be stored fits. A cut takes care that values whose sizes are known
/// have the room that they need.
fn value_bytes_max(rows: usize) -> usize {
    match rows {
        0 | 1 => limits::VALUE_BYTES_MAX,
        _ => limits::FETCH_BYTES_MAX / rows,
    }
}
