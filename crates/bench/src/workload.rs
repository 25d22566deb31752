//! What callers do: kinds of operations, and which keys they choose.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use clap::ValueEnum;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Zipf};
use serde::Serialize;

use crate::data::ROWS_PER_TAG;

/// YCSB's constant: how much more often popular keys are chosen.
const ZIPFIAN: f64 = 0.99;

/// Rows that one scan asks for, at most.
const SCAN_ROWS_MAX: u64 = 100;

/// What callers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// Reads a random key that is there.
    Get,
    /// Overwrites a random key.
    Put,
    /// Overwrites a random key, which then has a day to live.
    PutTtl,
    /// Reads one and the same key.
    Hot,
    /// YCSB A: half reads, half updates, zipfian.
    YcsbA,
    /// YCSB B: 95 % reads, 5 % updates, zipfian.
    YcsbB,
    /// YCSB C: reads, zipfian.
    YcsbC,
    /// YCSB D: 95 % reads of what was written lately, 5 % inserts.
    YcsbD,
    /// YCSB E: 95 % scans of 1 to 100 rows within one tag, zipfian, 5 % inserts.
    YcsbE,
    /// YCSB F: half reads, half reads with an update behind them, zipfian.
    YcsbF,
}

impl Workload {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::PutTtl => "put-ttl",
            Self::Hot => "hot",
            Self::YcsbA => "ycsb-a",
            Self::YcsbB => "ycsb-b",
            Self::YcsbC => "ycsb-c",
            Self::YcsbD => "ycsb-d",
            Self::YcsbE => "ycsb-e",
            Self::YcsbF => "ycsb-f",
        }
    }

    /// Measured with every number of callers and every size of values; others with one of each.
    pub(crate) const fn is_swept(self) -> bool {
        matches!(self, Self::Get | Self::Put)
    }

    pub(crate) const fn scans(self) -> bool {
        matches!(self, Self::YcsbE)
    }

    pub(crate) const fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::Hot | Self::YcsbC)
    }
}

/// What one caller does next, with the number of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Get(u64),
    Put { number: u64, expires: bool },
    Insert(u64),
    ReadThenPut(u64),
    Scan { tag: u64, rows: u64 },
}

/// Numbers of rows that were inserted into one data set of one store.
#[derive(Debug)]
pub(crate) struct Inserted {
    state: Mutex<InsertedState>,
}

#[derive(Debug)]
struct InsertedState {
    next: u64,
    under_way: BTreeSet<u64>,
    /// Begun in a round that failed: perhaps they are there.
    unsure: BTreeSet<u64>,
}

impl Inserted {
    /// So many rows were loaded.
    pub(crate) fn after(rows: u64) -> Self {
        Self {
            state: Mutex::new(InsertedState {
                next: rows,
                under_way: BTreeSet::new(),
                unsure: BTreeSet::new(),
            }),
        }
    }

    /// A round begins: what is under way now was left so by one that failed, and is never read.
    pub(crate) fn settle(&self) {
        let mut state = self.state();
        let left = std::mem::take(&mut state.under_way);
        state.unsure.extend(left);
    }

    fn begin(&self) -> u64 {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number);
        number
    }

    /// An insert was acknowledged.
    pub(crate) fn end(&self, number: u64) {
        self.state().under_way.remove(&number);
    }

    /// The row that was inserted so many before the newest, or one next to it that is there.
    fn latest(&self, rank: u64) -> u64 {
        let state = self.state();
        let after = state.under_way.first().copied().unwrap_or(state.next);
        let mut number = after.saturating_sub(rank);
        while state.unsure.contains(&number) {
            // The rows of the load were never under way.
            number -= 1;
        }
        number
    }

    fn state(&self) -> MutexGuard<'_, InsertedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Draws one caller's operations.
#[derive(Debug)]
pub(crate) struct Generator {
    workload: Workload,
    rows: u64,
    zipfian: Zipf<f64>,
    random: StdRng,
}

