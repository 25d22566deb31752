//! From answers to messages.

use bytes::Bytes;
use freehold_proto::v1;
use freehold_storage::{Row, Value};

use crate::{
    failure::Failure,
    request::{Answer, Ending, ReadAnswer, Room},
    validate::{wire_duration, wire_ttl},
};

/// A live row as callers see it; only a row whose value was read is one.
pub(super) fn entry(row: Row) -> Result<v1::Entry, Failure> {
    match row.value {
        Value::Bytes(value) => Ok(v1::Entry {
            value,
            version: row.version,
            ttl: wire_ttl(row.ttl_ms),
        }),
        Value::NotRead | Value::TooLarge { .. } => Err(Failure::AskAgain),
    }
}

fn served(answer: &ReadAnswer) -> v1::Served {
    let source = match answer.from_replica {
        true => v1::Source::Replica,
        false => v1::Source::Master,
    };
    v1::Served {
        shard: answer.shard.to_string(),
        source: source.into(),
        // Absent if it is not known, which never means zero.
        staleness: answer.staleness.map(wire_duration),
    }
}

/// The answer to a GET.
pub(super) fn get(ending: Ending) -> Result<v1::GetResponse, Failure> {
    match ending? {
        Answer::Read(answer) => {
            let served = served(&answer);
            Ok(v1::GetResponse {
                entry: answer.row.map(entry).transpose()?,
                served: Some(served),
            })
        }
        other => unexpected(&other),
    }
}

/// The answer to a GET, with the room that its value takes until it was sent.
pub(super) fn get_with_room(ending: Ending) -> Result<(v1::GetResponse, Room), Failure> {
    let mut answer = ending?;
    let room = answer.take_room();
    Ok((get(Ok(answer))?, room))
}

/// The answer to a TTL.
pub(super) fn ttl(ending: Ending) -> Result<v1::TtlResponse, Failure> {
    match ending? {
        Answer::Read(answer) => Ok(v1::TtlResponse {
            found: answer.row.is_some(),
            ttl: answer.row.as_ref().and_then(|row| wire_ttl(row.ttl_ms)),
            served: Some(served(&answer)),
        }),
        other => unexpected(&other),
    }
}

/// The answer to a PUT.
pub(super) fn put(ending: Ending) -> Result<v1::PutResponse, Failure> {
    match ending? {
        Answer::Stored(version, session_token) => Ok(v1::PutResponse {
            version,
            session_token,
        }),
        other => unexpected(&other),
    }
}

/// The answer to a DELETE.
pub(super) fn delete(ending: Ending) -> Result<v1::DeleteResponse, Failure> {
    let (existed, session_token) = existed(ending)?;
    Ok(v1::DeleteResponse {
        existed,
        session_token,
    })
}

/// The answer to an EXPIRE.
pub(super) fn expire(ending: Ending) -> Result<v1::ExpireResponse, Failure> {
    let (existed, session_token) = existed(ending)?;
    Ok(v1::ExpireResponse {
        existed,
        session_token,
    })
}

fn existed(ending: Ending) -> Result<(bool, Bytes), Failure> {
    match ending? {
        Answer::Existed(existed, token) => Ok((existed, token)),
        other => unexpected(&other),
    }
}

/// A lane answers each operation with its own kind of answer; anything else is a bug here.
fn unexpected<T>(answer: &Answer) -> Result<T, Failure> {
    unreachable!("an answer of another kind: {answer:?}")
}
