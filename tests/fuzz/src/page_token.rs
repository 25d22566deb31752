//! Where a scan goes on.
//!
//! First what the scan is over: a prefix (its length in the byte before it) and two slots. The next
//! byte says what the rest is: 0 a page token, 1 a place that gets the seal which belongs to it, 2 a
//! place that becomes a token and comes back.

use bytes::Bytes;
use freehold_core::{Slot, key, limits::KEY_BYTES_MAX};
use freehold_router::{
    failure::Failure,
    page_token::{Place, Scope},
};

use crate::parts::{take, take_some};

/// Gives the bytes to whoever reads page tokens.
///
/// # Panics
/// If one that is taken is not what comes out again, or leads out of its scan.
pub fn check(bytes: &[u8]) {
    let mut bytes = bytes;
    let prefix = Bytes::copy_from_slice(take_some(&mut bytes));
    let [one, other] = [take(&mut bytes), take(&mut bytes)].map(u16::from_be_bytes);
    let scope = Scope {
        prefix,
        slots: Slot(one.min(other))..=Slot(one.max(other)),
    };
    let [way] = take(&mut bytes);
    match way % 3 {
        0 => taken(&Bytes::copy_from_slice(bytes), &scope),
        1 => taken(&sealed(bytes, &scope), &scope),
        _ => comes_back(bytes, &scope),
    }
}

/// What is taken is what a walk gives out, to the byte, and lies in the scan.
fn taken(token: &Bytes, scope: &Scope) {
    match Place::from_token(token, scope) {
        Ok(place) => {
            assert_eq!(place.to_token(scope), token);
            assert!(scope.slots().contains(&place.slot), "{place:?}");
            let after = place.after.unwrap_or_default();
            assert!(after.len() <= KEY_BYTES_MAX);
        }
        Err(Failure::Invalid { field, problem }) => {
            assert_eq!(field, "page_token");
            assert!(problem.contains(field), "{problem}");
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn sealed(place: &[u8], scope: &Scope) -> Bytes {
    let Scope { prefix, slots } = scope;
    let length = (prefix.len() as u64).to_be_bytes();
    let [first, last] = [slots.start(), slots.end()].map(|slot| slot.0.to_be_bytes());
    let seal = key::hash(&[&length, &prefix[..], &first, &last, place].concat()).to_be_bytes();
    [&[1], &seal[..], place].concat().into()
}

fn comes_back(mut bytes: &[u8], scope: &Scope) {
    let slot = Slot(u16::from_be_bytes(take(&mut bytes)));
    let after = match bytes {
        [] => None,
        key => Some(Bytes::copy_from_slice(&key[..key.len().min(KEY_BYTES_MAX)])),
    };
    let place = Place { slot, after };
    let read = Place::from_token(&place.to_token(scope), scope);
    if scope.slots().contains(&slot) {
        assert_eq!(read, Ok(place));
    } else {
        assert!(read.is_err(), "{place:?}");
    }
}
