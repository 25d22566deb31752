//! Rows that can be checked: a value begins with its key's number and what was put last.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use freehold_client::{Client, Write};
use tokio::task::JoinSet;

use crate::Result;

/// What the number of the key and the salt take.
pub const VALUE_BYTES_MIN: usize = 16;

/// Rows of one batch, at most.
const BATCH_ROWS: u32 = 500;

/// Bytes of values in one batch, at most: answers hold 3 MiB.
const BATCH_BYTES: usize = 2 << 20;

/// Batches that are under way at a time while rows are loaded and read.
const BATCHES: usize = 8;

/// A set of rows.
#[derive(Debug, Clone)]
pub struct Rows {
    /// What each key begins with.
    pub prefix: String,
    /// How many there are; their numbers begin with 0.
    pub count: u32,
    /// Bytes of each value.
    pub value_bytes: usize,
}

/// What must be in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// What was put last; `None` if the row is not there.
    pub salt: Option<u64>,
    /// Whether it has a time to live.
    pub expires: bool,
}

impl Known {
    /// As rows are loaded.
    pub const LOADED: Self = Self {
        salt: Some(0),
        expires: false,
    };
}

/// Rows that one caller alone writes.
#[derive(Debug)]
pub struct Own {
    first: u32,
    step: u32,
    /// What must be in each, in the order of their numbers.
    pub known: Vec<Known>,
    /// Places whose rows are not there: they are put before others.
    pub deleted: Vec<usize>,
    /// What was put last, of all of them.
    pub salt: u64,
}

impl Own {
    /// All rows, as they were loaded, among so many callers.
    #[must_use]
    pub fn deal_out(rows: &Rows, callers: u32) -> Vec<Self> {
        let own = |first| Self {
            first,
            step: callers,
            known: vec![Known::LOADED; (first..rows.count).step_by(callers as usize).len()],
            deleted: Vec::new(),
            salt: 0,
        };
        (0..callers.min(rows.count)).map(own).collect()
    }

    /// The number of the row in this place.
    #[must_use]
    pub fn number(&self, place: usize) -> u32 {
        self.first + self.step * u32::try_from(place).unwrap_or(u32::MAX)
    }
}

impl Rows {
    /// The key with this number.
    #[must_use]
    pub fn key(&self, number: u32) -> Bytes {
        format!("{}{number:012}", self.prefix).into()
    }

    /// A value for the key with this number; another salt makes another value.
    #[must_use]
    pub fn value(&self, number: u32, salt: u64) -> Bytes {
        let mut value = BytesMut::with_capacity(self.value_bytes);
        value.put_u64(number.into());
        value.put_u64(salt);
        value.resize(self.value_bytes.max(VALUE_BYTES_MIN), b'.');
        value.freeze()
    }

    /// Whether this is what must be in a row, in words if it is not.
    ///
    /// # Errors
    /// If it is not.
    pub fn compare(&self, number: u32, known: Known, found: Option<&Bytes>) -> Result<()> {
        let wanted = known.salt.map(|salt| self.value(number, salt));
        if wanted.as_ref() == found {
            return Ok(());
        }
        let words = |value: Option<&Bytes>| match value {
            None => "nothing".to_owned(),
            Some(value) => format!("{:02x?}", &value[..value.len().min(VALUE_BYTES_MIN)]),
        };
        let (wanted, found) = (words(wanted.as_ref()), words(found));
        Err(format!("row {number} holds {found} and must hold {wanted}").into())
    }

    /// Puts every row.
    ///
    /// # Errors
    /// Of a write that failed.
    pub async fn load(self: &Arc<Self>, client: &Client) -> Result<()> {
        let batches = self.batches().map(|numbers| {
            let (rows, client) = (self.clone(), client.clone());
            async move {
                let put = |number| Write::put(rows.key(number), rows.value(number, 0));
                for written in client.batch_write(numbers.into_iter().map(put)).await? {
                    written?;
                }
                Ok(())
            }
        });
        a_few_at_a_time(batches).await
    }

    /// Reads every row, and compares it with what its caller knows.
    ///
    /// # Errors
    /// Of a read that failed, and in words of the first row that is wrong.
    pub async fn check(self: &Arc<Self>, client: &Client, own: &[Own]) -> Result<()> {
        let mut known = vec![Known::LOADED; self.count as usize];
        for own in own {
            for (place, one) in own.known.iter().enumerate() {
                known[own.number(place) as usize] = *one;
            }
        }
        let batches = self.batches().map(|numbers| {
            let known: Vec<Known> = numbers.iter().map(|n| known[*n as usize]).collect();
            let (rows, client) = (self.clone(), client.clone());
            async move {
                let keys = numbers.iter().map(|number| rows.key(*number));
                let found = client.batch_get(keys).await?;
                for ((number, known), found) in numbers.into_iter().zip(known).zip(found) {
                    rows.compare(number, known, found?.value())?;
                }
                Ok(())
            }
        });
        a_few_at_a_time(batches).await
    }

    fn batches(&self) -> impl Iterator<Item = Vec<u32>> {
        let fitting = BATCH_BYTES / self.value_bytes.max(1);
        let at_once = BATCH_ROWS.min(u32::try_from(fitting).unwrap_or(BATCH_ROWS));
        let (at_once, count) = (at_once.max(1), self.count);
        (0..count)
            .step_by(at_once as usize)
            .map(move |first| (first..count.min(first + at_once)).collect())
    }
}

async fn a_few_at_a_time(
    tasks: impl Iterator<Item = impl Future<Output = Result<()>> + Send + 'static>,
) -> Result<()> {
    let mut under_way = JoinSet::new();
    for task in tasks {
        if under_way.len() >= BATCHES
            && let Some(ended) = under_way.join_next().await
        {
            ended??;
        }
        under_way.spawn(task);
    }
    while let Some(ended) = under_way.join_next().await {
        ended??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: u32 = 1_001;

    fn rows() -> Rows {
        Rows {
            prefix: "row:".to_owned(),
            count: ROWS,
            value_bytes: 100,
        }
    }

    #[test]
    fn every_row_has_one_caller_and_is_in_one_batch() {
        let own = Own::deal_out(&rows(), 64);
        let numbers = own
            .iter()
            .flat_map(|own| (0..own.known.len()).map(|place| own.number(place)));
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..ROWS));
        assert!(rows().batches().flatten().eq(0..ROWS));
    }

    #[test]
    fn another_value_or_none_is_wrong() {
        let (rows, known) = (rows(), Known::LOADED);
        let gone = Known {
            salt: None,
            ..known
        };
        let right = rows.value(7, 0);
        assert!(rows.compare(7, known, Some(&right)).is_ok());
        assert!(rows.compare(7, gone, None).is_ok());
        assert!(rows.compare(7, gone, Some(&right)).is_err());
        for wrong in [None, Some(rows.value(7, 1)), Some(rows.value(8, 0))] {
            assert!(rows.compare(7, known, wrong.as_ref()).is_err());
        }
    }
}
