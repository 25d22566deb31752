//! The keys of a large read as bytes that the server takes apart by itself.
//!
//! `(slot, key) IN ((?,?), ...)` makes the server build, sort and search a tree of ranges, and look
//! each row up in the list once more. Here the keys come as two strings, and a row of the table
//! `numbers` for each says where its key stands in them: an inner loop that finds one row by its
//! primary key. Any number of keys is one prepared statement, without padding. Microseconds of
//! server CPU per key (values of 100 bytes, one connection, IN and this):
//!
//! | keys | MariaDB | MySQL |
//! |---|---|---|
//! | 4 | 18.3, 34.1 | 14.6, 17.7 |
//! | 16 | 8.1, 9.9 | 7.7, 8.1 |
//! | 64 | 6.4, 5.7 | |
//! | 128 | 5.5, 3.9 | 6.0, 5.1 |
//! | 256 | 5.6, 4.0 | |
//!
//! (MariaDB's sequences instead of a table: 3.7 at 128 keys. MySQL has none.)

use freehold_core::{Key, limits::STATEMENT_KEYS_MAX};
use mysql_async::Value;

/// From how many keys on this is cheaper.
pub(super) const KEYS_MIN: usize = 17;

/// What the keys may have in bytes, each as long as the longest. All of them go over the network,
/// and MySQL keeps such a parameter as a VARBINARY, which ends at 65,535.
const KEYS_BYTES_MAX: usize = 32 << 10;

const _: () = assert!(
    STATEMENT_KEYS_MAX <= 128,
    "rows of the table, as schema.sql fills it"
);

/// Bytes ahead of each key: its slot and its length, two bytes each.
const HEAD_BYTES: usize = 4;

/// Where the rows of the statement come from: `q.n` is the place of a key among all, from 0.
/// One parameter.
pub(super) const NUMBERS: &str = "LEFT JOIN numbers q ON q.n < ? ";

/// What picks the row of key `q.n`. [`PARAMS`] parameters.
pub(super) fn key_is() -> String {
    let number = |first: usize| {
        format!(
            "ASCII(SUBSTR(?, q.n * {HEAD_BYTES} + {first})) * 256 \
             + ASCII(SUBSTR(?, q.n * {HEAD_BYTES} + {}))",
            first + 1
        )
    };
    let (slot, length) = (number(1), number(3));
    format!("s.slot = {slot} AND s.`key` = SUBSTR(?, q.n * ? + 1, {length})")
}

/// Parameters of [`NUMBERS`] and [`key_is`] together.
#[cfg(test)]
pub(super) const PARAMS: usize = 7;

/// The parameters of [`NUMBERS`] and [`key_is`], in their order. `None` where another way is
/// better: the keys are few, or one is so much longer than the others.
pub(super) fn params(keys: &[Key]) -> Option<impl Iterator<Item = Value>> {
    let longest = keys.iter().map(|key| key.bytes().len()).max()?;
    if keys.len() < KEYS_MIN || keys.len() * longest > KEYS_BYTES_MAX {
        return None;
    }
    let mut heads = Vec::with_capacity(keys.len() * HEAD_BYTES);
    let mut padded = Vec::with_capacity(keys.len() * longest);
    for key in keys {
        let length = u16::try_from(key.bytes().len()).expect("a key has at most 1,024 bytes");
        heads.extend(key.slot().0.to_be_bytes());
        heads.extend(length.to_be_bytes());
        padded.extend_from_slice(key.bytes());
        padded.resize(padded.len() + longest - key.bytes().len(), 0);
    }
    let heads = Value::Bytes(heads);
    Some(
        [
            Value::UInt(keys.len() as u64),
            heads.clone(),
            heads.clone(),
            Value::Bytes(padded),
            Value::UInt(longest as u64),
            heads.clone(),
            heads,
        ]
        .into_iter(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize, bytes: usize) -> Vec<Key> {
        let key = |index: usize| Key::new(format!("{index:0bytes$}").into_bytes()).unwrap();
        (0..count).map(key).collect()
    }

    #[test]
    fn every_parameter_has_its_place() {
        let places = format!("{NUMBERS}{}", key_is()).matches('?').count();
        assert_eq!(places, PARAMS);
        assert_eq!(params(&keys(KEYS_MIN, 4)).unwrap().count(), PARAMS);
    }

    #[test]
    fn keys_lie_as_far_apart_as_the_longest_is_long() {
        let mut keys = keys(KEYS_MIN - 1, 2);
        keys.insert(1, Key::new(b"abc".to_vec()).unwrap());
        let params: Vec<Value> = params(&keys).unwrap().collect();
        let Value::Bytes(padded) = &params[3] else {
            panic!("not bytes: {:?}", params[3]);
        };
        assert!(padded.starts_with(b"00\0abc01\0"));
        assert_eq!(params[4], Value::UInt(3));
        let Value::Bytes(heads) = &params[1] else {
            panic!("not bytes: {:?}", params[1]);
        };
        assert_eq!(heads[..2], keys[0].slot().0.to_be_bytes());
        assert_eq!(heads[6..8], [0, 3]);
    }

    #[test]
    fn few_keys_and_long_ones_go_another_way() {
        assert!(params(&[]).is_none());
        assert!(params(&keys(KEYS_MIN - 1, 4)).is_none());
        assert!(params(&keys(128, 256)).is_some());
        assert!(params(&keys(128, 257)).is_none());
    }
}
