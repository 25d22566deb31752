//! Random histories: those that a model made are accepted, those with a lie in them are not.

use freehold_checker::history::{History, MS};
use freehold_checker::record::{Action, Level, Operation, Outcome, Record, Seen};
use freehold_checker::verdict::{Verdict, check};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Well above what rounding may hide.
const CLEARLY_NS: i64 = 10 * MS;

/// The seeds of this run: a fixed few, and some that differ from run to run.
fn seeds() -> impl Iterator<Item = u64> {
    let first = std::env::var("FREEHOLD_TEST_SEED").ok();
    let first = first.and_then(|seed| seed.parse().ok());
    let first = first.unwrap_or_else(|| {
        let mut drawn = [0; 8];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut drawn))
            .expect("/dev/urandom");
        u64::from_ne_bytes(drawn) >> 1
    });
    println!("FREEHOLD_TEST_SEED={first}");
    (0..150).chain(first..first + 150)
}

/// One key as a database without faults has it: a value and when it ends.
#[derive(Default)]
struct Model {
    value: Option<(String, i64)>,
}

impl Model {
    fn live(&self, now_ns: i64) -> Option<&(String, i64)> {
        self.value.as_ref().filter(|(_, end_ns)| *end_ns > now_ns)
    }

    /// Does what was asked for, at this instant, and says what came back.
    fn apply(&mut self, action: &mut Action, now_ns: i64) {
        let is_live = self.live(now_ns).is_some();
        let end = |ttl_ms: &Option<i64>| ttl_ms.map_or(i64::MAX, |ms| now_ns + ms * MS);
        match action {
            Action::Put { value, ttl_ms } => self.value = Some((value.clone(), end(ttl_ms))),
            Action::Delete { existed } => {
                *existed = Some(is_live);
                self.value = None;
            }
            Action::Expire { ttl_ms, existed } => {
                *existed = Some(is_live);
                if let Some((_, until)) = self.value.as_mut().filter(|_| is_live) {
                    *until = end(ttl_ms);
                }
            }
            Action::Get { seen } => {
                let live = self.live(now_ns);
                *seen = Some(Seen {
                    live: live.is_some(),
                    value: live.map(|(value, _)| value.clone()),
                    ttl_ms: live.map(|(_, end)| match *end {
                        i64::MAX => -1,
                        end => (end - now_ns) / MS,
                    }),
                });
            }
        }
    }
}

fn action(random: &mut StdRng, number: u64) -> Action {
    let ttl_ms = match random.random_range(0..3) {
        0 => Some(random.random_range(1..80)),
        _ => None,
    };
    match random.random_range(0..10) {
        0..4 => Action::Put {
            value: format!("v{number}"),
            ttl_ms,
        },
        4 => Action::Delete { existed: None },
        5 => Action::Expire {
            ttl_ms,
            existed: None,
        },
        _ => Action::Get { seen: None },
    }
}

/// A legal history: instants at which operations happen, one after another, and around each the
/// interval that its client saw.
fn legal(seed: u64) -> Vec<Operation> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let mut now_ns = 0;
    let overlap_ns = random.random_range(0..6) * MS;
    let mut all = Vec::new();
    for id in 0..random.random_range(5..120) {
        now_ns += random.random_range(1..4 * MS);
        let mut action = action(&mut random, id);
        let outcome = match random.random_range(0..12) {
            0 => Outcome::Unknown,
            1 => Outcome::NotApplied,
            _ => Outcome::Applied,
        };
        let happens = match outcome {
            Outcome::Applied => true,
            Outcome::NotApplied => false,
            Outcome::Unknown => random.random_bool(0.5),
        };
        if happens {
            model.apply(&mut action, now_ns);
        }
        if outcome != Outcome::Applied {
            forget(&mut action);
        }
        // Who did not hear of it may have given up before it happened.
        let before_ns = random.random_range(0..=overlap_ns);
        let after_ns = match outcome {
            Outcome::Applied => random.random_range(0..=overlap_ns),
            _ => -random.random_range(0..=before_ns),
        };
        all.push(Operation {
            id,
            client: (id % 7) as u32,
            key: "k".to_owned(),
            start_ns: now_ns - before_ns,
            end_ns: now_ns + after_ns,
            deadline_ns: None,
            action,
            outcome,
            level: Level::Strong,
            by_replica: false,
            staleness_ms: None,
            via: String::new(),
            status: String::new(),
            words: String::new(),
        });
    }
    all
}

fn forget(action: &mut Action) {
    match action {
        Action::Delete { existed } | Action::Expire { existed, .. } => *existed = None,
        Action::Get { seen } => *seen = None,
        Action::Put { .. } => {}
    }
}

fn judge(operations: &[Operation]) -> Verdict {
    check(&History::new(
        operations.iter().cloned().map(Record::Operation),
    ))
}

