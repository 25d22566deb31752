//! A request as it comes off the wire: the first byte says which message the rest is.

use std::time::Duration;

use bytes::Bytes;
use freehold_core::limits::{
    BATCH_BYTES_MAX, BATCH_ITEMS_MAX, KEY_BYTES_MAX, PAGE_ROWS_MAX, TTL_MAX, TTL_MIN,
};
use freehold_proto::v1;
use freehold_router::{
    deadline,
    failure::Failure,
    request::{Level, Operation},
    status,
    validate::{self, Validator},
};
use prost::Message;
use tonic::{Code, metadata::MetadataMap};
use tonic_types::StatusExt as _;

/// Bytes of a value; small, so that a fuzzer reaches it.
const VALUE_BYTES_MAX: usize = 64;

/// Bytes of a refusal's words: they travel in a header.
const WORDS_BYTES_MAX: usize = 400;

/// Gives the bytes to whoever reads requests.
///
/// # Panics
/// If what is let in breaks a limit, or a refusal does not say what to mend.
pub fn check(bytes: &[u8]) {
    let Some((&way, bytes)) = bytes.split_first() else {
        return;
    };
    let bytes = Bytes::copy_from_slice(bytes);
    let validator = Validator::new(VALUE_BYTES_MAX);
    match way % 9 {
        0 => each(bytes, |request| is_sound(validate::get(request).as_ref())),
        1 => each(bytes, |request| {
            let put = validator.put(request, 1).map(strong);
            is_sound(put.as_ref());
        }),
        2 => each(bytes, |request: v1::DeleteRequest| {
            is_sound(validate::delete(&request).map(strong).as_ref());
        }),
        3 => each(bytes, |request| is_sound(validate::ttl(request).as_ref())),
        4 => each(bytes, |request| {
            is_sound(validate::expire(request).map(strong).as_ref());
        }),
        5 => each(bytes, batch_get),
        6 => each(bytes, |request| batch_write(&validator, request)),
        7 => each(bytes, scan),
        _ => each(bytes, |request: v1::PipelineRequest| {
            let timeout = deadline::less_margin(validate::timeout(request.timeout));
            assert!(timeout < Duration::MAX);
            let pipelined = validator.pipelined(request.request, || 1);
            is_sound(pipelined.as_ref());
        }),
    }
}

/// Decodes a message, and sees to it that it is the same when it is encoded and decoded again. What
/// is no message may be a timeout, the one header that a method reads itself.
fn each<M: Message + Default + Clone + PartialEq>(bytes: Bytes, check: impl FnOnce(M)) {
    match M::decode(bytes.clone()) {
        Ok(message) => {
            let again = M::decode(message.encode_to_vec().as_slice());
            // Not by assert_eq, which would print it: so much may be in it.
            assert!(again.is_ok_and(|again| again == message));
            check(message);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            timeout(&bytes);
        }
    }
}

fn timeout(bytes: &[u8]) {
    const LONGEST: Duration = Duration::from_secs(5);
    if let Ok(value) = bytes.try_into() {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", value);
        assert!(deadline::time_allowed(&metadata, LONGEST) <= LONGEST);
    }
}

fn strong(operation: Operation) -> (Operation, Level) {
    (operation, Level::Strong)
}

fn batch_get(request: v1::BatchGetRequest) {
    let count = request.keys.len();
    match validate::batch_get(request) {
        Ok((items, level)) => {
            assert!(items.len() == count && count <= BATCH_ITEMS_MAX);
            for item in items {
                is_sound(item.map(|operation| (operation, level.clone())).as_ref());
            }
        }
        Err(failure) => says_what_to_mend(&failure),
    }
}

fn batch_write(validator: &Validator, request: v1::BatchWriteRequest) {
    let count = request.writes.len();
    match validator.batch_write(request, || 1) {
        Ok(items) => {
            assert!(items.len() == count && count <= BATCH_ITEMS_MAX);
            let bytes = |item: &Result<Operation, Failure>| match item {
                Ok(Operation::Put(put)) => put.key.bytes().len() + put.value.len(),
                Ok(Operation::Delete(key)) => key.bytes().len(),
                _ => 0,
            };
            assert!(items.iter().map(bytes).sum::<usize>() <= BATCH_BYTES_MAX);
            for item in items {
                is_sound(item.map(strong).as_ref());
            }
        }
        Err(failure) => says_what_to_mend(&failure),
    }
}

fn scan(request: v1::ScanRequest) {
    match validate::scan(request) {
        Ok(scan) => {
            assert!(
                scan.rows_max
                    .is_none_or(|rows| (1..=PAGE_ROWS_MAX).contains(&rows))
            );
            assert!(scan.scope.prefix.len() <= KEY_BYTES_MAX);
            match &scan.place {
                Some(place) => assert!(scan.scope.slots().contains(&place.slot), "{scan:?}"),
                None => assert!(scan.scope.slots().is_empty(), "{scan:?}"),
            }
        }
        Err(failure) => says_what_to_mend(&failure),
    }
}

/// What is let in is within every limit.
fn is_sound(validated: Result<&(Operation, Level), &Failure>) {
    let (operation, level) = match validated {
        Ok(validated) => validated,
        Err(failure) => return says_what_to_mend(failure),
    };
    let ttl = match operation {
        Operation::Put(put) => {
            assert!(put.value.len() <= VALUE_BYTES_MAX);
            put.ttl_ms
        }
        Operation::Expire(expire) => expire.ttl_ms,
        _ => None,
    };
    if let Some(ttl) = ttl {
        assert!(
            (TTL_MIN..=TTL_MAX).contains(&Duration::from_millis(ttl)),
            "{ttl}"
        );
        assert_eq!(
            validate::ttl_ms(validate::wire_ttl(Some(ttl))),
            Ok(Some(ttl))
        );
    }
    let bytes = match operation {
        Operation::Get(key) | Operation::Ttl(key) | Operation::Delete(key) => key.bytes(),
        Operation::Put(put) => put.key.bytes(),
        Operation::Expire(expire) => expire.key.bytes(),
        other => panic!("nobody asked for {other:?}"),
    };
    assert!((1..=KEY_BYTES_MAX).contains(&bytes.len()));
    if let Level::Session(tokens) = level {
        assert!(!tokens.is_empty());
    }
}

/// A refusal is the caller's to mend: it names the field, and so do its details.
fn says_what_to_mend(failure: &Failure) {
    let Failure::Invalid { field, problem } = failure else {
        panic!("{failure:?}");
    };
    let leaf = field.rsplit('.').next().unwrap_or_default();
    assert!(problem.contains(leaf), "{field}: {problem}");
    assert!(problem.len() <= WORDS_BYTES_MAX, "{problem}");
    let status = status::to_status(failure);
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| &bad.field_violations);
    assert!(violations.is_some_and(|violations| violations[0].field == *field));
    assert!(
        details
            .error_info()
            .is_some_and(|info| info.domain == status::DOMAIN)
    );
    assert_eq!(status::to_item(failure).message, *problem);
}
