//! One batch, one statement, one result.

use freehold_core::{Fence, limits};
use freehold_storage::{Columns, DataConnection, Inspected, Outcome, Read, ScanPage, StorageError};

use crate::batch::Rows;

/// What came back of a batch.
pub(super) enum Executed {
    /// One row per key, and the fence they were all read under.
    Read(Read),
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
    /// Whether the connection is of no more use.
    pub(super) fn breaks_connection(&self) -> bool {
        fn any<T>(outcomes: &[Outcome<T>]) -> bool {
            outcomes.iter().any(
                |outcome| matches!(outcome, Outcome::Failed(error) if error.breaks_connection()),
            )
        }
        match self {
            Self::Stored(outcomes) => any(outcomes),
            Self::Existed(outcomes) => any(outcomes),
            Self::Failed(error) => error.breaks_connection(),
            Self::Read(_) | Self::Page(_) | Self::Raw(_) => false,
        }
    }
}

/// Sends the rows as one statement.
pub(super) async fn execute(
    connection: &mut dyn DataConnection,
    rows: &Rows,
    fence: &Fence,
) -> Executed {
    let read = match rows {
        Rows::Put(rows) => return Executed::Stored(connection.put(fence, rows).await),
        Rows::Delete(keys) => return Executed::Existed(connection.delete(fence, keys).await),
        Rows::Expire(rows) => return Executed::Existed(connection.expire(fence, rows).await),
        Rows::Get(keys) => {
            let bytes_max = value_bytes_max(keys.len());
            connection
                .read(keys, Columns::Value { bytes_max })
                .await
                .map(Executed::Read)
        }
        Rows::Ttl(keys) => connection
            .read(keys, Columns::Expiry)
            .await
            .map(Executed::Read),
        Rows::Scan(range) => connection.scan(range).await.map(Executed::Page),
        Rows::Inspect(key) => connection.inspect(key).await.map(Executed::Raw),
    };
    read.unwrap_or_else(Executed::Failed)
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
