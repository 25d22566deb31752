//! Whether the operations of one key have an order that real time and the model allow.
//!
//! One pass over the instants at which operations returned. A configuration is a state and the
//! operations under way that it has already seen happen; the set of all possible ones is kept. When
//! an operation returns it must have happened: each configuration is extended by whatever else is
//! under way, in every order, until it has. If none is left, the history is illegal.
//!
//! What keeps the set small, and why no legal history is lost by it:
//! - Equal configurations are one.
//! - A read that a state allows and does not sharpen happens at once: it can do no harm.
//! - A read that returns and is allowed as it stands needs nothing else to happen before it: values
//!   are unique, so nothing could bring the shown state back, and what is delayed can still follow.
//!   Not so a read that finds a value expired: it may as well have been deleted before.
//! - Unknown outcomes need not happen at all. Of two configurations that differ only in which of
//!   them they have used, the one that used fewer can do all that the other can; likewise the one in
//!   which more reads have happened.
//!
//! - Unknown deletes are all the same; so are unknown puts without expiry whose values nothing shows.
//!
//! More than 64 operations of one key under way at once, or more than 128 of its other outcomes
//! unknown,
//! are undecided.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;

use crate::record::{Level, Operation, Outcome};
use crate::register::{NEVER, State, Step, Timed, step};

/// What a search may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Steps of the model that are tried for one key; some 5 million take a second.
    pub steps_max: u64,
    /// Configurations that are kept at once, some hundred bytes each.
    pub configurations_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            steps_max: 200_000_000,
            configurations_max: 1_000_000,
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// There is an order.
    Legal,
    /// There is none.
    Illegal {
        /// The place, in the given operations, of the one that nothing explains.
        at: usize,
        /// What the key could have been, in words.
        possible: Vec<String>,
    },
    /// The bound was met first.
    Undecided,
}

/// The operations of a key that this is about, as the model takes them, with their places.
pub(crate) struct Prepared {
    timed: Vec<(usize, Timed)>,
    values: Vec<String>,
}

/// Takes writes and STRONG reads out of a key's operations.
pub(crate) fn prepare(operations: &[Operation]) -> Prepared {
    let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
    let mut values = Vec::new();
    let mut number = |value: &str| {
        *numbers.entry(value.to_owned()).or_insert_with(|| {
            values.push(value.to_owned());
            u32::try_from(values.len() - 1).unwrap_or(u32::MAX)
        })
    };
    let mut timed = Vec::new();
    for (place, operation) in operations.iter().enumerate() {
        if operation.level != Level::Strong {
            continue;
        }
        let step = step(&operation.action, operation.outcome, &mut number);
        if let Some(step) = step {
            let is_certain = operation.outcome == Outcome::Applied;
            let one = Timed {
                step,
                start_ns: operation.start_ns,
                end_ns: if is_certain { operation.end_ns } else { NEVER },
                is_certain,
            };
            // A read without an answer promises nothing.
            if is_certain || !one.is_read() {
                timed.push((place, one));
            }
        }
    }
    timed.sort_by_key(|(_, one)| one.start_ns);
    let shown: BTreeSet<u32> = timed
        .iter()
        .filter_map(|(_, one)| match one.step {
            Step::Live { value, .. } => value,
            _ => None,
        })
        .collect();
    for (_, one) in &mut timed {
        if let Step::Put { value, .. } = &mut one.step
            && !shown.contains(value)
        {
            *value = UNSEEN;
        }
    }
    Prepared { timed, values }
}

/// Decides about the operations of one key, which begins absent.
pub fn decide(operations: &[Operation], error_ns: i64, bounds: &Bounds) -> Decision {
    let prepared = prepare(operations);
    let mut returns: Vec<usize> = (0..prepared.timed.len())
        .filter(|number| prepared.timed[*number].1.is_certain)
        .collect();
    returns.sort_by_key(|number| prepared.timed[*number].1.end_ns);
    let mut search = Search::new(&prepared, error_ns, bounds);
    for number in returns {
        let has_room = search.begin_until(prepared.timed[number].1.end_ns);
        let before = search.possible.clone();
        if !has_room || !search.finish(number) {
            return Decision::Undecided;
        }
        if search.possible.is_empty() {
            return Decision::Illegal {
                at: prepared.timed[number].0,
                possible: words(&before, &prepared.values),
            };
        }
    }
    Decision::Legal
}

/// What has happened so far, in one possible world, as far as it can matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct World {
    state: State,
    /// Writes under way that have happened, by their places.
    writes: u64,
}

