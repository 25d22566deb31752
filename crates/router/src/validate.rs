//! From the wire to an operation: every limit is checked here, and nothing that breaks one reaches
//! a queue.

use std::time::Duration;

use bytes::Bytes;
use freehold_core::{
    Key,
    limits::{TTL_MAX, TTL_MIN, VALUE_BYTES_MAX},
};
use freehold_proto::v1;
use freehold_storage::{ExpireRow, PutRow};

use crate::{
    failure::Failure,
    request::{Level, Operation},
};

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
        let key = Key::new(request.key)?;
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
        Ok(Operation::Put(PutRow {
            key,
            value: request.value,
            version,
            ttl_ms,
        }))
    }
}

/// A GET and who may answer it.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::Unimplemented`].
pub fn get(request: v1::GetRequest) -> Result<(Operation, Level), Failure> {
    let level = level(request.read.as_ref())?;
    Ok((Operation::Get(Key::new(request.key)?), level))
}

/// A TTL and who may answer it.
///
/// # Errors
/// [`Failure::Invalid`], [`Failure::Unimplemented`].
pub fn ttl(request: v1::TtlRequest) -> Result<(Operation, Level), Failure> {
    let level = level(request.read.as_ref())?;
    Ok((Operation::Ttl(Key::new(request.key)?), level))
}

/// A DELETE.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn delete(key: Bytes) -> Result<Operation, Failure> {
    Ok(Operation::Delete(Key::new(key)?))
}

/// An EXPIRE.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn expire(request: v1::ExpireRequest) -> Result<Operation, Failure> {
    let key = Key::new(request.key)?;
    Ok(Operation::Expire(ExpireRow {
        key,
        ttl_ms: ttl_ms(request.ttl)?,
    }))
}

/// Who may answer a read.
///
/// # Errors
/// [`Failure::Invalid`] where the options contradict each other, [`Failure::Unimplemented`] for the
/// finer levels.
pub fn level(read: Option<&v1::ReadOptions>) -> Result<Level, Failure> {
    let Some(read) = read else {
        return Ok(Level::Strong);
    };
    let Ok(consistency) = v1::Consistency::try_from(read.consistency) else {
        return Err(Failure::invalid(
            "read.consistency",
            format!(
                "consistency {} is not known: use STRONG or EVENTUAL",
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
        v1::Consistency::BoundedStaleness => Err(Failure::Unimplemented(
            "BOUNDED_STALENESS is not there yet: use STRONG or EVENTUAL",
        )),
        v1::Consistency::Session => Err(Failure::Unimplemented(
            "SESSION is not there yet: use STRONG or EVENTUAL",
        )),
    }
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
    // Not by prost's conversion: it makes sense of parts that contradict each other, such as 2 s
    // less 1 ns, and overflows on the smallest number of seconds.
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(ttl.seconds), u32::try_from(ttl.nanos)) else {
        return Err(wrong());
    };
    if nanos >= NANOS_PER_SECOND {
        return Err(wrong());
    }
    let duration = Duration::new(seconds, nanos);
    if duration.is_zero() || duration > TTL_MAX {
        return Err(wrong());
    }
    let ms = duration.max(TTL_MIN).as_nanos().div_ceil(1_000_000);
    u64::try_from(ms).map(Some).map_err(|_| wrong())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ttl_of(seconds: i64, nanos: i32) -> Result<Option<u64>, Failure> {
        ttl_ms(Some(prost_types::Duration { seconds, nanos }))
    }

    #[test]
    fn a_ttl_is_1_ms_to_100_years_rounded_up() {
        assert_eq!(ttl_ms(None), Ok(None));
        assert_eq!(ttl_of(0, 1), Ok(Some(1)));
        assert_eq!(ttl_of(0, 1_000_001), Ok(Some(2)));
        let longest = i64::try_from(TTL_MAX.as_secs()).unwrap();
        assert_eq!(ttl_of(longest, 0), Ok(Some(3_155_760_000_000)));
        let contradictory = [(2, -1), (-1, 2), (1, 1_000_000_000), (1, i32::MAX)];
        let outside = [
            (0, 0),
            (-1, 0),
            (0, -1),
            (longest, 1),
            (i64::MAX, 0),
            (i64::MIN, 0),
        ];
        for (seconds, nanos) in outside.into_iter().chain(contradictory) {
            let failure = ttl_of(seconds, nanos).unwrap_err();
            assert!(
                matches!(failure, Failure::Invalid { field: "ttl", .. }),
                "{failure}"
            );
        }
    }

    #[test]
    fn values_up_to_the_limit_are_taken() {
        let put = |bytes| {
            let value = Bytes::from(vec![0; bytes]);
            Validator::new(10).put(
                v1::PutRequest {
                    key: "k".into(),
                    value,
                    ttl: None,
                },
                1,
            )
        };
        assert!(put(0).is_ok() && put(9).is_ok() && put(10).is_ok());
        assert!(put(11).unwrap_err().to_string().contains("11 bytes"));
    }

    #[test]
    fn options_that_contradict_the_level_are_refused() {
        let options = |consistency: v1::Consistency, session_token: &'static str| {
            let session_token = Bytes::from(session_token);
            level(Some(&v1::ReadOptions {
                consistency: consistency.into(),
                max_staleness: None,
                session_token,
            }))
        };
        assert_eq!(options(v1::Consistency::Eventual, ""), Ok(Level::Eventual));
        assert!(matches!(
            options(v1::Consistency::Strong, "t"),
            Err(Failure::Invalid { .. })
        ));
        assert!(matches!(
            options(v1::Consistency::Session, "t"),
            Err(Failure::Unimplemented(_))
        ));
    }
}
