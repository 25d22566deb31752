//! The text of statements: pure, so that each shape stands in one place with its reasons.
//!
//! Both servers run the same text. Rules that hold for every statement here:
//!
//! - One key is written `slot = ? AND key = ?`, because MariaDB's UPDATE and DELETE scan the whole
//!   table for a row IN of one element (205,729 rows read; 1 this way). SELECT is fine with either.
//! - `FORCE INDEX (PRIMARY)`: without it an UPDATE or DELETE of 16 keys scans a table of 20 rows,
//!   locking all of them.
//! - The fence is a scalar subquery, `(SELECT 1 ...) = 1`: MySQL runs EXISTS in an UPDATE of
//!   several keys as a two-phase plan with a temporary table (450 reads for 192 keys instead of
//!   194).
//! - `LOCK IN SHARE MODE` is the fence: without it, under READ COMMITTED, an UPDATE lets a change
//!   of ownership overtake it. (`FOR SHARE` does not exist on MariaDB.)
//! - Keys stand in texts as `x'..'`, which no character set and no sql_mode can change.

use std::fmt::{Display, Write as _};

use freehold_core::{
    Fence, Key,
    limits::STATEMENT_KEYS_MAX,
    planted::{self, Bug},
};

/// `expires_at` of a row that never expires.
pub(super) const NEVER: i64 = i64::MAX;

/// 64 bits of a row, as hex digits: of its key, version, expiry and the CRC of its value. Versions are
/// unique for each stored write, so two rows of one version and one expiry have the same value unless
/// bits fell. MariaDB 10.11 and MySQL 9.7 come to the same number for the same row. (MD5 would do as
/// well; MySQL has moved it into a component that has to be installed.)
pub(super) const DIGEST: &str = "LEFT(SHA2(CONCAT_WS(',', s.slot, HEX(s.`key`), s.version, \
                                 s.expires_at, CRC32(s.value)), 256), 16)";

/// The database's clock in milliseconds when the statement began: for reads, and for the expiry of
/// a PUT. In whole numbers: `ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000)` is the same in DECIMAL, and both
/// servers work it out again for each row (128 rows on MariaDB: 24.4 microseconds of server CPU for
/// a row of a PUT instead of 21.9, on MySQL within noise).
pub(super) const NOW: &str = "(UNIX_TIMESTAMP() * 1000 + MICROSECOND(NOW(3)) DIV 1000)";

/// [`NOW`] for a read of whatever server: a replica shows nothing that had expired by its master's clock
/// when the beat was written that the replica has, wherever its own clock is. `at` is that beat's time.
pub(super) fn now_anywhere(at: &str) -> String {
    format!("GREATEST({NOW}, IFNULL({at}, 0))")
}

/// Version and milliseconds to live (NULL: for ever) of a live row. The clock is asked only where a
/// row expires at all.
pub(super) fn version_and_ttl(now: &str) -> String {
    format!("s.version, IF(s.expires_at = {NEVER}, NULL, s.expires_at - {now})")
}

/// The database's clock when the row is looked at, which is after its lock was waited for.
/// `NOW()` would revive a key that others saw expire meanwhile. (`--sysdate-is-now` would make both
/// the same, so each session checks that they differ.)
pub(super) const NOW_LOCKED: &str = "ROUND(UNIX_TIMESTAMP(SYSDATE(3)) * 1000)";

/// The columns by which a fence is known, and the server that answers.
pub(super) const FENCE: &str = "f.term, f.epoch, f.server_id, f.stamp, @@server_id";

/// What is true of the fence's row if it agrees: on this server, the one it names, and at this
/// moment, and while it is open for writes. A master is closed before another one is opened, so what
/// it answers from then on may be old; and an account that `read_only` does not hold would go on
/// writing there.
pub(super) fn fence_agrees(stamp: impl Display, server_id: impl Display) -> String {
    format!("{} AND @@read_only = 0", fence_shows(stamp, server_id))
}

/// The same, whether or not the server is open.
pub(super) fn fence_shows(stamp: impl Display, server_id: impl Display) -> String {
    format!(
        "f.id = 1 AND f.stamp = {stamp} AND f.server_id = {server_id} \
         AND f.server_id = @@server_id"
    )
}

