//! How old what a replica shows can be: a pure type, on this router's own clock.
//!
//! A server that shows beat n has everything that the master committed before n. So it is as fresh
//! as any time before which n cannot have been written, and this router knows such times by itself:
//! when it began a look at the master that did not show n yet, or began to write n. No clock of
//! another machine counts, and what is not known is not usable.

use std::collections::VecDeque;

use freehold_core::Beat;
use tokio::time::Instant;

/// Beats of one term, and the time before which each cannot have been written.
#[derive(Debug)]
pub struct BeatTimes {
    term: u64,
    /// What looks at the master showed, and when the last look that showed it began. Both ascend.
    looks: VecDeque<(u64, Instant)>,
    looks_max: usize,
}

impl BeatTimes {
    /// Nothing is known. Of so many beats the times are kept: what shows an older one is of unknown
    /// age.
    #[must_use]
    pub const fn new(looks_max: usize) -> Self {
        Self {
            term: 0,
            looks: VecDeque::new(),
            looks_max,
        }
    }

    /// A look at the master of a term, which began then, showed that so many beats were written.
    /// Looks come in the order in which they began.
    ///
    /// Writing the beat after `seq` is such a look: the write itself found the row at `seq`, after
    /// it began.
    pub fn saw(&mut self, term: u64, seq: u64, began: Instant) {
        if term < self.term {
            return;
        }
        let last = self.looks.back().copied();
        // A number that went down belongs to another history.
        if term > self.term || last.is_some_and(|(last, _)| last > seq) {
            self.looks.clear();
            self.term = term;
        }
        match self.looks.back_mut() {
            Some((last, at)) if *last == seq => *at = began.max(*at),
            _ => self.looks.push_back((seq, began)),
        }
        if self.looks.len() > self.looks_max {
            self.looks.pop_front();
        }
    }

    /// A time before which this beat cannot have been written: everything that was committed before
    /// that time is where the beat is. `None` if that is not known.
    #[must_use]
    pub fn not_before(&self, beat: Beat) -> Option<Instant> {
        if beat.term != self.term {
            return None;
        }
        let behind = self.looks.partition_point(|(seq, _)| *seq < beat.seq);
        self.looks.get(behind.checked_sub(1)?).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn beat(term: u64, seq: u64) -> Beat {
        Beat { term, seq }
    }

    #[test]
    fn a_beat_is_younger_than_the_last_look_that_did_not_show_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut times = BeatTimes::new(10);
        assert_eq!(times.not_before(beat(1, 5)), None, "nothing is known");
        times.saw(1, 5, at(0));
        assert_eq!(times.not_before(beat(1, 5)), None, "it was there before");
        assert_eq!(times.not_before(beat(1, 6)), Some(at(0)));
        times.saw(1, 5, at(10));
        times.saw(1, 7, at(20));
        assert_eq!(times.not_before(beat(1, 6)), Some(at(10)));
        assert_eq!(times.not_before(beat(1, 7)), Some(at(10)));
        assert_eq!(times.not_before(beat(1, 99)), Some(at(20)));
    }

    #[test]
    fn beats_of_another_term_or_history_say_nothing() {
        let start = Instant::now();
        let mut times = BeatTimes::new(10);
        times.saw(1, 5, start);
        assert_eq!(times.not_before(beat(2, 6)), None);
        times.saw(2, 3, start);
        assert_eq!(times.not_before(beat(1, 6)), None);
        assert_eq!(times.not_before(beat(2, 4)), Some(start));
        times.saw(1, 9, start);
        assert_eq!(times.not_before(beat(2, 4)), Some(start), "an old look");
        times.saw(2, 1, start + Duration::from_secs(1));
        assert_eq!(
            times.not_before(beat(2, 2)),
            Some(start + Duration::from_secs(1))
        );
        assert_eq!(times.not_before(beat(2, 1)), None, "the row went back");
    }

    #[test]
    fn what_is_older_than_what_is_kept_is_unknown() {
        let start = Instant::now();
        let mut times = BeatTimes::new(3);
        for seq in 1..=5 {
            times.saw(1, seq, start);
        }
        assert_eq!(times.not_before(beat(1, 3)), None);
        assert!(times.not_before(beat(1, 4)).is_some());
    }

    /// What happens next, after so many milliseconds.
    #[derive(Debug, Clone)]
    enum Next {
        /// Somebody writes a beat.
        Beat,
        /// A look at the master begins, and shows what is there after so many more milliseconds.
        Look(u64),
        /// This router writes a beat, which takes so many milliseconds.
        Write(u64),
    }

    fn next() -> impl Strategy<Value = (u64, Next)> {
        let step = prop_oneof![
            Just(Next::Beat),
            (0_u64..50).prop_map(Next::Look),
            (0_u64..50).prop_map(Next::Write),
        ];
        (0_u64..300, step)
    }

    proptest! {
        /// Whatever the order of beats and looks, nothing is called fresher than it is.
        #[test]
        fn a_beat_is_never_called_younger_than_it_is(
            steps in prop::collection::vec(next(), 1..60),
            kept in 1_usize..20,
        ) {
            let start = Instant::now();
            let mut now = start;
            // When each beat was written; the first was there before anything began.
            let mut written = vec![start];
            let mut times = BeatTimes::new(kept);
            for (pause, step) in steps {
                now += Duration::from_millis(pause);
                match step {
                    Next::Beat => written.push(now),
                    Next::Look(took) => {
                        let began = now;
                        now += Duration::from_millis(took);
                        times.saw(1, written.len() as u64 - 1, began);
                    }
                    Next::Write(took) => {
                        let (began, before) = (now, written.len() as u64 - 1);
                        now += Duration::from_millis(took);
                        written.push(now);
                        times.saw(1, before, began);
                    }
                }
                for (seq, written) in (0..).zip(&written) {
                    let known = times.not_before(beat(1, seq));
                    prop_assert!(known.is_none_or(|known| known <= *written), "beat {seq}");
                }
            }
        }
    }
}
