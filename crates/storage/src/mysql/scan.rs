//! Pages of a scan: the fence and a range of the primary key, in one statement.
//!
//! `FROM shard f LEFT JOIN store ... ORDER BY ... LIMIT 10` reads the whole range into a temporary
//! table (205,000 rows), so the fence comes as a row of its own through UNION ALL, with the
//! heartbeat in two columns that other rows have for something else. The range is
//! never written as `(slot, key) > (?, ?)`, which both servers scan from the beginning of the
//! index.
//!
//! Where the fence is known, it is a condition: a UNION makes every number a DECIMAL and every row
//! one of a temporary table. No row then means one of two things, and the UNION tells which. The
//! usual scan, of one slot, is prepared.

use std::{fmt::Display, ops::RangeInclusive};

use freehold_core::{Beat, Fence, Key, Slot};
use mysql_async::{Params, Row, Value};

use super::{
    closed::refuse_if_closed,
    decode::{ShownFence, column, live_row},
    error::unexpected,
    read::no_fence,
    session::{Answer, Failure, Session, execute, kept, query},
    statements::{FENCE, NOW, fence_agrees, hex, now_anywhere, version_and_ttl},
    watch::beat,
};
use crate::{
    error::StorageError,
    range::{ScanStart, prefix_end, slot_ranges},
    row::{Columns, ScanPage, ScanRange},
};

/// A value that is not too long, and else its length.
fn value(columns: Columns) -> String {
    match columns {
        Columns::Expiry => "NULL, 0".to_owned(),
        Columns::Value { bytes_max } => value_up_to(bytes_max),
    }
}

fn value_up_to(bytes_max: impl Display) -> String {
    format!("IF(LENGTH(s.value) <= {bytes_max}, s.value, NULL), LENGTH(s.value)")
}

/// The rows of a stretch under a fence.
fn rows_text(value: &str, stretch: &str, fence: &str, limit: impl Display) -> String {
    format!(
        "SELECT s.`key`, {value}, {} FROM store s FORCE INDEX (PRIMARY) WHERE {stretch} \
         AND s.expires_at > {NOW} AND (SELECT 1 FROM shard f WHERE {fence}) = 1 \
         ORDER BY s.slot, s.`key` LIMIT {limit}",
        version_and_ttl(NOW)
    )
}

/// The statement for a range.
pub(super) fn text(range: &ScanRange) -> String {
    let value = value(range.columns);
    let now = now_anywhere("(SELECT h.written_at FROM heartbeat h WHERE h.id = 1)");
    format!(
        "(SELECT {FENCE}, NULL, NULL, NULL, h.term, h.seq \
         FROM shard f LEFT JOIN heartbeat h ON h.id = 1 WHERE f.id = 1) UNION ALL \
         (SELECT NULL, NULL, NULL, NULL, NULL, s.`key`, {value}, {} \
         FROM store s FORCE INDEX (PRIMARY) WHERE {} AND s.expires_at > {now} \
         ORDER BY s.slot, s.`key` LIMIT {})",
        version_and_ttl(&now),
        stretch(range),
        limit(range)
    )
}

/// One row more than fits, which shows whether the range goes on.
fn limit(range: &ScanRange) -> usize {
    range.rows_max.saturating_add(1)
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

/// The page, if the server shows this fence.
pub(super) async fn scan_under(
    session: &mut Session,
    fence: &Fence,
    range: &ScanRange,
) -> Result<Option<ScanPage>, StorageError> {
    let answer = match OneSlot::of(range) {
        Some(one) => one.ask(session, fence, range).await,
        None => query(&mut session.conn, text_under(fence, range)).await,
    };
    let answer = answer.map_err(|failure| failure.of_read())?;
    if answer.rows.is_empty() {
        let page = scan(session, range).await?;
        // After the page: it was open while that was read.
        refuse_if_closed(session, fence).await?;
        let shown = ShownFence {
            fence: page.fence,
            answered_by: page.answered_by,
        };
        return Ok(shown.lets_through(fence).then_some(page));
    }
    let key = |row: &mut Row| {
        Key::new(column::<Vec<u8>>(row, 0, "a key")?).map_err(|_| unexpected("a key"))
    };
    let rows = answer
        .rows
        .into_iter()
        .map(|mut row| Ok((key(&mut row)?, row)));
    let rows: Vec<_> = rows.collect::<Result<_, StorageError>>()?;
    let shown = ShownFence {
        fence: *fence,
        answered_by: fence.server_id,
    };
    page(range, shown, None, rows, 1).map(Some)
}

fn text_under(fence: &Fence, range: &ScanRange) -> String {
    let fence = fence_agrees(fence.stamp, fence.server_id);
    rows_text(&value(range.columns), &stretch(range), &fence, limit(range))
}

/// A range within one slot, from one key to below another.
struct OneSlot<'a> {
    bytes_max: usize,
    slot: Slot,
    begin: ScanStart<'a>,
    end: Vec<u8>,
}