/// What a world has besides: worlds that differ only here are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Past {
    /// Reads under way that have happened, by their places: the more, the better.
    reads: u64,
    /// Unknown outcomes that have happened, by their places: the fewer, the better.
    used: u128,
    /// How many of the deletes of unknown outcome have happened.
    deletes: u16,
    /// How many of the puts of unknown outcome whose values nothing shows.
    unseen: u16,
}

impl Past {
    fn is_as_good_as(&self, other: &Self) -> bool {
        self.used & !other.used == 0
            && other.reads & !self.reads == 0
            && self.deletes <= other.deletes
            && self.unseen <= other.unseen
    }
}

/// All worlds, each with the best pasts that lead to it.
type Worlds = HashMap<World, Vec<Past>, RandomState>;

/// Places of operations: at most so many certain ones under way, or unknown ones.
struct Places<const MAX: usize>(Vec<Option<u32>>);

impl<const MAX: usize> Places<MAX> {
    /// False if there is none left.
    fn take(&mut self, number: u32) -> bool {
        if let Some(free) = self.0.iter_mut().find(|place| place.is_none()) {
            *free = Some(number);
            return true;
        }
        self.0.push(Some(number));
        self.0.len() <= MAX
    }

    /// Places and their operations.
    fn taken(&self) -> impl Iterator<Item = (usize, u32)> {
        let places = self.0.iter().enumerate();
        places.filter_map(|(place, number)| Some((place, (*number)?)))
    }
}

struct Search<'a> {
    timed: &'a [(usize, Timed)],
    error_ns: i64,
    bounds: Bounds,
    steps: u64,
    /// How many operations have begun.
    begun: usize,
    /// Certain operations that have begun and not returned.
    under_way: Places<64>,
    /// Unknown outcomes that have begun, but for those that are like each other.
    open: Places<128>,
    /// Deletes of unknown outcome that have begun.
    deletes: u16,
    /// Puts of unknown outcome that have begun, last for ever, and whose values nothing shows.
    unseen: u16,
    possible: Worlds,
}

/// An operation that may happen next: its place, and what it does.
#[derive(Clone, Copy)]
struct Candidate {
    place: usize,
    timed: Timed,
}

/// How a candidate is remembered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Certain,
    Open,
    Delete,
    Unseen,
}

/// The number of all values that nothing shows.
const UNSEEN: u32 = u32::MAX;

/// A put whose value nothing shows: all of them are the same.
const ANY_UNSEEN: Step = Step::Put {
    value: UNSEEN,
    ttl_ns: NEVER,
};

/// One of those that are like each other, whenever it began.
const fn any(step: Step) -> Candidate {
    Candidate {
        place: 0,
        timed: Timed {
            step,
            start_ns: 0,
            end_ns: NEVER,
            is_certain: false,
        },
    }
}

/// False if it cannot be counted.
fn count_one(count: &mut u16) -> bool {
    *count = count.saturating_add(1);
    *count < u16::MAX
}

impl<'a> Search<'a> {
    fn new(prepared: &'a Prepared, error_ns: i64, bounds: &Bounds) -> Self {
        let start = World {
            state: State::Absent,
            writes: 0,
        };
        let mut possible = Worlds::default();
        possible.insert(start, vec![Past::default()]);
        Self {
            timed: &prepared.timed,
            error_ns,
            bounds: *bounds,
            steps: 0,
            begun: 0,
            under_way: Places(Vec::new()),
            open: Places(Vec::new()),
            deletes: 0,
            unseen: 0,
            possible,
        }
    }

    /// Everything that began by then is under way. False if it is too much.
    fn begin_until(&mut self, end_ns: i64) -> bool {
        while let Some((_, one)) = self.timed.get(self.begun) {
            if one.start_ns > end_ns {
                break;
            }
            let number = u32::try_from(self.begun).unwrap_or(u32::MAX);
            let has_place = match one.step {
                _ if one.is_certain => self.under_way.take(number),
                Step::Delete { existed: None } => count_one(&mut self.deletes),
                ANY_UNSEEN => count_one(&mut self.unseen),
                _ => self.open.take(number),
            };
            if !has_place {
                return false;
            }
            self.begun += 1;
        }
        true
    }

    fn candidates<const MAX: usize>(&self, places: &Places<MAX>) -> Vec<Candidate> {
        let of = |(place, number)| Candidate {
            place,
            timed: self.timed[number as usize].1,
        };
        places.taken().map(of).collect()
    }

