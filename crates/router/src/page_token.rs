//! Page tokens: where a scan goes on.
//!
//! A token is bound to its prefix, so that one of another scan is refused rather than misread.
//! Layout: format (1 byte), XXH3_64 of the prefix (8), the slot (2), what of it was read (1), the
//! last key.

use bytes::Bytes;
use freehold_core::{Slot, key, limits::KEY_BYTES_MAX};

use crate::failure::Failure;

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 12;

/// The place before which everything was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The slot to go on in.
    pub slot: Slot,
    /// The last key of it that was sent; `None` if none was.
    pub after: Option<Bytes>,
}

impl Place {
    /// The token of this place in a scan over `prefix`.
    #[must_use]
    pub fn to_token(&self, prefix: &[u8]) -> Bytes {
        let after = self.after.as_deref().unwrap_or_default();
        let mut token = Vec::with_capacity(HEADER_BYTES + after.len());
        token.push(FORMAT);
        token.extend(key::hash(prefix).to_be_bytes());
        token.extend(self.slot.0.to_be_bytes());
        token.push(u8::from(self.after.is_some()));
        token.extend(after);
        token.into()
    }

    /// The place of a token.
    ///
    /// # Errors
    /// [`Failure::Invalid`] if it is not a token of a scan over `prefix`.
    pub fn from_token(token: &Bytes, prefix: &[u8]) -> Result<Self, Failure> {
        let wrong = |problem: &str| Failure::invalid("page_token", problem);
        if token.len() < HEADER_BYTES || token.len() > HEADER_BYTES + KEY_BYTES_MAX {
            return Err(wrong("page_token is not one that a scan returned"));
        }
        let (format, rest) = (token[0], &token[1..]);
        if format != FORMAT {
            return Err(wrong(
                "page_token has a format that this router does not know",
            ));
        }
        if rest[..8] != key::hash(prefix).to_be_bytes() {
            return Err(wrong("page_token belongs to a scan with another prefix"));
        }
        let slot = Slot(u16::from_be_bytes([rest[8], rest[9]]));
        let after = token.slice(HEADER_BYTES..);
        match (rest[10], after.len()) {
            (0, 0) => Ok(Self { slot, after: None }),
            (1, 1..) => Ok(Self {
                slot,
                after: Some(after),
            }),
            _ => Err(wrong("page_token is not one that a scan returned")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_brings_its_place_back() {
        for after in [None, Some(Bytes::from_static(b"\x00\xff"))] {
            let place = Place {
                slot: Slot(65_535),
                after,
            };
            assert_eq!(Place::from_token(&place.to_token(b"p"), b"p"), Ok(place));
        }
    }

    #[test]
    fn a_token_of_another_scan_or_no_token_at_all_is_refused() {
        let token = Place {
            slot: Slot(1),
            after: None,
        }
        .to_token(b"p");
        assert!(Place::from_token(&token, b"q").is_err());
        for cut in 0..token.len() {
            assert!(
                Place::from_token(&token.slice(..cut), b"p").is_err(),
                "{cut} bytes"
            );
        }
        assert!(Place::from_token(&Bytes::from(vec![1; 5_000]), b"p").is_err());
    }
}
