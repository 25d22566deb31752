//! Times to live as people and programs write them.
//!
//! A string is `30s`, `1h30m`, `500ms`, `7 days`; a number is seconds, with a fraction if need be.
//! An export writes numbers with three decimals, which hold every time to live to the millisecond.

use std::time::Duration;

use freehold_core::limits::{TTL_MAX, TTL_MIN};

/// A time to live of a command line or a string in a file.
pub(crate) fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text)
        .map_err(|error| format!("{error}: write 30s, 1h30m or 500ms"))?;
    check(ttl)
}

/// A duration of a command line that is no time to live.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}: write 5s, 2m or 500ms"))
}

/// A time to live as seconds.
pub(crate) fn ttl_of_seconds(seconds: f64) -> Result<Duration, String> {
    let milliseconds = (seconds * 1_000.0).round();
    // Exact: 100 years are 3.2e12 ms, far below 2^53.
    if !(TTL_MIN.as_millis() as f64..=TTL_MAX.as_millis() as f64).contains(&milliseconds) {
        return Err(limits(&seconds.to_string()));
    }
    Ok(Duration::from_millis(milliseconds as u64))
}

/// The seconds of a time to live.
pub(crate) fn seconds_of_ttl(ttl: Duration) -> f64 {
    ttl.as_millis() as f64 / 1_000.0
}

fn check(ttl: Duration) -> Result<Duration, String> {
    if (TTL_MIN..=TTL_MAX).contains(&ttl) {
        return Ok(ttl);
    }
    Err(limits(&humantime::format_duration(ttl).to_string()))
}

fn limits(given: &str) -> String {
    format!("ttl is {given}: use 1ms to 100 years")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn people_write_durations_with_units() {
        assert_eq!(parse_ttl("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_ttl("500ms"), Ok(Duration::from_millis(500)));
        let error = parse_ttl("30").unwrap_err();
        assert!(error.contains("write 30s"), "{error}");
    }

    #[test]
    fn a_time_to_live_has_limits_that_are_named() {
        for bad in ["0s", "101years"] {
            let error = parse_ttl(bad).unwrap_err();
            assert!(error.contains("1ms to 100 years"), "{error}");
        }
        for bad in [0.0, -1.0, 0.0001, f64::MAX] {
            assert!(
                ttl_of_seconds(bad)
                    .unwrap_err()
                    .contains("1ms to 100 years"),
                "{bad}"
            );
        }
    }

    proptest! {
        /// What an export writes is what an import reads.
        #[test]
        fn seconds_hold_every_millisecond(milliseconds in 1_u64..=3_155_760_000_000) {
            let ttl = Duration::from_millis(milliseconds);
            let text = serde_json::to_string(&seconds_of_ttl(ttl)).unwrap();
            let seconds: f64 = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(ttl_of_seconds(seconds), Ok(ttl));
        }
    }
}
