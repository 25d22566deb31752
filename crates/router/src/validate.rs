//! From the wire to an operation: every limit is checked here, and nothing that breaks one reaches
//! a queue. Requests of one key stand in this file, those of many in `many.rs`, and those of no key in
//! `moves.rs`.

mod many;
pub mod moves;
#[cfg(test)]
mod tests;

use std::{ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use freehold_core::{
    Key, Slot, Token,
    limits::{SESSION_TOKEN_BYTES_MAX, TTL_MAX, TTL_MIN, VALUE_BYTES_MAX},
};
use freehold_proto::v1;
use freehold_storage::{ExpireRow, PutRow};

use crate::{
    failure::Failure,
    request::{Level, Operation},
};

pub use self::many::{Scan, batch_get, scan};

/// A value up to so many bytes gets memory of its own; a larger one keeps the message that it came in,
/// of which it is a good part.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// `Duration.nanos` is below it.
const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// The limits that a config can change.
#[derive(Debug, Clone, Copy)]
pub struct Validator {
    value_bytes_max: usize,
}

impl Validator {
    /// A validator for values of at most so many bytes.
    #[must_use]
    pub const fn new(value_bytes_max: usize) -> Self {
        assert!(
            value_bytes_max <= VALUE_BYTES_MAX,
            "the config is checked against this"
        );
        Self { value_bytes_max }
    }

    /// A PUT whose stored version is `version`.
    ///
    /// # Errors
    /// [`Failure::Invalid`].
    pub fn put(&self, request: v1::PutRequest, version: u64) -> Result<Operation, Failure> {
        let key = key(&request.key)?;
        let bytes = request.value.len();
        if bytes > self.value_bytes_max {
            return Err(Failure::invalid(
                "value",
                format!(
                    "value has {bytes} bytes: at most {} are allowed",
                    self.value_bytes_max
                ),
            ));
        }
        let ttl_ms = ttl_ms(request.ttl)?;
        let value = match bytes {
            0..=COPIED_BYTES_MAX => Bytes::copy_from_slice(&request.value),
            _ => request.value,
        };
        Ok(Operation::Put(PutRow {
            key,
            value,
            version,
            ttl_ms,
        }))
    }
}

/// A key in memory of its own. What arrives is a part of everything that came with it, and a request
/// that waits would keep all of that.
fn key(bytes: &[u8]) -> Result<Key, Failure> {
    Ok(Key::new(Bytes::copy_from_slice(bytes))?)
}

/// A GET and who may answer it.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn get(request: v1::GetRequest) -> Result<(Operation, Level), Failure> {
    let level = level(request.read.as_ref())?;
    Ok((Operation::Get(key(&request.key)?), level))
}

/// A TTL and who may answer it.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn ttl(request: v1::TtlRequest) -> Result<(Operation, Level), Failure> {
    let level = level(request.read.as_ref())?;
    Ok((Operation::Ttl(key(&request.key)?), level))
}

/// A DELETE.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn delete(request: &v1::DeleteRequest) -> Result<Operation, Failure> {
    Ok(Operation::Delete(key(&request.key)?))
}

/// An EXPIRE.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn expire(request: v1::ExpireRequest) -> Result<Operation, Failure> {
    Ok(Operation::Expire(ExpireRow {
        key: key(&request.key)?,
        ttl_ms: ttl_ms(request.ttl)?,
    }))
}

/// Who may answer a read.
///
/// # Errors
/// [`Failure::Invalid`] where the options contradict each other, or are not what they should be.
pub fn level(read: Option<&v1::ReadOptions>) -> Result<Level, Failure> {
    let Some(read) = read else {
        return Ok(Level::Strong);
    };
    let Ok(consistency) = v1::Consistency::try_from(read.consistency) else {
        return Err(Failure::invalid(
            "read.consistency",
            format!(
                "consistency {} is not known: use STRONG, EVENTUAL, BOUNDED_STALENESS or SESSION",
                read.consistency
            ),
        ));
    };
    let is = |wanted| consistency == wanted;
    if read.max_staleness.is_some() && !is(v1::Consistency::BoundedStaleness) {
        return Err(Failure::invalid(
            "read.max_staleness",
            "max_staleness goes with CONSISTENCY_BOUNDED_STALENESS only",
        ));
    }
    if !read.session_token.is_empty() && !is(v1::Consistency::Session) {
        return Err(Failure::invalid(
            "read.session_token",
            "session_token goes with CONSISTENCY_SESSION only",
        ));
    }
    match consistency {
        v1::Consistency::Unspecified | v1::Consistency::Strong => Ok(Level::Strong),
        v1::Consistency::Eventual => Ok(Level::Eventual),
        v1::Consistency::BoundedStaleness => max_staleness(read.max_staleness).map(Level::Bounded),
        v1::Consistency::Session => session(&read.session_token),
    }
}