impl Generator {
    /// Over so many loaded rows.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn new(workload: Workload, rows: u64, seed: u64) -> Self {
        let chosen = if workload.scans() {
            rows / ROWS_PER_TAG
        } else {
            rows
        };
        Self {
            workload,
            rows,
            zipfian: Zipf::new(chosen.max(1) as f64, ZIPFIAN).expect("the constant is legal"),
            random: StdRng::seed_from_u64(seed),
        }
    }

    pub(crate) fn next(&mut self, inserted: &Inserted) -> Operation {
        let percent = self.random.random_range(0..100);
        match self.workload {
            Workload::Get => Operation::Get(self.uniform()),
            Workload::Put | Workload::PutTtl => Operation::Put {
                number: self.uniform(),
                expires: self.workload == Workload::PutTtl,
            },
            Workload::Hot => Operation::Get(self.rows / 2),
            Workload::YcsbA if percent < 50 => Operation::Get(self.popular(self.rows)),
            Workload::YcsbB if percent < 95 => Operation::Get(self.popular(self.rows)),
            Workload::YcsbA | Workload::YcsbB => Operation::Put {
                number: self.popular(self.rows),
                expires: false,
            },
            Workload::YcsbC => Operation::Get(self.popular(self.rows)),
            Workload::YcsbD if percent < 95 => Operation::Get(inserted.latest(self.rank())),
            Workload::YcsbE if percent < 95 => Operation::Scan {
                tag: self.popular(self.rows / ROWS_PER_TAG),
                rows: self.random.random_range(1..=SCAN_ROWS_MAX),
            },
            Workload::YcsbD | Workload::YcsbE => Operation::Insert(inserted.begin()),
            Workload::YcsbF if percent < 50 => Operation::Get(self.popular(self.rows)),
            Workload::YcsbF => Operation::ReadThenPut(self.popular(self.rows)),
        }
    }

    /// For a value that nobody has put before.
    pub(crate) fn salt(&mut self) -> u64 {
        self.random.random()
    }

    fn uniform(&mut self) -> u64 {
        self.random.random_range(0..self.rows)
    }

    /// 1 is the most popular.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn rank(&mut self) -> u64 {
        self.zipfian.sample(&mut self.random) as u64
    }

    /// A zipfian choice whose popular ones lie anywhere (YCSB's "scrambled zipfian").
    fn popular(&mut self, choices: u64) -> u64 {
        scatter(self.rank()) % choices.max(1)
    }
}

/// Finalizer of `SplitMix64`: neighbours end far from each other.
const fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const ROWS: u64 = 1_000;

    fn drawn(workload: Workload) -> (Vec<Operation>, Inserted) {
        let inserted = Inserted::after(ROWS);
        let mut generator = Generator::new(workload, ROWS, 1);
        let draw = |_| {
            let operation = generator.next(&inserted);
            if let Operation::Insert(number) = operation {
                inserted.end(number);
            }
            operation
        };
        ((0..20_000).map(draw).collect(), inserted)
    }

    fn share(operations: &[Operation], is: impl Fn(&Operation) -> bool) -> f64 {
        let count = operations.iter().filter(|one| is(one)).count();
        f64::from(u32::try_from(count).unwrap()) / 20_000.0
    }

    #[test]
    fn ycsb_s_shares_are_kept() {
        use Workload::{YcsbA, YcsbB, YcsbC, YcsbD, YcsbE, YcsbF};
        for (workload, reads) in [
            (YcsbA, 0.5),
            (YcsbB, 0.95),
            (YcsbC, 1.0),
            (YcsbD, 0.95),
            (YcsbE, 0.0),
            (YcsbF, 0.5),
        ] {
            let (operations, _) = drawn(workload);
            let got = share(&operations, |one| matches!(one, Operation::Get(_)));
            assert!((got - reads).abs() < 0.02, "{workload:?}: {got}");
            let scans = share(&operations, |one| matches!(one, Operation::Scan { .. }));
            let expected = if workload == YcsbE { 0.95 } else { 0.0 };
            assert!((scans - expected).abs() < 0.02, "{workload:?}: {scans}");
        }
    }

    #[test]
    fn zipfian_choices_have_favourites_and_stay_among_the_rows() {
        let (operations, _) = drawn(Workload::YcsbC);
        let mut counts: HashMap<u64, u32> = HashMap::new();
        for operation in operations {
            let Operation::Get(number) = operation else {
                panic!("{operation:?}")
            };
            assert!(number < ROWS);
            *counts.entry(number).or_default() += 1;
        }
        // 1 / (the sum of 1 / n^0.99 up to 1,000) of 20,000 is 2,570.
        let most = counts.values().max().copied().unwrap();
        assert!((2_300..2_900).contains(&most), "{most}");
        assert!(counts.len() > 500, "{}", counts.len());
    }

    #[test]
    fn latest_reads_what_was_inserted_last_and_never_what_is_still_under_way() {
        let (operations, inserted) = drawn(Workload::YcsbD);
        let newest = inserted.latest(0);
        let number = |one: &Operation| match one {
            Operation::Get(number) => *number,
            _ => 0,
        };
        let highest = operations.iter().map(number).max().unwrap();
        assert!(highest >= ROWS && highest < newest, "{highest} {newest}");
        let first = inserted.begin();
        let second = inserted.begin();
        inserted.end(second);
        assert_eq!(inserted.latest(1), first - 1);
        inserted.end(first);
        assert_eq!(inserted.latest(1), second);
    }

    #[test]
    fn what_a_failed_round_left_under_way_is_never_read_and_keeps_nothing_after_it_from_it() {
        let inserted = Inserted::after(ROWS);
        let (left, _also_left) = (inserted.begin(), inserted.begin());
        inserted.settle();
        inserted.end(inserted.begin());
        assert_eq!(inserted.latest(1), left + 2);
        assert_eq!(inserted.latest(2), left - 1);
        assert_eq!(inserted.latest(3), left - 1);
        assert_eq!(inserted.latest(4), left - 1);
        assert_eq!(inserted.latest(5), left - 2);
    }
}
