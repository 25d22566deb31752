//! Whatever bytes arrive: an answer, or a refusal that the caller can mend; never a panic.

use bytes::Bytes;
use freehold_core::{Slot, limits::VALUE_BYTES_MAX};
use freehold_proto::v1;
use proptest::{prelude::*, sample::Index};
use prost::Message;

use crate::{
    failure::Failure,
    page_token::{Place, Scope},
    validate::{self, Validator},
};

/// Some bytes put in the place of others.
fn changed(mut bytes: Vec<u8>, changes: &[(Index, u8)]) -> Bytes {
    for (place, byte) in changes {
        if !bytes.is_empty() {
            let place = place.index(bytes.len());
            bytes[place] = *byte;
        }
    }
    bytes.into()
}

fn changes() -> impl Strategy<Value = Vec<(Index, u8)>> {
    prop::collection::vec(any::<(Index, u8)>(), 0..4)
}

/// Bytes of a request with some of them changed, or bytes of no sense at all. Every request has its
/// key in field 1, and most have a time to live or options in one of the next.
fn nearly_requests() -> impl Strategy<Value = Bytes> {
    let key = prop::collection::vec(any::<u8>(), 0..40);
    let ttl = prop::option::of(any::<(i64, i32)>());
    let request = (key, ttl, changes()).prop_map(|(key, ttl, changes)| {
        let request = v1::PutRequest {
            value: key.clone().into(),
            key: key.into(),
            ttl: ttl.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos }),
        };
        changed(request.encode_to_vec(), &changes)
    });
    let nothing = prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    prop_oneof![request, nothing]
}

fn is_mendable<T>(validated: &Result<T, Failure>) -> bool {
    matches!(validated, Ok(_) | Err(Failure::Invalid { .. }))
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_refused(bytes in nearly_requests()) {
        if let Ok(request) = v1::PutRequest::decode(bytes.clone()) {
            let validated = Validator::new(VALUE_BYTES_MAX).put(request, 1);
            prop_assert!(is_mendable(&validated), "{validated:?}");
        }
        if let Ok(request) = v1::GetRequest::decode(bytes.clone()) {
            let validated = validate::get(request);
            prop_assert!(is_mendable(&validated), "{validated:?}");
        }
        if let Ok(request) = v1::TtlRequest::decode(bytes.clone()) {
            let validated = validate::ttl(request);
            prop_assert!(is_mendable(&validated), "{validated:?}");
        }
        if let Ok(request) = v1::ExpireRequest::decode(bytes.clone()) {
            let validated = validate::expire(request);
            prop_assert!(is_mendable(&validated), "{validated:?}");
        }
        if let Ok(request) = v1::ScanRequest::decode(bytes) {
            let validated = validate::slots(request.slots);
            prop_assert!(is_mendable(&validated), "{validated:?}");
        }
    }

    /// A token that is taken is one that a walk gave out, to the byte.
    #[test]
    fn any_bytes_are_the_token_of_a_place_or_refused(
        slot in any::<u16>(),
        after in prop::option::of(prop::collection::vec(any::<u8>(), 1..40)),
        changes in changes(),
        noise in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let scope = Scope { prefix: "p".into(), slots: Slot::FIRST..=Slot::LAST };
        let place = Place { slot: Slot(slot), after: after.map(Bytes::from) };
        let token = changed(place.to_token(&scope).to_vec(), &changes);
        for bytes in [token, noise.into()] {
            match Place::from_token(&bytes, &scope) {
                Ok(place) => prop_assert_eq!(place.to_token(&scope), bytes),
                Err(failure) => {
                    let is_named = matches!(failure, Failure::Invalid { field: "page_token", .. });
                    prop_assert!(is_named, "{}", failure);
                }
            }
        }
    }
}
