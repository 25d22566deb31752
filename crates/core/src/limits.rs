//! Every limit that is not a matter of taste, with its unit in its name.
//!
//! What an operator may change stands in the config and is bounded by these.

use std::{ops::RangeInclusive, time::Duration};

/// Bytes in a key: the width of the `key` column.
pub const KEY_BYTES_MAX: usize = 1_024;

/// Bytes in a value, unless the config says otherwise.
pub const VALUE_BYTES_MAX_DEFAULT: usize = 1 << 20;

/// Bytes in a value, whatever the config says: just below MEDIUMBLOB's 16 MiB.
pub const VALUE_BYTES_MAX: usize = 15 << 20;

/// Items in one batch request.
pub const BATCH_ITEMS_MAX: usize = 1_000;

/// Bytes of keys and values in one batch request.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// Rows in one page of a scan.
pub const PAGE_ROWS_MAX: usize = 1_000;

/// Bytes in one page of a scan, and in one batch response, unless a single value is larger.
/// gRPC clients accept 4 MiB by default.
pub const RESPONSE_BYTES_MAX: usize = 3 << 20;

/// Bytes in a scan's prefix: a longer one could match no key.
pub const PREFIX_BYTES_MAX: usize = KEY_BYTES_MAX;

/// Shortest time to live.
pub const TTL_MIN: Duration = Duration::from_millis(1);

/// Longest time to live: 100 years of 365.25 days.
pub const TTL_MAX: Duration = Duration::from_secs(100 * 31_557_600);

/// Keys in one statement of a lane. Between 64 and 128 keys a batch stops getting cheaper per key.
pub const STATEMENT_KEYS_MAX: usize = 128;

/// Bytes of keys and values in one statement of a lane, unless a single row is larger.
pub const STATEMENT_BYTES_MAX: usize = 4 << 20;

/// Bytes of values that one read statement may bring into memory, unless a single value is larger.
pub const FETCH_BYTES_MAX: usize = 8 << 20;

/// Slots that one statement of a scan looks at.
pub const SCAN_SLOTS_MAX: usize = 256;

/// How long a statement waits for one row's lock before the database turns it down.
pub const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// What an answer may take besides [`LOCK_WAIT_MAX`]: MySQL counts lock waits in whole seconds.
pub const LOCK_WAIT_MARGIN: Duration = Duration::from_secs(1);

/// The shortest time that a write may be given for its answer: one wait for a lock at its longest,
/// and half a second to send the parts of a write that fits no single packet.
pub const STATEMENT_TIMEOUT_MIN: Duration = Duration::from_millis(3_500);

/// How far the clocks of two servers may be apart before `init` refuses a master, and `doctor` any
/// server.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(5);

/// Bytes of a session token in a read, which may be of several shards: some 60 of each.
pub const SESSION_TOKEN_BYTES_MAX: usize = 64 << 10;

/// Shards in one cluster: a route keeps the shard's number in 16 bits.
pub const SHARDS_MAX: usize = 10_000;

/// How many times as long as without the mover small writes may take. Below it, a mover would always
/// rest.
pub const MOVER_LATENCY_FACTORS: RangeInclusive<f64> = 1.05..=100.0;

/// Bytes that a mover may be allowed to copy per second: nothing copies faster.
pub const MOVER_BYTES_PER_SECOND_MAX: u64 = 1 << 40;

/// Moves that have ended and that a shard still shows: a few hundred bytes each, and as many are looked
/// through for those that are open.
pub const MOVES_KEPT_MAX: usize = 1_000;

const _: () = {
    assert!(VALUE_BYTES_MAX_DEFAULT <= VALUE_BYTES_MAX);
    assert!(
        VALUE_BYTES_MAX + KEY_BYTES_MAX < 16 << 20,
        "a row must fit one 16 MiB protocol packet"
    );
    assert!(
        STATEMENT_KEYS_MAX.is_power_of_two(),
        "statements are prepared for powers of two and multiples of 16"
    );
    assert!(
        STATEMENT_TIMEOUT_MIN.as_millis()
            > LOCK_WAIT_MAX.as_millis() + LOCK_WAIT_MARGIN.as_millis(),
        "a write of several parts has time for more than its first one"
    );
    assert!(SCAN_SLOTS_MAX.is_power_of_two());
    assert!(BATCH_BYTES_MAX >= STATEMENT_BYTES_MAX);
    assert!(
        RESPONSE_BYTES_MAX < 4 << 20,
        "gRPC clients accept 4 MiB by default"
    );
    assert!(SHARDS_MAX < u16::MAX as usize);
};