/// How old an answer may be.
fn max_staleness(asked: Option<prost_types::Duration>) -> Result<Duration, Failure> {
    let wrong = |problem: &str| {
        let field = "read.max_staleness";
        Failure::invalid(
            field,
            format!("max_staleness {problem}: say how old an answer may be"),
        )
    };
    let asked = asked.ok_or_else(|| wrong("is missing"))?;
    duration(asked).map_err(wrong)
}

/// How long the caller of a pipelined request waits. What is no time that anybody could wait for is
/// over already.
#[must_use]
pub fn timeout(asked: Option<prost_types::Duration>) -> Duration {
    asked.map_or(Duration::MAX, |asked| duration(asked).unwrap_or_default())
}

/// Not by prost's conversion: it makes sense of parts that contradict each other, such as 2 s less
/// 1 ns, and overflows on the smallest number of seconds.
fn duration(wire: prost_types::Duration) -> Result<Duration, &'static str> {
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(wire.seconds), u32::try_from(wire.nanos)) else {
        return Err("is negative");
    };
    if nanos >= NANOS_PER_SECOND {
        return Err("has a second or more in nanos");
    }
    Ok(Duration::new(seconds, nanos))
}

fn session(token: &[u8]) -> Result<Level, Failure> {
    let wrong = |problem: String| Failure::invalid("read.session_token", problem);
    if token.is_empty() {
        return Err(wrong(
            "session_token is empty: CONSISTENCY_SESSION needs the token of a write".to_owned(),
        ));
    }
    let bytes = token.len();
    if bytes > SESSION_TOKEN_BYTES_MAX {
        return Err(wrong(format!(
            "session_token has {bytes} bytes: at most {SESSION_TOKEN_BYTES_MAX} are allowed"
        )));
    }
    match Token::parse_all(token) {
        Ok(tokens) => Ok(Level::Session(tokens.into())),
        Err(error) => Err(wrong(format!("session_token is none: {error}"))),
    }
}

/// The slots that a scan walks.
///
/// # Errors
/// [`Failure::Invalid`] unless both ends are slots, in their order.
pub fn slots(range: Option<v1::SlotRange>) -> Result<RangeInclusive<Slot>, Failure> {
    let Some(v1::SlotRange { first, last }) = range else {
        return Ok(Slot::FIRST..=Slot::LAST);
    };
    let slot = |field, number: u32| {
        u16::try_from(number).map(Slot).map_err(|_| {
            let problem = format!("{field} is {number}: slots are 0 to {}", Slot::LAST);
            Failure::invalid(field, problem)
        })
    };
    let slots = slot("slots.first", first)?..=slot("slots.last", last)?;
    if slots.is_empty() {
        let problem = format!(
            "slots.last is {last}: slots.first, which is {first}, to {}",
            Slot::LAST
        );
        return Err(Failure::invalid("slots.last", problem));
    }
    Ok(slots)
}

/// Whole milliseconds to live, rounded up: nothing expires before it was told to.
///
/// # Errors
/// [`Failure::Invalid`] unless it is 1 ms to 100 years.
pub fn ttl_ms(ttl: Option<prost_types::Duration>) -> Result<Option<u64>, Failure> {
    let Some(ttl) = ttl else { return Ok(None) };
    let wrong = || {
        let (seconds, nanos) = (ttl.seconds, ttl.nanos);
        Failure::invalid(
            "ttl",
            format!(
                "ttl is {seconds} s and {nanos} ns: 1 ms to 100 years are allowed; leave it out \
                 for a key that never expires"
            ),
        )
    };
    let duration = duration(ttl).map_err(|_| wrong())?;
    if duration.is_zero() || duration > TTL_MAX {
        return Err(wrong());
    }
    let ms = duration.max(TTL_MIN).as_nanos().div_ceil(1_000_000);
    u64::try_from(ms).map(Some).map_err(|_| wrong())
}

/// A duration as the wire has it, in whole microseconds rounded up: what is said of an age is never
/// less than what is known.
#[must_use]
pub fn wire_duration(duration: Duration) -> prost_types::Duration {
    let micros = duration.as_nanos().div_ceil(1_000);
    prost_types::Duration {
        seconds: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0),
    }
}

/// Milliseconds to live as the wire has them.
#[must_use]
pub fn wire_ttl(ttl_ms: Option<u64>) -> Option<prost_types::Duration> {
    // At most a hundred years: far inside both ranges.
    ttl_ms.map(|ms| prost_types::Duration {
        seconds: i64::try_from(ms / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(ms % 1_000 * 1_000_000).unwrap_or(0),
    })
}
