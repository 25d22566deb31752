//! Where a stretch of keys begins and ends, and which slots stand side by side. Pure, for both
//! implementations.

use std::{cmp::Ordering, ops::RangeInclusive};

/// The least byte string above every one that begins with `prefix`; `None` if there is none,
/// because the prefix is empty or all `ff`.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// Where a scan of one slot begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScanStart<'a> {
    /// At this key, if there is such a row.
    At(&'a [u8]),
    /// Behind this key.
    Behind(&'a [u8]),
}

impl<'a> ScanStart<'a> {
    /// The later of the prefix's first key and the place behind `after`.
    pub(crate) fn of(prefix: &'a [u8], after: Option<&'a [u8]>) -> Self {
        match after {
            Some(after) if after.cmp(prefix) != Ordering::Less => Self::Behind(after),
            _ => Self::At(prefix),
        }
    }
}

/// Slots in ascending order, as ranges in ascending order.
pub(crate) fn slot_ranges(slots: impl IntoIterator<Item = u16>) -> Vec<RangeInclusive<u16>> {
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for slot in slots {
        match ranges.last_mut() {
            Some(range) if range.end().checked_add(1) == Some(slot) => {
                *range = *range.start()..=slot
            }
            _ => ranges.push(slot..=slot),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_no_longer_key_can_begin_with_it() {
        assert_eq!(prefix_end(b""), None);
        assert_eq!(prefix_end(b"a"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"a\xff\x00"), Some(b"a\xff\x01".to_vec()));
        assert_eq!(prefix_end(b"\xff\xff"), None);
    }

    #[test]
    fn a_scan_starts_at_the_prefix_or_behind_the_cursor_whichever_is_later() {
        assert_eq!(ScanStart::of(b"b", None), ScanStart::At(b"b"));
        assert_eq!(ScanStart::of(b"b", Some(b"a")), ScanStart::At(b"b"));
        assert_eq!(ScanStart::of(b"b", Some(b"b")), ScanStart::Behind(b"b"));
        assert_eq!(ScanStart::of(b"b", Some(b"b1")), ScanStart::Behind(b"b1"));
        assert_eq!(ScanStart::of(b"", Some(b"")), ScanStart::Behind(b""));
    }

    #[test]
    fn neighbouring_slots_make_one_range() {
        assert_eq!(slot_ranges([]), []);
        assert_eq!(
            slot_ranges([0, 1, 2, 7, 65_534, 65_535]),
            [0..=2, 7..=7, 65_534..=65_535]
        );
    }
}
