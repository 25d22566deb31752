//! What may be sent a second time, and when.
//!
//! The decision is a function of what came back; how often it may be taken is bounded by
//! [`Budget`].

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tonic::Code;

use crate::{
    error::{CallKind, OUTCOME_UNKNOWN},
    options::RetryOptions,
};

/// The reason of a router that gives back what it did not begin.
const SHUTTING_DOWN: &str = "SHUTTING_DOWN";

/// Whether a request that failed may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Its error is final.
    Never,
    /// At once, to another router: this one gave it back.
    Elsewhere,
    /// After a pause of at least so long.
    After(Duration),
}

/// Decides from a status: `reason` is that of an `ErrorInfo` of our domain, `asked` the router's
/// `RetryInfo`.
pub(crate) fn after_status(
    kind: CallKind,
    code: Code,
    reason: Option<&str>,
    asked: Option<Duration>,
) -> Again {
    match (reason, code) {
        (Some(OUTCOME_UNKNOWN), _) => Again::Never,
        (Some(SHUTTING_DOWN), Code::Unavailable) => Again::Elsewhere,
        (Some(_), Code::Unavailable | Code::ResourceExhausted) => {
            Again::After(asked.unwrap_or_default())
        }
        (Some(_), _) => Again::Never,
        // Not a router's word: the way to it broke, and nobody knows where.
        (None, _) => after_break(kind, code),
    }
}

fn after_break(kind: CallKind, code: Code) -> Again {
    match (kind, code) {
        (
            CallKind::Read,
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted,
        ) => Again::After(Duration::ZERO),
        _ => Again::Never,
    }
}

/// The pause before the next try of a request that was sent `attempts` times. `random` is evenly
/// from 0 to 1.
fn pause(options: &RetryOptions, attempts: u32, asked: Duration, random: f64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let full = options
        .delay_min
        .saturating_mul(1 << doublings)
        .min(options.delay_max);
    // At least half of it, so that it does double; and callers that were all refused at one
    // moment do not all come back at one.
    let own = full.mul_f64(0.5 + random / 2.0);
    own.max(asked + asked.mul_f64(random / 4.0))
}

/// The decision, with everything that bounds it. All calls of a client share it.
#[derive(Debug)]
pub(crate) struct Retries {
    options: RetryOptions,
    budget: Budget,
    random: Mutex<StdRng>,
}

impl Retries {
    pub(crate) fn new(options: RetryOptions, seed: u64) -> Self {
        Self {
            budget: Budget::new(&options),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            options,
        }
    }

    /// How long to wait before a request that was sent `attempts` times is sent again; `None` if it
    /// is not.
    pub(crate) fn again(&self, again: Again, attempts: u32) -> Option<Duration> {
        match again {
            Again::Never => None,
            // It did not count, and whoever gave it back is left alone for a while.
            Again::Elsewhere if self.options.attempts_max > 1 => Some(Duration::ZERO),
            Again::After(asked) if attempts < self.options.attempts_max && self.budget.take() => {
                Some(pause(&self.options, attempts, asked, self.random()))
            }
            Again::Elsewhere | Again::After(_) => None,
        }
    }

    /// A pause of its own kind: before connecting again, and where nothing could be sent.
    pub(crate) fn pause(&self, attempts: u32) -> Duration {
        pause(&self.options, attempts, Duration::ZERO, self.random())
    }

    /// So many requests were answered well.
    pub(crate) fn earn(&self, answers: usize) {
        self.budget.earn(answers);
    }

    /// Evenly from 0 to 1.
    pub(crate) fn random(&self) -> f64 {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        random.random()
    }
}

/// Tries that a client may still add.
#[derive(Debug)]
struct Budget {
    /// In thousandths.
    left: AtomicI64,
    max: i64,
    per_answer: i64,
}

/// One try.
const WHOLE: i64 = 1_000;

impl Budget {
    fn new(options: &RetryOptions) -> Self {
        let max = i64::from(options.budget_max) * WHOLE;
        #[allow(clippy::cast_possible_truncation)]
        let per_answer = (f64::from(options.budget_share.clamp(0.0, 1.0)) * WHOLE as f64) as i64;
        Self {
            left: AtomicI64::new(max),
            max,
            per_answer,
        }
    }

