//! Page tokens: where a scan goes on.
//!
//! A token is sealed together with its prefix, so that one of another scan, or one that was cut or
//! lengthened on its way, is refused rather than misread. Layout: format (1 byte), seal (8), the
//! slot (2), whether a key of it was read (1), the last key.

use bytes::Bytes;
use freehold_core::{Slot, key, limits::KEY_BYTES_MAX};

use crate::failure::Failure;

const FORMAT: u8 = 1;

/// Format and seal.
const HEADER_BYTES: usize = 9;

/// What stands before the key.
const PLACE_BYTES: usize = 3;

const TOKEN_BYTES_MAX: usize = HEADER_BYTES + PLACE_BYTES + KEY_BYTES_MAX;

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
        let mut place = Vec::with_capacity(PLACE_BYTES + after.len());
        place.extend(self.slot.0.to_be_bytes());
        place.push(u8::from(self.after.is_some()));
        place.extend(after);
        let mut token = Vec::with_capacity(HEADER_BYTES + place.len());
        token.push(FORMAT);
        token.extend(seal(prefix, &place));
        token.extend(place);
        token.into()
    }

    /// The place of a token.
    ///
    /// # Errors
    /// [`Failure::Invalid`] if it is not a token of a scan over `prefix`.
    pub fn from_token(token: &Bytes, prefix: &[u8]) -> Result<Self, Failure> {
        let wrong = |problem: &str| Failure::invalid("page_token", problem);
        if token.first().is_some_and(|format| *format != FORMAT) {
            return Err(wrong(
                "page_token has a format that this router does not know",
            ));
        }
        Self::unseal(token, prefix)
            .ok_or_else(|| wrong("page_token is not one that a scan with this prefix returned"))
    }

    fn unseal(token: &Bytes, prefix: &[u8]) -> Option<Self> {
        let (sealed, place) = token.get(1..)?.split_first_chunk()?;
        if token.len() > TOKEN_BYTES_MAX || *sealed != seal(prefix, place) {
            return None;
        }
        let [high, low, read, ..] = *place else {
            return None;
        };
        let key = token.slice(HEADER_BYTES + PLACE_BYTES..);
        let after = match (read, key.len()) {
            (0, 0) => None,
            (1, 1..) => Some(key),
            _ => return None,
        };
        let slot = Slot(u16::from_be_bytes([high, low]));
        Some(Self { slot, after })
    }
}

/// Ties a place to its prefix. It finds mistakes; it is no secret, and a forged token can do no
/// more than a scan from elsewhere.
fn seal(prefix: &[u8], place: &[u8]) -> [u8; 8] {
    let length = (prefix.len() as u64).to_be_bytes();
    key::hash(&[&length, prefix, place].concat()).to_be_bytes()
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
            after: Some(Bytes::from_static(b"pa")),
        }
        .to_token(b"p");
        assert!(Place::from_token(&token, b"q").is_err());
        for cut in 0..token.len() {
            assert!(
                Place::from_token(&token.slice(..cut), b"p").is_err(),
                "{cut} bytes"
            );
        }
        let mut longer = token.to_vec();
        longer.push(0);
        assert!(Place::from_token(&longer.into(), b"p").is_err());
        assert!(Place::from_token(&Bytes::from(vec![1; 5_000]), b"p").is_err());
    }
}
