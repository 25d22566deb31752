//! Keys and values that can be checked: each value begins with its key's number.
//!
//! What is put differs from what is there: databases notice a row that does not change, and neither
//! write nor sync anything for it.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

/// Rows that share one tag, and so one slot.
pub(crate) const ROWS_PER_TAG: u64 = 100;

/// What the number of the key and the salt take.
const VALUE_BYTES_MIN: usize = 16;

/// A set of rows that is loaded, read and written as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(crate) struct DataSet {
    /// Bytes of each value, 16 at least.
    pub(crate) value_bytes: usize,
    /// Whether keys stand in groups with a common tag, for scans.
    pub(crate) tagged: bool,
}

impl DataSet {
    /// The key with this number.
    pub(crate) fn key(self, number: u64) -> Bytes {
        let Self {
            value_bytes,
            tagged,
        } = self;
        if tagged {
            let (tag, row) = (number / ROWS_PER_TAG, number % ROWS_PER_TAG);
            format!("{{t{value_bytes}-{tag:08}}}:{row:03}").into()
        } else {
            format!("v{value_bytes}:{number:012}").into()
        }
    }

    /// All keys of a tag begin with the first and come before the second.
    pub(crate) fn keys_of_tag(self, tag: u64) -> Range<Bytes> {
        let value_bytes = self.value_bytes;
        // A semicolon comes right after a colon.
        let [start, end] = [':', ';'].map(|end| format!("{{t{value_bytes}-{tag:08}}}{end}").into());
        start..end
    }

    /// A value for the key with this number; another salt makes another value.
    pub(crate) fn value(self, number: u64, salt: u64) -> Bytes {
        let bytes = self.value_bytes.max(VALUE_BYTES_MIN);
        let mut value = BytesMut::with_capacity(bytes);
        value.put_u64(number);
        value.put_u64(salt);
        value.resize(bytes, b'.');
        value.freeze()
    }

    /// Whether this is a whole value of this key.
    pub(crate) fn is_value_of(self, number: u64, value: &[u8]) -> bool {
        value.len() == self.value_bytes.max(VALUE_BYTES_MIN)
            && value.starts_with(&number.to_be_bytes())
    }

    /// Whether a row of a scan is one that somebody wrote for this tag.
    pub(crate) fn is_row_of_tag(self, tag: u64, key: &[u8], value: &[u8]) -> bool {
        let number = value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        number.is_some_and(|number| {
            number / ROWS_PER_TAG == tag
                && *key == *self.key(number)
                && self.is_value_of(number, value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_key_or_of_another_length_is_found() {
        let plain = DataSet {
            value_bytes: 100,
            tagged: false,
        };
        let value = plain.value(7, 1);
        assert_ne!(value, plain.value(7, 2));
        assert!(plain.is_value_of(7, &value));
        assert!(!plain.is_value_of(8, &value));
        assert!(!plain.is_value_of(7, &value[..99]));
        assert!(!plain.is_value_of(7, b""));
    }

    #[test]
    fn the_keys_of_a_tag_stand_between_its_bounds() {
        let tagged = DataSet {
            value_bytes: 100,
            tagged: true,
        };
        let range = tagged.keys_of_tag(3);
        for (number, inside) in [(299, false), (300, true), (399, true), (400, false)] {
            let key = tagged.key(number);
            assert_eq!(range.contains(&key), inside, "{key:?}");
            assert_eq!(
                tagged.is_row_of_tag(3, &key, &tagged.value(number, 0)),
                inside
            );
        }
        assert!(!tagged.is_row_of_tag(3, &tagged.key(300), &tagged.value(301, 0)));
    }
}
