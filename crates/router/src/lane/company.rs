//! When the next statement goes beside those that are out: a rule of what is out, what waits, and
//! the time.
//!
//! Whatever waits when nothing is out goes at once. Else it goes once there is enough of it, or
//! after [`COMPANY_WAIT_MAX`]. Requests that could not go when they were looked at, because a write
//! to their key is out, are no company for others until a statement comes back.

use std::time::Duration;

use freehold_core::limits::STATEMENT_KEYS_MAX;
use tokio::time::Instant;

/// A statement of fewer rows wants no more company than it has itself.
const SMALL_ROWS: usize = 8;

/// How long a connection stays free for the sake of a larger batch: a statement that hangs, on a
/// lock or a slow disk, keeps the others no longer than this.
const COMPANY_WAIT_MAX: Duration = Duration::from_millis(10);

/// A statement that is out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out {
    pub(super) rows: usize,
    pub(super) since: Instant,
}

/// How many requests make it worth while to send another statement beside those that are out.
pub(super) fn wanted(out: impl Iterator<Item = Out>, writes: bool, now: Instant) -> usize {
    // What hangs is no measure for what others should wait for.
    let timely = out.filter(|out| now.duration_since(out.since) <= COMPANY_WAIT_MAX);
    let largest = timely.map(|out| out.rows).max().unwrap_or(0);
    if largest < SMALL_ROWS {
        return largest;
    }
    // A full statement of writes is worth a second one, since commits wait for the disk. Reads
    // wait for nothing: a second statement only takes a core from everything else, until it takes
    // more than one to keep up.
    let full = if writes {
        STATEMENT_KEYS_MAX
    } else {
        2 * STATEMENT_KEYS_MAX
    };
    (2 * largest).min(full)
}

/// What is remembered of those that wait.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Since when a connection is kept free although requests wait.
    free_since: Option<Instant>,
    /// Requests at the head of the backlog that cannot go before a statement comes back.
    passed_over: usize,
}

impl Company {
    /// Whether the next batch of these `waiting` may go now.
    pub(super) fn is_ripe(&self, waiting: usize, wanted: usize, now: Instant) -> bool {
        let waited = self.free_since.map(|since| now.duration_since(since));
        self.size(waiting) >= wanted || waited.is_some_and(|for_| for_ > COMPANY_WAIT_MAX)
    }

    /// How many requests must come in before it is worth a look whether the batch is ripe.
    pub(super) fn missing(&self, waiting: usize, wanted: usize) -> usize {
        wanted.saturating_sub(self.size(waiting)).max(1)
    }

    /// A connection is free, and the batch is not ripe.
    pub(super) fn keep_free(&mut self, now: Instant) {
        self.free_since.get_or_insert(now);
    }

    /// No connection is free, or nothing waits that could use it.
    pub(super) fn keep_none_free(&mut self) {
        self.free_since = None;
    }

    /// None of these could go.
    pub(super) fn pass_over(&mut self, waiting: usize) {
        self.passed_over = waiting;
    }

    /// Some of those that waited are gone: only so many are left.
    pub(super) fn shrink(&mut self, waiting: usize) {
        self.passed_over = self.passed_over.min(waiting);
    }

    /// A statement came back, or something else made a difference: all may be able to go.
    pub(super) fn look_again(&mut self) {
        self.passed_over = 0;
    }

    /// How many of those that wait may go together.
    fn size(&self, waiting: usize) -> usize {
        waiting.saturating_sub(self.passed_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    /// What is wanted beside statements of these rows, sent just now.
    fn beside(rows: &[usize], writes: bool) -> usize {
        let now = Instant::now();
        let out = rows.iter().map(|rows| Out {
            rows: *rows,
            since: now,
        });
        wanted(out, writes, now)
    }

    #[test]
    fn what_waits_when_nothing_is_out_goes_at_once() {
        assert_eq!(beside(&[], true), 0);
        assert!(Company::default().is_ripe(1, 0, Instant::now()));
    }

    #[test]
    fn beside_a_small_statement_goes_as_much_beside_a_large_one_twice_as_much() {
        for writes in [false, true] {
            assert_eq!(beside(&[1], writes), 1);
            assert_eq!(beside(&[7], writes), 7);
            assert_eq!(beside(&[8], writes), 16);
            assert_eq!(beside(&[3, 20, 5], writes), 40, "the largest counts");
        }
        assert_eq!(beside(&[100], true), STATEMENT_KEYS_MAX);
        assert_eq!(beside(&[100], false), 200);
        assert_eq!(beside(&[STATEMENT_KEYS_MAX], false), 2 * STATEMENT_KEYS_MAX);
    }

    #[test]
    fn a_statement_that_hangs_is_no_measure() {
        let now = Instant::now();
        let hangs = Out {
            rows: 100,
            since: now,
        };
        let later = now + COMPANY_WAIT_MAX + MOMENT;
        let other = Out {
            rows: 2,
            since: later,
        };
        assert_eq!(
            wanted([hangs].into_iter(), true, now + COMPANY_WAIT_MAX),
            128
        );
        assert_eq!(wanted([hangs].into_iter(), true, later), 0);
        assert_eq!(wanted([hangs, other].into_iter(), true, later), 2);
    }

    #[test]
    fn whoever_finds_too_little_company_waits_10_ms_for_it() {
        let mut company = Company::default();
        let now = Instant::now();
        assert!(!company.is_ripe(3, 4, now));
        assert_eq!(company.missing(3, 4), 1);
        assert_eq!(company.missing(1, 16), 15);
        assert_eq!(company.missing(20, 16), 1, "any is worth a look then");
        company.keep_free(now);
        // Looking again does not begin the wait anew.
        company.keep_free(now + 9 * MOMENT);
        assert!(!company.is_ripe(3, 4, now + COMPANY_WAIT_MAX));
        assert!(company.is_ripe(3, 4, now + COMPANY_WAIT_MAX + MOMENT));
        assert!(company.is_ripe(4, 4, now), "or until it is enough");
        company.keep_none_free();
        assert!(!company.is_ripe(3, 4, now + COMPANY_WAIT_MAX + MOMENT));
    }

    #[test]
    fn what_cannot_go_yet_is_no_company() {
        let mut company = Company::default();
        let now = Instant::now();
        company.pass_over(5);
        assert!(!company.is_ripe(6, 2, now));
        assert_eq!(company.missing(6, 2), 1);
        assert!(company.is_ripe(7, 2, now));
        // Three of the five ended.
        company.shrink(2);
        assert!(company.is_ripe(4, 2, now));
        company.look_again();
        assert!(company.is_ripe(2, 2, now));
    }
}