    /// Takes one try, if one is left.
    fn take(&self) -> bool {
        let taken = |left| (left >= WHOLE).then_some(left - WHOLE);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_ok()
    }

    /// So many requests were answered well.
    fn earn(&self, answers: usize) {
        // Full is the usual case, and reading is cheaper than writing.
        let left = self.left.load(Ordering::Relaxed);
        if left < self.max {
            let earned = self.per_answer * i64::try_from(answers).unwrap_or(i64::MAX / WHOLE);
            let earned = earned.min(self.max - left);
            self.left.fetch_add(earned, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: [Code; 16] = [
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    #[test]
    fn a_write_without_an_error_info_is_never_sent_again() {
        for code in CODES {
            let again = after_status(CallKind::Write, code, None, Some(Duration::ZERO));
            assert_eq!(again, Again::Never, "{code:?}");
        }
    }

    #[test]
    fn an_unknown_outcome_is_never_sent_again_whatever_its_code() {
        for code in CODES {
            for kind in [CallKind::Read, CallKind::Write] {
                let again = after_status(kind, code, Some(OUTCOME_UNKNOWN), Some(Duration::ZERO));
                assert_eq!(again, Again::Never, "{code:?}");
            }
        }
    }

    #[test]
    fn what_was_not_applied_is_sent_again_if_its_status_says_that_this_can_help() {
        let asked = Duration::from_millis(70);
        for code in CODES {
            for kind in [CallKind::Read, CallKind::Write] {
                let expected = match code {
                    Code::Unavailable | Code::ResourceExhausted => Again::After(asked),
                    _ => Again::Never,
                };
                let again = after_status(kind, code, Some("ANY_REASON"), Some(asked));
                assert_eq!(again, expected, "{code:?}");
            }
        }
    }

    #[test]
    fn what_a_router_gives_back_as_it_ends_goes_to_another_one_at_once() {
        for kind in [CallKind::Read, CallKind::Write] {
            let asked = Some(Duration::from_millis(200));
            let again = after_status(kind, Code::Unavailable, Some(SHUTTING_DOWN), asked);
            assert_eq!(again, Again::Elsewhere);
        }
    }

    #[test]
    fn reads_are_sent_again_when_the_way_broke_but_not_when_they_were_refused() {
        let broken = |code| after_status(CallKind::Read, code, None, None);
        for code in [Code::Unavailable, Code::Unknown, Code::Internal] {
            assert_eq!(broken(code), Again::After(Duration::ZERO), "{code:?}");
        }
        for code in [
            Code::DeadlineExceeded,
            Code::InvalidArgument,
            Code::Unimplemented,
        ] {
            assert_eq!(broken(code), Again::Never, "{code:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_are_never_shorter_than_the_router_asks() {
        let options = RetryOptions::default();
        let own = |attempts| pause(&options, attempts, Duration::ZERO, 1.0);
        assert_eq!(own(1), options.delay_min);
        assert_eq!(own(2), options.delay_min * 2);
        assert_eq!(own(60), options.delay_max);
        assert_eq!(
            pause(&options, 1, Duration::ZERO, 0.0),
            options.delay_min / 2
        );
        let asked = Duration::from_secs(3);
        assert_eq!(pause(&options, 1, asked, 0.0), asked);
        assert!(pause(&options, 1, asked, 1.0) > asked);
    }

    #[test]
    fn a_spent_budget_comes_back_with_answers() {
        let budget = Budget::new(&RetryOptions {
            budget_max: 2,
            budget_share: 0.1,
            ..RetryOptions::default()
        });
        assert!(budget.take() && budget.take());
        assert!(!budget.take(), "two tries are all there is");
        budget.earn(9);
        assert!(!budget.take(), "nine answers earn less than one try");
        budget.earn(1);
        assert!(budget.take());
        budget.earn(1_000_000);
        assert!(budget.take() && budget.take());
        assert!(!budget.take(), "it never grows above its limit");
    }
}