/// What picks the fence's row for a write, if it agrees.
pub(super) fn fence_row(stamp: impl Display, server_id: impl Display) -> String {
    if planted::is(Bug::FenceReadApart) {
        return format!("FROM DUAL WHERE {stamp} IS NOT NULL AND {server_id} IS NOT NULL");
    }
    let lock = if planted::is(Bug::NoLockClause) {
        ""
    } else {
        "LOCK IN SHARE MODE"
    };
    let agrees = fence_agrees(stamp, server_id);
    format!("FROM shard f WHERE {agrees} {lock}")
}

/// The fence's proof in an UPDATE or DELETE.
pub(super) fn fence_holds(fence: &Fence) -> String {
    format!("(SELECT 1 {}) = 1", fence_row(fence.stamp, fence.server_id))
}

/// Bytes as a literal; `x''` is the empty string.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2 + 3);
    text.push_str("x'");
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\'');
    text
}

/// The bytes of what `HEX()` printed.
pub(super) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(nibble(*high)? << 4 | nibble(*low)?).ok(),
        _ => None,
    };
    text.chunks(2).map(byte).collect()
}

/// The condition that picks exactly these keys. `table` is empty, or an alias with its dot.
pub(super) fn keys_are(table: &str, keys: &[Key]) -> String {
    match keys {
        [] => "FALSE".to_owned(),
        [key] => format!(
            "{table}slot = {} AND {table}`key` = {}",
            key.slot(),
            hex(key.bytes())
        ),
        keys => {
            let rows: Vec<String> = keys
                .iter()
                .map(|key| format!("({},{})", key.slot(), hex(key.bytes())))
                .collect();
            format!("({table}slot, {table}`key`) IN ({})", rows.join(","))
        }
    }
}

/// Sizes above this are its multiples.
const SIZE_STEP: usize = 16;

/// How many sizes there are: 1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128.
pub(super) const SIZES: usize = SIZE_STEP.ilog2() as usize + STATEMENT_KEYS_MAX / SIZE_STEP;

/// The size of the statement that takes so many rows: the next power of two, or above 16 the next
/// multiple of 16.
pub(super) fn prepared_size(rows: usize) -> usize {
    rows.next_power_of_two()
        .min(rows.next_multiple_of(SIZE_STEP))
}

/// The place of a size among all of them.
pub(super) fn size_index(size: usize) -> usize {
    match size / SIZE_STEP {
        0 => size.ilog2() as usize,
        steps => SIZE_STEP.ilog2() as usize + steps - 1,
    }
}

/// The largest size that so many rows fill.
pub(super) fn filled_size(rows: usize) -> usize {
    match rows / SIZE_STEP {
        0 => 1 << rows.ilog2(),
        steps => steps * SIZE_STEP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> Key {
        Key::new(bytes.to_vec()).unwrap()
    }

    #[test]
    fn bytes_survive_the_way_into_a_literal_and_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        let literal = hex(&bytes);
        assert_eq!(
            unhex(&literal.as_bytes()[2..literal.len() - 1]),
            Some(bytes)
        );
        assert_eq!(hex(b""), "x''");
        assert_eq!(unhex(b"00FFab"), Some(vec![0, 255, 171]));
        assert_eq!(unhex(b"0"), None);
        assert_eq!(unhex(b"0g"), None);
    }

    #[test]
    fn one_key_is_never_written_as_a_list() {
        assert_eq!(
            keys_are("s.", &[key(b"a")]),
            "s.slot = 59078 AND s.`key` = x'61'"
        );
        assert_eq!(
            keys_are("", &[key(b"a"), key(b"{a")]),
            "(slot, `key`) IN ((59078,x'61'),(58537,x'7b61'))"
        );
    }

    #[test]
    fn every_number_of_rows_has_a_size() {
        let sizes: Vec<usize> = [1, 2, 3, 5, 16, 17, 64, 65, 113, 128]
            .map(prepared_size)
            .into();
        assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 80, 128, 128]);
        let filled: Vec<usize> = [1, 3, 15, 16, 31, 47, 128].map(filled_size).into();
        assert_eq!(filled, [1, 2, 8, 16, 16, 32, 128]);
        let mut indexes: Vec<usize> = (1..=128)
            .map(|rows| size_index(prepared_size(rows)))
            .collect();
        indexes.dedup();
        assert_eq!(indexes, (0..SIZES).collect::<Vec<_>>());
    }
}
