//! Pages of a scan: the fence and a range of the primary key, in one statement.
//!
//! `FROM shard f LEFT JOIN store ... ORDER BY ... LIMIT 10` reads the whole range into a temporary
//! table (205,000 rows), so the fence comes as a row of its own through UNION ALL. The range is
//! never written as `(slot, key) > (?, ?)`, which both servers scan from the beginning of the
//! index.

use std::ops::RangeInclusive;

use freehold_core::{Key, Slot};

use super::{
    decode::{ShownFence, column, live_row},
    error::unexpected,
    read::no_fence,
    session::{Answer, Session, query},
    statements::{FENCE, NOW, hex, version_and_ttl},
};
use crate::{
    error::StorageError,
    range::{ScanStart, prefix_end, slot_ranges},
    row::{Columns, ScanPage, ScanRange},
};

/// The statement for a range. It asks for one row more than fits, which shows whether the range
/// goes on.
pub(super) fn text(range: &ScanRange) -> String {
    let value = match range.columns {
        Columns::Expiry => "NULL, 0".to_owned(),
        Columns::Value { bytes_max } => {
            format!("IF(LENGTH(s.value) <= {bytes_max}, s.value, NULL), LENGTH(s.value)")
        }
    };
    format!(
        "(SELECT {FENCE}, NULL, NULL, NULL, NULL, NULL \
         FROM shard f WHERE f.id = 1) UNION ALL \
         (SELECT NULL, NULL, NULL, NULL, NULL, s.`key`, {value}, {} \
         FROM store s FORCE INDEX (PRIMARY) WHERE {} AND s.expires_at > {NOW} \
         ORDER BY s.slot, s.`key` LIMIT {})",
        version_and_ttl(),
        stretch(range),
        range.rows_max.saturating_add(1)
    )
}

/// The condition that picks the range's rows.
fn stretch(range: &ScanRange) -> String {
    let end = prefix_end(&range.prefix);
    let Some((first, rest)) = range.slots.split_first() else {
        return "FALSE".to_owned();
    };
    let Some(after) = &range.after else {
        return in_slots(&range.slots, &range.prefix, end.as_deref());
    };
    let begin = match ScanStart::of(&range.prefix, Some(after)) {
        ScanStart::At(key) => format!(" AND s.`key` >= {}", hex(key)),
        ScanStart::Behind(key) => format!(" AND s.`key` > {}", hex(key)),
    };
    let in_first = format!("s.slot = {first}{begin}{}", below(end.as_deref()));
    if rest.is_empty() {
        return in_first;
    }
    let in_rest = in_slots(rest, &range.prefix, end.as_deref());
    format!("(({in_first}) OR ({in_rest}))")
}

fn in_slots(slots: &[Slot], prefix: &[u8], end: Option<&[u8]>) -> String {
    if prefix.is_empty() {
        // Slots that lie side by side are one range: one seek instead of one per slot. A single
        // slot is never a range: for `BETWEEN 7 AND 7` MariaDB sorts the whole slot.
        let between = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
            (first, last) if first == last => format!("s.slot = {first}"),
            (first, last) => format!("s.slot BETWEEN {first} AND {last}"),
        };
        let ranges = slot_ranges(slots.iter().map(|slot| slot.0));
        let ranges: Vec<String> = ranges.iter().map(between).collect();
        return format!("({})", ranges.join(" OR "));
    }
    let slots: Vec<String> = slots.iter().map(Slot::to_string).collect();
    let slots = slots.join(",");
    format!(
        "s.slot IN ({slots}) AND s.`key` >= {}{}",
        hex(prefix),
        below(end)
    )
}

fn below(end: Option<&[u8]>) -> String {
    end.map(|end| format!(" AND s.`key` < {}", hex(end)))
        .unwrap_or_default()
}

pub(super) async fn scan(
    session: &mut Session,
    range: &ScanRange,
) -> Result<ScanPage, StorageError> {
    debug_assert!(
        range.slots.is_sorted_by(|a, b| a < b),
        "each slot once, in order"
    );
    let answer = query(&mut session.conn, text(range))
        .await
        .map_err(|failure| failure.of_read())?;
    decode(range, answer)
}

fn decode(range: &ScanRange, answer: Answer) -> Result<ScanPage, StorageError> {
    let mut shown = None;
    let mut rows = Vec::with_capacity(answer.rows.len());
    for mut row in answer.rows {
        let key: Option<Vec<u8>> = column(&mut row, 5, "a key")?;
        match key {
            // SQL does not promise that the fence's row comes first, so it is known by having no
            // key. (It does come first, on both servers.)
            None => shown = Some(ShownFence::decode(&mut row, 0)?),
            Some(key) => {
                let key = Key::new(key).map_err(|_| unexpected("a key"))?;
                rows.push((key, row));
            }
        }
    }
    let ShownFence { fence, answered_by } = shown.ok_or_else(no_fence)?;
    let complete = rows.len() <= range.rows_max;
    rows.truncate(range.rows_max);
    let live = |(key, mut row)| Ok((key, live_row(&mut row, 6, range.columns)?));
    Ok(ScanPage {
        fence,
        answered_by,
        rows: rows
            .into_iter()
            .map(live)
            .collect::<Result<_, StorageError>>()?,
        complete,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(slots: &[u16], prefix: &'static str, after: Option<&'static str>) -> ScanRange {
        ScanRange {
            slots: slots.iter().copied().map(Slot).collect(),
            prefix: prefix.into(),
            after: after.map(Into::into),
            rows_max: 10,
            columns: Columns::Expiry,
        }
    }

    #[test]
    fn a_range_begins_behind_its_cursor_in_the_first_slot_alone() {
        let cases = [
            (range(&[1, 2, 3], "", None), "(s.slot BETWEEN 1 AND 3)"),
            (
                range(&[1, 2, 9], "", None),
                "(s.slot BETWEEN 1 AND 2 OR s.slot = 9)",
            ),
            (range(&[1], "", Some("a")), "s.slot = 1 AND s.`key` > x'61'"),
            (
                range(&[1, 2], "", Some("a")),
                "((s.slot = 1 AND s.`key` > x'61') OR ((s.slot = 2)))",
            ),
            (
                range(&[1, 3], "a", None),
                "s.slot IN (1,3) AND s.`key` >= x'61' AND s.`key` < x'62'",
            ),
            (
                range(&[1, 3], "a", Some("ab")),
                "((s.slot = 1 AND s.`key` > x'6162' AND s.`key` < x'62') \
                 OR (s.slot IN (3) AND s.`key` >= x'61' AND s.`key` < x'62'))",
            ),
            (
                range(&[1], "b", Some("a")),
                "s.slot = 1 AND s.`key` >= x'62' AND s.`key` < x'63'",
            ),
        ];
        for (range, expected) in cases {
            assert_eq!(stretch(&range), expected);
        }
    }

    #[test]
    fn one_row_more_than_fits_is_asked_for() {
        assert!(text(&range(&[1], "", None)).ends_with("LIMIT 11)"));
    }
}
