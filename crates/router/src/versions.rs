//! Versions of stored rows: 64 bits, unique, without order.

use std::sync::atomic::{AtomicU64, Ordering};

/// Hands out versions. A counter from a random start, put through a bijection: one router never
/// repeats itself, two would have to start within each other's run among 2^64 places, and nobody
/// is tempted to read an order out of them.
#[derive(Debug)]
pub struct Versions {
    next: AtomicU64,
}

impl Versions {
    /// `start` is random.
    #[must_use]
    pub const fn new(start: u64) -> Self {
        Self {
            next: AtomicU64::new(start),
        }
    }

    /// A version that was never given before.
    pub fn next(&self) -> u64 {
        scramble(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Each step can be undone (an odd factor, a shift that is xor-ed in), so no two numbers meet.
const fn scramble(number: u64) -> u64 {
    let number = (number ^ (number >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 29)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    number ^ (number >> 32)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn versions_do_not_repeat_across_the_end_of_the_counter() {
        let versions = Versions::new(u64::MAX - 5_000);
        let given: HashSet<u64> = (0..10_000).map(|_| versions.next()).collect();
        assert_eq!(given.len(), 10_000);
    }
}
