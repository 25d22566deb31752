//! Methods on one key.

use freehold_proto::v1;
use tokio::time::Instant;

use super::encode;
use crate::{
    calls::Calls,
    failure::Failure,
    request::{Ending, Level, Operation, Room},
    validate,
};

/// What became of a call on one key.
pub(super) struct Single<'a, T> {
    /// The shard that serves the key; empty if none does, or if there is no telling.
    pub(super) shard: &'a str,
    pub(super) result: Result<T, Failure>,
}

impl<'a, T> Single<'a, T> {
    /// The same with something made of its response.
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Single<'a, U> {
        Single {
            shard: self.shard,
            result: self.result.map(make),
        }
    }
}

async fn ask<T>(
    calls: &Calls,
    checked: Result<(Operation, Level), Failure>,
    deadline: Instant,
    encode: impl FnOnce(Ending) -> Result<T, Failure>,
) -> Single<'_, T> {
    match checked {
        Ok((operation, level)) => Single {
            shard: calls.owner(&operation),
            result: encode(calls.ask(operation, level, deadline).await),
        },
        Err(failure) => {
            calls.shards.unrouted.refused(&failure);
            Single {
                shard: "",
                result: Err(failure),
            }
        }
    }
}

fn strong(operation: Operation) -> (Operation, Level) {
    (operation, Level::Strong)
}

pub(super) async fn get(
    calls: &Calls,
    request: v1::GetRequest,
    deadline: Instant,
) -> Single<'_, (v1::GetResponse, Room)> {
    ask(
        calls,
        validate::get(request),
        deadline,
        encode::get_with_room,
    )
    .await
}

pub(super) async fn ttl(
    calls: &Calls,
    request: v1::TtlRequest,
    deadline: Instant,
) -> Single<'_, v1::TtlResponse> {
    ask(calls, validate::ttl(request), deadline, encode::ttl).await
}

pub(super) async fn put(
    calls: &Calls,
    request: v1::PutRequest,
    deadline: Instant,
) -> Single<'_, v1::PutResponse> {
    let put = calls.validator.put(request, calls.versions.next());
    ask(calls, put.map(strong), deadline, encode::put).await
}

pub(super) async fn delete(
    calls: &Calls,
    request: v1::DeleteRequest,
    deadline: Instant,
) -> Single<'_, v1::DeleteResponse> {
    let delete = validate::delete(&request).map(strong);
    ask(calls, delete, deadline, encode::delete).await
}

pub(super) async fn expire(
    calls: &Calls,
    request: v1::ExpireRequest,
    deadline: Instant,
) -> Single<'_, v1::ExpireResponse> {
    let expire = validate::expire(request).map(strong);
    ask(calls, expire, deadline, encode::expire).await
}
