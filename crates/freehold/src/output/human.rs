//! Numbers, sizes and times as people read them.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};

/// `65,536`.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// `1.00 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    HumanBytes(number).to_string()
}

/// `1h 30m`, as fine as it matters: milliseconds below a minute, seconds below a day, minutes
/// above.
pub(crate) fn duration(duration: Duration) -> String {
    const MINUTE: u64 = 60;
    const DAY: u64 = 24 * 60 * MINUTE;
    let seconds = duration.as_secs();
    let shown = match seconds {
        0..MINUTE => Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(0)),
        MINUTE..DAY => Duration::from_secs(seconds),
        _ => Duration::from_secs(seconds - seconds % MINUTE),
    };
    humantime::format_duration(shown).to_string()
}

/// A time to live; `None` is for ever.
pub(crate) fn ttl(ttl: Option<Duration>) -> String {
    ttl.map_or_else(|| "never expires".to_owned(), duration)
}

/// A version: unique, without order, so for comparing only.
pub(crate) fn version(version: u64) -> String {
    format!("{version:016x}")
}

/// `1 key`, `2 keys`.
pub(crate) fn plural(number: u64, one: &str) -> String {
    format!(
        "{} {one}{}",
        count(number),
        if number == 1 { "" } else { "s" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_fine_as_it_matters() {
        for (milliseconds, shown) in [
            (1, "1ms"),
            (29_999, "29s 999ms"),
            (90_500, "1m 30s"),
            (5_400_000, "1h 30m"),
            (86_400_000 + 61_000, "1day 1m"),
        ] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), shown);
        }
        assert_eq!(ttl(None), "never expires");
    }

    #[test]
    fn sizes_and_counts_have_units_and_commas() {
        assert_eq!(bytes(1 << 20), "1.00 MiB");
        assert_eq!(bytes(12), "12 B");
        assert_eq!(count(65_536), "65,536");
        assert_eq!(plural(1, "key"), "1 key");
        assert_eq!(plural(2_000, "row"), "2,000 rows");
    }
}
