//! Methods on one key.

use freehold_proto::v1;
use tokio::time::Instant;

use super::encode;
use crate::{calls::Calls, failure::Failure, request::Level, validate};

pub(super) async fn get(
    calls: &Calls,
    request: v1::GetRequest,
    deadline: Instant,
) -> Result<v1::GetResponse, Failure> {
    let (operation, level) = validate::get(request)?;
    encode::get(calls.ask(operation, level, deadline).await)
}

pub(super) async fn ttl(
    calls: &Calls,
    request: v1::TtlRequest,
    deadline: Instant,
) -> Result<v1::TtlResponse, Failure> {
    let (operation, level) = validate::ttl(request)?;
    encode::ttl(calls.ask(operation, level, deadline).await)
}

pub(super) async fn put(
    calls: &Calls,
    request: v1::PutRequest,
    deadline: Instant,
) -> Result<v1::PutResponse, Failure> {
    let operation = calls.validator.put(request, calls.versions.next())?;
    encode::put(calls.ask(operation, Level::Strong, deadline).await)
}

pub(super) async fn delete(
    calls: &Calls,
    request: v1::DeleteRequest,
    deadline: Instant,
) -> Result<v1::DeleteResponse, Failure> {
    let operation = validate::delete(request.key)?;
    encode::delete(calls.ask(operation, Level::Strong, deadline).await)
}

pub(super) async fn expire(
    calls: &Calls,
    request: v1::ExpireRequest,
    deadline: Instant,
) -> Result<v1::ExpireResponse, Failure> {
    let operation = validate::expire(request)?;
    encode::expire(calls.ask(operation, Level::Strong, deadline).await)
}