    /// Makes an operation happen in every world. False if the bound was met.
    fn finish(&mut self, number: usize) -> bool {
        let certain = self.candidates(&self.under_way);
        let open = self.candidates(&self.open);
        let is_it = |(_, taken): &(usize, u32)| *taken as usize == number;
        let Some((target, _)) = self.under_way.taken().find(is_it) else {
            return false;
        };
        let aim = Candidate {
            place: target,
            timed: self.timed[number].1,
        };
        let mut after = Worlds::default();
        let mut seen = Worlds::default();
        let mut queue = Vec::new();
        for (world, pasts) in std::mem::take(&mut self.possible) {
            for past in pasts {
                let past = self.settle(&certain, world, past);
                if keep(&mut seen, world, past) {
                    queue.push((world, past));
                }
            }
        }
        while let Some((mut world, mut past)) = queue.pop() {
            if (world.writes | past.reads) >> target & 1 == 1 {
                world.writes &= !(1 << target);
                past.reads &= !(1 << target);
                keep(&mut after, world, past);
                continue;
            }
            let alone = self.needs_nothing_else(&aim, world.state);
            let mut reach = |candidate: &Candidate, sort: Sort| {
                for state in candidate.timed.apply(world.state, self.error_ns) {
                    self.steps += 1;
                    let Some(state) = state else { continue };
                    let (mut next, mut past) = (World { state, ..world }, past);
                    match sort {
                        Sort::Open => past.used |= 1 << candidate.place,
                        Sort::Delete => past.deletes += 1,
                        Sort::Unseen => past.unseen += 1,
                        Sort::Certain if candidate.timed.is_read() => {
                            past.reads |= 1 << candidate.place;
                        }
                        Sort::Certain => next.writes |= 1 << candidate.place,
                    }
                    let past = settle(&certain, self.error_ns, next, past);
                    if keep(&mut seen, next, past) {
                        queue.push((next, past));
                    }
                }
            };
            if alone {
                reach(&aim, Sort::Certain);
            } else {
                let done = world.writes | past.reads;
                let left = certain.iter().filter(|one| done >> one.place & 1 == 0);
                left.for_each(|one| reach(one, Sort::Certain));
                let unused = open.iter().filter(|one| past.used >> one.place & 1 == 0);
                unused.for_each(|one| reach(one, Sort::Open));
                if past.deletes < self.deletes {
                    reach(&any(Step::Delete { existed: None }), Sort::Delete);
                }
                if past.unseen < self.unseen {
                    reach(&any(ANY_UNSEEN), Sort::Unseen);
                }
            }
            let size = seen.len() + queue.len();
            if self.steps > self.bounds.steps_max || size > self.bounds.configurations_max {
                return false;
            }
        }
        self.under_way.0[target] = None;
        self.possible = after;
        true
    }

    /// Whether a read may happen as things are, and nothing is lost if nothing happens before it.
    fn needs_nothing_else(&self, aim: &Candidate, state: State) -> bool {
        let would_end = state != State::Absent && aim.timed.step == Step::Absent;
        let is_allowed = aim.timed.apply(state, self.error_ns)[0].is_some();
        aim.timed.is_read() && is_allowed && !would_end
    }

    fn settle(&self, certain: &[Candidate], world: World, past: Past) -> Past {
        settle(certain, self.error_ns, world, past)
    }
}

/// Lets reads happen that the state allows and does not sharpen.
fn settle(certain: &[Candidate], error_ns: i64, world: World, mut past: Past) -> Past {
    for one in certain.iter().filter(|one| one.timed.is_read()) {
        if one.timed.apply(world.state, error_ns)[0] == Some(world.state) {
            past.reads |= 1 << one.place;
        }
    }
    past
}

/// Adds a world unless one is there that can do all it can.
fn keep(worlds: &mut Worlds, world: World, past: Past) -> bool {
    let pasts = worlds.entry(world).or_default();
    if pasts.iter().any(|other| other.is_as_good_as(&past)) {
        return false;
    }
    pasts.retain(|other| !past.is_as_good_as(other));
    pasts.push(past);
    true
}

fn words(possible: &Worlds, values: &[String]) -> Vec<String> {
    let mut words: Vec<String> = possible
        .keys()
        .map(|world| match world.state {
            State::Absent => "absent".to_owned(),
            State::Live {
                value,
                from_ns,
                to_ns,
            } => {
                let value = values.get(value as usize);
                let value = value.map_or("a value that nothing shows", String::as_str);
                match (from_ns, to_ns) {
                    (NEVER, _) => format!("{value:?}, for ever"),
                    (_, NEVER) => format!("{value:?}, which does not expire before {from_ns}"),
                    _ => format!("{value:?}, which expires from {from_ns} to {to_ns}"),
                }
            }
        })
        .collect();
    words.sort();
    words.dedup();
    words
}