impl<'a> OneSlot<'a> {
    fn of(range: &'a ScanRange) -> Option<Self> {
        let (Columns::Value { bytes_max }, [slot]) = (range.columns, &*range.slots) else {
            return None;
        };
        Some(Self {
            bytes_max,
            slot: *slot,
            begin: ScanStart::of(&range.prefix, range.after.as_deref()),
            end: prefix_end(&range.prefix)?,
        })
    }

    fn text(&self) -> String {
        let begins = match self.begin {
            ScanStart::At(_) => ">=",
            ScanStart::Behind(_) => ">",
        };
        let stretch = format!("s.slot = ? AND s.`key` {begins} ? AND s.`key` < ?");
        rows_text(&value_up_to("?"), &stretch, &fence_agrees("?", "?"), "?")
    }

    async fn ask(
        &self,
        session: &mut Session,
        fence: &Fence,
        range: &ScanRange,
    ) -> Result<Answer, Failure> {
        let (place, begin) = match self.begin {
            ScanStart::At(key) => (0, key),
            ScanStart::Behind(key) => (1, key),
        };
        let place = &mut session.prepared.scan_under[place];
        let Some(statement) = kept(&mut session.conn, place, || self.text()).await? else {
            return query(&mut session.conn, text_under(fence, range)).await;
        };
        let params = vec![
            Value::UInt(self.bytes_max as u64),
            Value::UInt(self.slot.0.into()),
            Value::Bytes(begin.to_vec()),
            Value::Bytes(self.end.clone()),
            Value::UInt(fence.stamp),
            Value::UInt(fence.server_id),
            Value::UInt(limit(range) as u64),
        ];
        execute(&mut session.conn, statement, Params::Positional(params)).await
    }
}

fn decode(range: &ScanRange, answer: Answer) -> Result<ScanPage, StorageError> {
    let mut shown = None;
    let mut shown_beat = Beat { term: 0, seq: 0 };
    let mut rows = Vec::with_capacity(answer.rows.len());
    for mut row in answer.rows {
        let key: Option<Vec<u8>> = column(&mut row, 5, "a key")?;
        match key {
            // SQL does not promise that the fence's row comes first, so it is known by having no
            // key. (It does come first, on both servers.)
            None => {
                shown = Some(ShownFence::decode(&mut row, 0)?);
                shown_beat = beat(&mut row, 8)?;
            }
            Some(key) => {
                let key = Key::new(key).map_err(|_| unexpected("a key"))?;
                rows.push((key, row));
            }
        }
    }
    page(
        range,
        shown.ok_or_else(no_fence)?,
        Some(shown_beat),
        rows,
        6,
    )
}

/// The page of these rows, whose values begin at column `first`.
fn page(
    range: &ScanRange,
    shown: ShownFence,
    beat: Option<Beat>,
    mut rows: Vec<(Key, Row)>,
    first: usize,
) -> Result<ScanPage, StorageError> {
    let complete = rows.len() <= range.rows_max;
    rows.truncate(range.rows_max);
    let live = |(key, mut row)| Ok((key, live_row(&mut row, first, range.columns)?));
    Ok(ScanPage {
        fence: shown.fence,
        answered_by: shown.answered_by,
        beat,
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
    fn a_prefix_in_one_slot_is_prepared() {
        let mut one = range(&[1], "a", None);
        assert!(
            OneSlot::of(&one).is_none(),
            "nothing of values is asked for"
        );
        one.columns = Columns::Value { bytes_max: 9 };
        let begins = OneSlot::of(&one).map(|one| one.text()).unwrap();
        assert!(begins.contains("s.`key` >= ?"), "{begins}");
        assert_eq!(begins.matches('?').count(), 7);
        one.after = Some("ab".into());
        let goes_on = OneSlot::of(&one).map(|one| one.text()).unwrap();
        assert!(goes_on.contains("s.`key` > ?"), "{goes_on}");
        for other in [range(&[1, 2], "a", None), range(&[1], "", None)] {
            assert!(OneSlot::of(&other).is_none());
        }
    }

    #[test]
    fn one_row_more_than_fits_is_asked_for() {
        assert!(text(&range(&[1], "", None)).ends_with("LIMIT 11)"));
    }
}