#[test]
fn what_a_model_did_is_accepted() {
    for seed in seeds() {
        let operations = legal(seed);
        let verdict = judge(&operations);
        assert!(verdict.is_clean(), "seed {seed}: {verdict}");
    }
}

/// Puts a lie into a read that can have no excuse. None if the history has no place for it.
fn lie(operations: &[Operation], random: &mut StdRng) -> Option<(Vec<Operation>, usize)> {
    let certain = |one: &&Operation| one.outcome == Outcome::Applied;
    let reads: Vec<usize> = (0..operations.len())
        .filter(|place| {
            let one = &operations[*place];
            certain(&one) && matches!(one.action, Action::Get { .. })
        })
        .collect();
    let place = *reads.get(random.random_range(0..reads.len().max(1)))?;
    let read = &operations[place];
    let done_before = |one: &&Operation| certain(one) && one.end_ns < read.start_ns;
    let replaces =
        |one: &&Operation| matches!(one.action, Action::Put { .. } | Action::Delete { .. });
    let last_start = operations
        .iter()
        .filter(done_before)
        .filter(replaces)
        .map(|one| one.start_ns)
        .max()?;
    let old = |one: &&Operation| done_before(one) && one.end_ns < last_start;
    let value_of = |one: &Operation| match &one.action {
        Action::Put { value, .. } => Some(value.clone()),
        _ => None,
    };
    // What is long replaced, or what nobody wrote.
    let mut lies: Vec<String> = operations.iter().filter(old).filter_map(value_of).collect();
    lies.extend(
        operations
            .iter()
            .filter(|one| one.outcome == Outcome::NotApplied)
            .filter_map(value_of),
    );
    let extra = expired(operations, read);
    lies.extend(extra);
    if lies.is_empty() {
        return None;
    }
    let value = lies.swap_remove(random.random_range(0..lies.len()));
    let mut lying = operations.to_vec();
    lying[place].action = Action::Get {
        seen: Some(Seen {
            live: true,
            value: Some(value),
            ttl_ms: None,
        }),
    };
    Some((lying, place))
}

/// A value that has expired by then for certain.
fn expired(operations: &[Operation], read: &Operation) -> Option<String> {
    let touches = |one: &&Operation| matches!(one.action, Action::Expire { .. });
    if operations.iter().any(|one| touches(&one)) {
        return None;
    }
    operations.iter().find_map(|one| match &one.action {
        Action::Put {
            value,
            ttl_ms: Some(ttl_ms),
        } if one.outcome == Outcome::Applied
            && one.end_ns + ttl_ms * MS + CLEARLY_NS < read.start_ns =>
        {
            Some(value.clone())
        }
        _ => None,
    })
}

#[test]
fn a_lie_is_found_and_the_proof_stands_by_itself() {
    let mut found = 0;
    for seed in seeds().step_by(3) {
        let operations = legal(seed);
        let mut random = StdRng::seed_from_u64(seed ^ 0xff);
        let Some((lying, place)) = lie(&operations, &mut random) else {
            continue;
        };
        let verdict = judge(&lying);
        assert!(
            !verdict.violations.is_empty(),
            "seed {seed}: not found: {:?}\n{verdict}",
            lying[place]
        );
        // Each proof is illegal without all the rest.
        for violation in verdict
            .violations
            .iter()
            .filter(|one| one.message.starts_with("no order"))
        {
            let alone = judge(&violation.operations);
            assert!(!alone.violations.is_empty(), "seed {seed}: {violation:?}");
            assert!(violation.operations.len() <= lying.len());
        }
        found += 1;
    }
    assert!(found > 30, "only {found} histories had a place for a lie");
}

#[test]
fn an_acknowledged_write_that_is_gone_is_found() {
    let mut found = 0;
    for seed in seeds() {
        let mut operations = legal(seed);
        let end_ns = operations.iter().map(|one| one.end_ns).max().unwrap();
        let mut last = operations[0].clone();
        (last.id, last.start_ns, last.end_ns) = (10_000, end_ns + 1, end_ns + 2);
        last.outcome = Outcome::Applied;
        last.action = Action::Put {
            value: "last".to_owned(),
            ttl_ms: None,
        };
        let mut read = last.clone();
        (read.id, read.start_ns, read.end_ns) = (10_001, end_ns + 3, end_ns + 4);
        read.action = Action::Get {
            seen: Some(Seen {
                live: false,
                value: None,
                ttl_ms: None,
            }),
        };
        // Only where nothing open can have ended it.
        let is_open = |one: &Operation| {
            one.outcome == Outcome::Unknown && !matches!(one.action, Action::Get { .. })
        };
        if operations.iter().any(is_open) {
            continue;
        }
        operations.extend([last, read]);
        assert!(!judge(&operations).is_clean(), "seed {seed}");
        found += 1;
    }
    assert!(found > 5, "only {found}");
}
