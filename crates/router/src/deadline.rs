//! When a request must have its ending.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// The part of a caller's timeout that is kept for the answer's way back.
const MARGIN_SHARE: u32 = 10;

/// The least that is kept: a lane looks at deadlines every 5 ms.
const MARGIN_MIN: Duration = Duration::from_millis(10);

/// The most that is kept: on a machine with a queue at its cores an answer takes tens of milliseconds.
const MARGIN_MAX: Duration = Duration::from_millis(100);

/// How long the router may take: the caller's `grpc-timeout` less a margin, at most `longest`.
#[must_use]
pub fn time_allowed(metadata: &MetadataMap, longest: Duration) -> Duration {
    let asked = metadata
        .get("grpc-timeout")
        .and_then(|value| parse(value.to_str().ok()?));
    asked.map_or(longest, |timeout| less_margin(timeout).min(longest))
}

/// What a caller's timeout leaves when the answer's way back is taken off.
#[must_use]
pub fn less_margin(timeout: Duration) -> Duration {
    let margin = (timeout / MARGIN_SHARE).clamp(MARGIN_MIN, MARGIN_MAX);
    timeout.saturating_sub(margin)
}

/// The gRPC wire format: at most 8 digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(timeout: &str) -> Duration {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", timeout.parse().unwrap());
        time_allowed(&metadata, Duration::from_secs(5))
    }

    #[test]
    fn the_answer_has_a_margin_to_arrive_in() {
        assert_eq!(allowed("1S"), Duration::from_millis(900));
        assert_eq!(allowed("200m"), Duration::from_millis(180));
        assert_eq!(allowed("50m"), Duration::from_millis(40));
        assert_eq!(allowed("5m"), Duration::ZERO);
    }

    #[test]
    fn without_a_timeout_or_with_a_longer_one_the_config_decides() {
        assert_eq!(allowed("1H"), Duration::from_secs(5));
        for malformed in ["", "S", "123456789S", "1x", "-1S", "1.5S"] {
            let parsed = parse(malformed);
            assert_eq!(parsed, None, "{malformed}");
        }
        let none = time_allowed(&MetadataMap::new(), Duration::from_secs(5));
        assert_eq!(none, Duration::from_secs(5));
    }
}
