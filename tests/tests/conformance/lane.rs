//! Requests as a lane makes them, for tests that expect them to be applied.

use bytes::Bytes;
use freehold_core::{
    Fence, Key,
    limits::{STATEMENT_BYTES_MAX, STATEMENT_KEYS_MAX},
};
use freehold_storage::{Columns, DataConnection, ExpireRow, Outcome, PutRow, RawRow, Row, Value};

use crate::store::Result;

/// Values are read whole.
pub(crate) const WHOLE: Columns = Columns::Value {
    bytes_max: usize::MAX >> 1,
};

/// An epoch that no test reaches.
const EPOCH_LATE: u64 = u64::MAX >> 1;

/// A connection with the fence it believes in.
pub(crate) struct Lane {
    /// The connection.
    pub(crate) data: Box<dyn DataConnection>,
    /// What the fence showed when it was opened.
    pub(crate) fence: Fence,
}

impl Lane {
    pub(crate) async fn open(mut data: Box<dyn DataConnection>) -> Result<Self> {
        // No slot changed behind so late an epoch: the fence alone comes back.
        let fence = data.claims(EPOCH_LATE).await?.fence;
        Ok(Self { data, fence })
    }

    /// Stores rows, in as many statements as the limits ask for.
    pub(crate) async fn put(&mut self, rows: impl IntoIterator<Item = PutRow>) -> Result<()> {
        let mut rows: Vec<PutRow> = rows.into_iter().collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        for batch in batches(&rows) {
            applied(self.data.put(&self.fence, batch).await)?;
        }
        Ok(())
    }

    /// Whether each key was live, and deletes it.
    pub(crate) async fn delete(&mut self, keys: &[Key]) -> Result<Vec<bool>> {
        applied(self.data.delete(&self.fence, keys).await)
    }

    /// Whether each key was live, and changes its expiry.
    pub(crate) async fn expire(&mut self, rows: &[ExpireRow]) -> Result<Vec<bool>> {
        applied(self.data.expire(&self.fence, rows).await)
    }

    /// Deletes one key.
    pub(crate) async fn delete_one(&mut self, key: &Key) -> Result<bool> {
        Ok(self.delete(std::slice::from_ref(key)).await?[0])
    }

    /// Changes one key's expiry.
    pub(crate) async fn expire_one(&mut self, key: &Key, ttl_ms: Option<u64>) -> Result<bool> {
        Ok(self
            .expire(&[ExpireRow {
                key: key.clone(),
                ttl_ms,
            }])
            .await?[0])
    }

    /// Reads keys, which need no order here.
    pub(crate) async fn read(
        &mut self,
        keys: &[Key],
        columns: Columns,
    ) -> Result<Vec<Option<Row>>> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|index| &keys[*index]);
        let sorted: Vec<Key> = order.iter().map(|index| keys[*index].clone()).collect();
        let mut found = vec![None; keys.len()];
        for (indices, batch) in order
            .chunks(STATEMENT_KEYS_MAX)
            .zip(sorted.chunks(STATEMENT_KEYS_MAX))
        {
            let read = self.data.read(batch, columns).await?;
            assert_eq!(read.rows.len(), batch.len(), "one answer per key");
            for (index, row) in indices.iter().zip(read.rows) {
                found[*index] = row;
            }
        }
        Ok(found)
    }

    /// The live row of one key.
    pub(crate) async fn row(&mut self, key: &Key) -> Result<Option<Row>> {
        Ok(self.read(std::slice::from_ref(key), WHOLE).await?.remove(0))
    }

    /// The value of one key, if it is live.
    pub(crate) async fn value(&mut self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.row(key).await?.map(|row| match row.value {
            Value::Bytes(bytes) => bytes,
            other => panic!("asked for the whole value, got {other:?}"),
        }))
    }

    /// One key as it lies in the table.
    pub(crate) async fn inspect(&mut self, key: &Key) -> Result<Option<RawRow>> {
        let inspected = self.data.inspect(key).await?;
        assert_eq!(inspected.fence, self.fence);
        assert_eq!(inspected.answered_by, self.fence.server_id);
        Ok(inspected.row)
    }
}

/// What outcomes hold, if all were applied.
pub(crate) fn applied<T: std::fmt::Debug>(outcomes: Vec<Outcome<T>>) -> Result<Vec<T>> {
    outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Applied(answer) => Ok(answer),
            other => Err(format!("not applied: {other:?}").into()),
        })
        .collect()
}

/// A key that is one.
pub(crate) fn key(bytes: impl AsRef<[u8]>) -> Key {
    Key::new(bytes.as_ref().to_vec()).expect("tests use keys of 1 to 1,024 bytes")
}

/// A row that never expires.
pub(crate) fn row(key: &Key, value: impl AsRef<[u8]>) -> PutRow {
    PutRow {
        key: key.clone(),
        value: Bytes::copy_from_slice(value.as_ref()),
        version: 1,
        ttl_ms: None,
    }
}

/// A row that expires.
pub(crate) fn row_with_ttl(key: &Key, value: impl AsRef<[u8]>, ttl_ms: u64) -> PutRow {
    PutRow {
        ttl_ms: Some(ttl_ms),
        ..row(key, value)
    }
}

/// Keys of one slot each, `count` of them in the same slot, ascending.
pub(crate) fn keys_of_one_slot(tag: &str, count: usize) -> Vec<Key> {
    (0..count)
        .map(|number| key(format!("{{{tag}}}{number:06}")))
        .collect()
}

fn batches(rows: &[PutRow]) -> Vec<&[PutRow]> {
    let (mut batches, mut first, mut bytes) = (Vec::new(), 0, 0);
    for (index, row) in rows.iter().enumerate() {
        let row_bytes = row.key.bytes().len() + row.value.len();
        let full = index - first == STATEMENT_KEYS_MAX || bytes + row_bytes > STATEMENT_BYTES_MAX;
        if full && index > first {
            batches.push(&rows[first..index]);
            (first, bytes) = (index, 0);
        }
        bytes += row_bytes;
    }
    batches.push(&rows[first..]);
    batches
}
