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

use freehold_core::{Fence, Key};

/// `expires_at` of a row that never expires.
pub(super) const NEVER: i64 = i64::MAX;

/// The database's clock in milliseconds when the statement began: for reads, and for the expiry of
/// a PUT.
pub(super) const NOW: &str = "ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000)";

/// The database's clock when the row is looked at, which is after its lock was waited for.
/// `NOW()` would revive a key that others saw expire meanwhile. (`--sysdate-is-now` would make both
/// the same, so each session checks that they differ.)
pub(super) const NOW_LOCKED: &str = "ROUND(UNIX_TIMESTAMP(SYSDATE(3)) * 1000)";

/// The columns by which a fence is known, and the server that answers.
pub(super) const FENCE: &str = "f.term, f.epoch, f.server_id, f.stamp, @@server_id";

/// What picks the fence's row if it agrees: on this server, the one it names, and at this moment.
pub(super) fn fence_row(stamp: impl Display, server_id: impl Display) -> String {
    format!(
        "FROM shard f WHERE f.id = 1 AND f.stamp = {stamp} AND f.server_id = {server_id} \
         AND f.server_id = @@server_id LOCK IN SHARE MODE"
    )
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

/// The next power of two: the sizes that statements are prepared in.
pub(super) fn prepared_size(rows: usize) -> usize {
    rows.next_power_of_two()
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
    fn sizes_are_powers_of_two() {
        let sizes: Vec<usize> = [1, 2, 3, 4, 5, 64, 65, 128].map(prepared_size).into();
        assert_eq!(sizes, [1, 2, 4, 4, 8, 64, 128, 128]);
    }
}
