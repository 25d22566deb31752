//! Keys: 1 to 1,024 bytes, compared as bytes, placed by the hash of their tag.

use std::fmt;

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::{limits::KEY_BYTES_MAX, slot::Slot};

/// A valid key with the hash that places it, computed once.
///
/// Ordered as rows lie in the table: by slot, then by bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    hash: u64,
    bytes: Bytes,
}

/// Why bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A key has at least one byte.
    #[error("key is empty: a key has 1 to {KEY_BYTES_MAX} bytes")]
    Empty,
    /// A key has at most [`KEY_BYTES_MAX`] bytes.
    #[error("key has {bytes} bytes: a key has 1 to {KEY_BYTES_MAX} bytes")]
    TooLong {
        /// How many it has.
        bytes: usize,
    },
}

impl Key {
    /// Checks the length and hashes the tag.
    ///
    /// # Errors
    /// [`KeyError`] if there is no byte or more than [`KEY_BYTES_MAX`].
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(KeyError::Empty),
            1..=KEY_BYTES_MAX => Ok(Self {
                hash: hash(tag(&bytes)),
                bytes,
            }),
            bytes => Err(KeyError::TooLong { bytes }),
        }
    }

    /// The key's bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// XXH3_64 of the tag, seed 0.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The slot that owns the key: the upper 16 bits of the hash.
    #[must_use]
    pub fn slot(&self) -> Slot {
        Slot::of_hash(self.hash)
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.slot(), &self.bytes).cmp(&(other.slot(), &other.bytes))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

/// Keys never reach a log: only the slot is shown.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes in slot {})", self.bytes.len(), self.slot())
    }
}

/// What of a key is hashed: the bytes between the first `{` and the first `}` after it, if there
/// are any, else the whole key. The same rule as Redis Cluster's hash tags.
#[must_use]
pub fn tag(key: &[u8]) -> &[u8] {
    whole_tag(key).unwrap_or(key)
}

/// The tag in braces, if `bytes` (a key, or the beginning of one) contains a whole one. Every key
/// that begins with such bytes has the same slot.
#[must_use]
pub fn whole_tag(bytes: &[u8]) -> Option<&[u8]> {
    let open = bytes.iter().position(|byte| *byte == b'{')?;
    let inside = &bytes[open + 1..];
    let close = inside.iter().position(|byte| *byte == b'}')?;
    (close > 0).then(|| &inside[..close])
}

/// XXH3_64 with seed 0. This can never change: it places every key there is.
#[must_use]
pub fn hash(tag: &[u8]) -> u64 {
    XxHash3_64::oneshot(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_1_to_1024_bytes() {
        assert_eq!(Key::new(""), Err(KeyError::Empty));
        assert!(Key::new(vec![0; 1]).is_ok());
        assert!(Key::new(vec![0; KEY_BYTES_MAX]).is_ok());
        assert_eq!(
            Key::new(vec![0; 1_025]),
            Err(KeyError::TooLong { bytes: 1_025 })
        );
    }

    #[test]
    fn the_tag_is_what_the_first_whole_pair_of_braces_holds() {
        for (key, expected) in [
            ("{a}b", "a"),
            ("x{a}{b}", "a"),
            ("{}x", "{}x"),
            ("{}{a}", "{}{a}"),
            ("{a", "{a"),
            ("a}b{c}", "c"),
            ("{{a}}", "{a"),
            ("plain", "plain"),
        ] {
            assert_eq!(tag(key.as_bytes()), expected.as_bytes(), "{key}");
        }
    }

    #[test]
    fn a_prefix_with_a_whole_tag_decides_the_slot() {
        assert_eq!(whole_tag(b"{user:1}:"), Some(&b"user:1"[..]));
        assert_eq!(whole_tag(b"{user:1"), None);
        assert_eq!(whole_tag(b"user:"), None);
        // `{}` has an empty tag, and what follows it can never change that.
        assert_eq!(whole_tag(b"{}"), None);
    }

    #[test]
    fn debug_shows_no_byte_of_the_key() {
        let shown = format!("{:?}", Key::new("secret").unwrap());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
