//! Page tokens: where a scan goes on.
//!
//! A token is sealed together with what its scan is over, so that one of another scan, or one that
//! was cut or lengthened on its way, is refused rather than misread. Layout: format (1 byte), seal
//! (8), the slot (2), whether a key of it was read (1), the last key.

use std::ops::RangeInclusive;

use bytes::Bytes;
use freehold_core::{Slot, key, limits::KEY_BYTES_MAX};

use crate::failure::Failure;

const FORMAT: u8 = 1;

/// Format and seal.
const HEADER_BYTES: usize = 9;

/// What stands before the key.
const PLACE_BYTES: usize = 3;

const TOKEN_BYTES_MAX: usize = HEADER_BYTES + PLACE_BYTES + KEY_BYTES_MAX;

/// What a scan is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Only keys that begin with it.
    pub prefix: Bytes,
    /// Only keys of these slots.
    pub slots: RangeInclusive<Slot>,
}

impl Scope {
    /// The slots in which its keys can be; empty if there is none.
    #[must_use]
    pub fn slots(&self) -> RangeInclusive<Slot> {
        match key::whole_tag(&self.prefix) {
            Some(tag) => {
                let slot = Slot::of_hash(key::hash(tag));
                slot.max(*self.slots.start())..=slot.min(*self.slots.end())
            }
            None => self.slots.clone(),
        }
    }
}

/// The place before which everything was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The slot to go on in.
    pub slot: Slot,
    /// The last key of it that was sent; `None` if none was.
    pub after: Option<Bytes>,
}

impl Place {
    /// The token of this place in a scan.
    #[must_use]
    pub fn to_token(&self, scope: &Scope) -> Bytes {
        let after = self.after.as_deref().unwrap_or_default();
        let mut place = Vec::with_capacity(PLACE_BYTES + after.len());
        place.extend(self.slot.0.to_be_bytes());
        place.push(u8::from(self.after.is_some()));
        place.extend(after);
        let mut token = Vec::with_capacity(HEADER_BYTES + place.len());
        token.push(FORMAT);
        token.extend(seal(scope, &place));
        token.extend(place);
        token.into()
    }

    /// The place of a token.
    ///
    /// # Errors
    /// [`Failure::Invalid`] if it is not a token of this scan.
    pub fn from_token(token: &Bytes, scope: &Scope) -> Result<Self, Failure> {
        let wrong = |problem: &str| Failure::invalid("page_token", problem);
        if token.first().is_some_and(|format| *format != FORMAT) {
            return Err(wrong(
                "page_token has a format that this router does not know",
            ));
        }
        Self::unseal(token, scope)
            .filter(|place| scope.slots().contains(&place.slot))
            .ok_or_else(|| {
                wrong("page_token is not one that a scan with this prefix and these slots returned")
            })
    }

    fn unseal(token: &Bytes, scope: &Scope) -> Option<Self> {
        let (sealed, place) = token.get(1..)?.split_first_chunk()?;
        if token.len() > TOKEN_BYTES_MAX || *sealed != seal(scope, place) {
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

/// Ties a place to its scan. It finds mistakes; it is no secret, and a forged token can do no
/// more than a scan from elsewhere.
fn seal(scope: &Scope, place: &[u8]) -> [u8; 8] {
    let Scope { prefix, slots } = scope;
    let length = (prefix.len() as u64).to_be_bytes();
    let [first, last] = [slots.start(), slots.end()].map(|slot| slot.0.to_be_bytes());
    key::hash(&[&length, &prefix[..], &first, &last, place].concat()).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(prefix: &'static str, first: u16, last: u16) -> Scope {
        Scope {
            prefix: prefix.into(),
            slots: Slot(first)..=Slot(last),
        }
    }

    fn all(prefix: &'static str) -> Scope {
        scope(prefix, 0, u16::MAX)
    }

    #[test]
    fn a_token_brings_its_place_back() {
        for after in [None, Some(Bytes::from_static(b"\x00\xff"))] {
            let place = Place {
                slot: Slot(65_535),
                after,
            };
            let token = place.to_token(&all("p"));
            assert_eq!(Place::from_token(&token, &all("p")), Ok(place));
        }
    }

    #[test]
    fn a_token_of_another_scan_or_no_token_at_all_is_refused() {
        let place = Place {
            slot: Slot(1),
            after: Some(Bytes::from_static(b"pa")),
        };
        let token = place.to_token(&all("p"));
        for other in [
            all("q"),
            scope("p", 1, u16::MAX),
            scope("p", 0, u16::MAX - 1),
        ] {
            assert!(Place::from_token(&token, &other).is_err(), "{other:?}");
        }
        for cut in 0..token.len() {
            assert!(
                Place::from_token(&token.slice(..cut), &all("p")).is_err(),
                "{cut} bytes"
            );
        }
        let mut longer = token.to_vec();
        longer.push(0);
        assert!(Place::from_token(&longer.into(), &all("p")).is_err());
        assert!(Place::from_token(&Bytes::from(vec![1; 5_000]), &all("p")).is_err());
    }

    #[test]
    fn a_place_outside_of_the_slots_is_refused_however_it_was_sealed() {
        let scope = scope("p", 5, 9);
        let token = |slot| {
            let place = Place {
                slot: Slot(slot),
                after: None,
            };
            place.to_token(&scope)
        };
        for (slot, fits) in [(4, false), (5, true), (9, true), (10, false)] {
            let place = Place::from_token(&token(slot), &scope);
            assert_eq!(place.is_ok(), fits, "slot {slot}");
        }
    }

    #[test]
    fn a_whole_tag_leaves_its_slot_or_none() {
        assert_eq!(scope("a", 5, 9).slots(), Slot(5)..=Slot(9));
        let tagged = |first, last| scope("{user:1}", first, last).slots();
        let slot = Slot(15_191);
        for (first, last) in [(0, u16::MAX), (15_191, 15_191), (15_191, 20_000)] {
            assert_eq!(tagged(first, last), slot..=slot);
        }
        assert!(tagged(0, 15_190).is_empty() && tagged(15_192, u16::MAX).is_empty());
    }
}
