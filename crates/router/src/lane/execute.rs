//! One batch, one statement, one result.

use freehold_core::{Fence, limits};
use freehold_storage::{
    Columns, DataConnection, Outcome, RawRow, Read, ScanPage, StorageError, Value,
};

use crate::{
    batch::Rows,
    request::{Kind, columns_of},
};

/// What came back of a batch.
pub(super) enum Executed {
    /// One row per key, and the fence they were read under.
    Read(Read),
    /// One outcome per row of PUTs.
    Stored(Vec<Outcome<()>>),
    /// One outcome per row of DELETEs or EXPIREs.
    Existed(Vec<Outcome<bool>>),
    /// A stretch.
    Page(ScanPage),
    /// A row as it lies.
    Raw(Option<RawRow>),
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
        Rows::Get(keys) => read_values(connection, keys).await.map(Executed::Read),
        Rows::Ttl(keys) => connection
            .read(keys, Columns::Expiry)
            .await
            .map(Executed::Read),
        Rows::Scan(range) => connection.scan(range).await.map(Executed::Page),
        Rows::Inspect(key) => connection.inspect(key).await.map(Executed::Raw),
    };
    read.unwrap_or_else(Executed::Failed)
}

/// Reads values within the byte budget: small ones in one statement, the others in groups that fit.
async fn read_values(
    connection: &mut dyn DataConnection,
    keys: &[freehold_core::Key],
) -> Result<Read, StorageError> {
    let mut read = connection
        .read(keys, columns_of(Kind::Get, keys.len()))
        .await?;
    // A value may grow between two looks, so this repeats; alone, every value fits.
    while let Some(group) = next_group(&read) {
        let again: Vec<_> = group.iter().map(|index| keys[*index].clone()).collect();
        let bytes_max = if group.len() == 1 {
            limits::VALUE_BYTES_MAX
        } else {
            limits::FETCH_BYTES_MAX / group.len()
        };
        let part = connection
            .read(&again, Columns::Value { bytes_max })
            .await?;
        let same_server = part.answered_by == read.answered_by;
        if !same_server || !part.fence.agrees_with(&read.fence) {
            // The fence changed between the two: the caller sees the newer one and reads again.
            (read.fence, read.answered_by) = (part.fence, part.answered_by);
            return Ok(read);
        }
        for (index, row) in group.into_iter().zip(part.rows) {
            read.rows[index] = row;
        }
    }
    Ok(read)
}

/// Rows whose values were too large, as many as fit the budget together: at least one, if any.
fn next_group(read: &Read) -> Option<Vec<usize>> {
    let too_large = |value: &Value| match value {
        Value::TooLarge { bytes } => Some(*bytes),
        _ => None,
    };
    let mut sized: Vec<(usize, usize)> = read
        .rows
        .iter()
        .enumerate()
        .filter_map(|(index, row)| Some((too_large(&row.as_ref()?.value)?, index)))
        .collect();
    sized.sort_unstable();
    let fitting = (1..=sized.len())
        .take_while(|count| *count == 1 || sized[count - 1].0 * count <= limits::FETCH_BYTES_MAX)
        .last()?;
    let mut group: Vec<usize> = sized[..fitting].iter().map(|(_, index)| *index).collect();
    // Keys of one call ascend.
    group.sort_unstable();
    Some(group)
}

#[cfg(test)]
mod tests {
    use freehold_storage::Row;

    use super::*;

    fn read(sizes: &[usize]) -> Read {
        let row = |bytes: &usize| {
            Some(Row {
                version: 1,
                ttl_ms: None,
                value: Value::TooLarge { bytes: *bytes },
            })
        };
        let fence = Fence {
            server_id: 1,
            stamp: 1,
            term: 1,
            epoch: 1,
        };
        Read {
            answered_by: fence.server_id,
            fence,
            rows: sizes.iter().map(row).collect(),
        }
    }

    #[test]
    fn large_values_are_fetched_in_groups_within_the_budget() {
        let mib = 1 << 20;
        assert_eq!(next_group(&read(&[])), None);
        assert_eq!(next_group(&read(&[15 * mib, 15 * mib])), Some(vec![0]));
        assert_eq!(next_group(&read(&[mib; 20])), Some((0..8).collect()));
        assert_eq!(
            next_group(&read(&[9 * mib, mib, 2 * mib])),
            Some(vec![1, 2])
        );
    }
}
