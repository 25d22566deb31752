//! Cutting a batch out of what waits in a lane: a pure function.
//!
//! A batch holds one kind of statement, each key in one row, rows in the table's order. Whatever
//! is left keeps its order, and nothing overtakes an older request for the same key (of reads,
//! which change nothing, another kind may go first).

use std::collections::{HashMap, HashSet, VecDeque};

use foldhash::fast::RandomState;
use freehold_core::{Key, Slot};
use freehold_storage::{ExpireRow, PutRow, ScanRange, Write};
use tokio::time::Instant;

use crate::request::{Kind, Needs, Operation, Request};

/// Where a slot's requests belong, as the lane sees it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To this lane.
    Here,
    /// To this lane; a write that logs its key, because its slot is being copied away.
    HereLogged,
    /// To this lane, once the slot has changed hands, or older ones have come from the former
    /// owner's.
    HereLater,
    /// To the lane of another shard, or of another server.
    Elsewhere,
}

/// Bounds of one cut.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Rows of one statement.
    pub rows_max: usize,
    /// Bytes of keys and values of one statement; a single larger row goes alone.
    pub bytes_max: usize,
    /// Bytes of values that the rows of one GET share evenly; a larger value is read alone.
    pub fetch_bytes_max: usize,
    /// Requests that are looked at; bounds the work of one cut whatever waits. Those that are held
    /// back or whose keys are busy do not count: others pass them.
    pub looks_max: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            rows_max: freehold_core::limits::STATEMENT_KEYS_MAX,
            bytes_max: freehold_core::limits::STATEMENT_BYTES_MAX,
            fetch_bytes_max: freehold_core::limits::FETCH_BYTES_MAX,
            looks_max: 8 * freehold_core::limits::STATEMENT_KEYS_MAX,
        }
    }
}

/// The rows of a statement, strictly ascending by key.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Rows {
    Get(Vec<Key>),
    Ttl(Vec<Key>),
    Put(Vec<PutRow>),
    Delete(Vec<Key>),
    Expire(Vec<ExpireRow>),
    Scan(ScanRange),
    Inspect(Key),
}

impl Rows {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Get(keys) | Self::Ttl(keys) | Self::Delete(keys) => keys.len(),
            Self::Put(rows) => rows.len(),
            Self::Expire(rows) => rows.len(),
            Self::Scan(_) | Self::Inspect(_) => 1,
        }
    }

    /// What is to be written; `None` for reads.
    #[must_use]
    pub fn writes(&self) -> Option<Write<'_>> {
        match self {
            Self::Put(rows) => Some(Write::Put(rows)),
            Self::Delete(keys) => Some(Write::Delete(keys)),
            Self::Expire(rows) => Some(Write::Expire(rows)),
            Self::Get(_) | Self::Ttl(_) | Self::Scan(_) | Self::Inspect(_) => None,
        }
    }

    /// Whether there are none: a cut never makes such a batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One statement and who waits for it.
#[derive(Debug)]
pub struct Batch {
    /// What kind of statement.
    pub kind: Kind,
    /// Whether it logs its keys.
    pub logs: bool,
    /// What it carries.
    pub rows: Rows,
    /// The requests in the order in which they came.
    pub requests: Vec<Request>,
    /// For each request, which row is its own.
    pub row_of: Vec<usize>,
}

/// What one cut took out of the backlog.
#[derive(Debug, Default)]
pub struct Cut {
    /// The next statement, unless nothing can be sent from here.
    pub batch: Option<Batch>,
    /// Requests whose deadline passed while they waited.
    pub late: Vec<Request>,
    /// Requests whose slots are not served here any more, in their order.
    pub elsewhere: Vec<Request>,
    /// Places that became free in the queue.
    pub freed_keys: usize,
    /// Bytes that became free in the queue.
    pub freed_bytes: usize,
}

/// Takes the next batch out of `backlog`, without keys that are busy elsewhere. `place` says where
/// requests for a slot belong that need this of their server. Requests that are over are dropped.
pub fn cut(
    backlog: &mut VecDeque<Request>,
    limits: BatchLimits,
    now: Instant,
    is_busy: impl Fn(&Key) -> bool,
    place: impl Fn(Slot, Needs) -> Place,
) -> Cut {
    let mut out = Cut::default();
    let mut picked = Picked {
        row_bytes: HashMap::with_capacity_and_hasher(
            limits.rows_max.min(backlog.len()),
            RandomState::default(),
        ),
        ..Picked::default()
    };
    let mut left = VecDeque::new();
    let mut looks = 0;
    while looks < limits.looks_max && !picked.full {
        let Some(request) = backlog.pop_front() else {
            break;
        };
        let bytes = request.operation.bytes();
        if request.is_over() {
            request.forget();
        } else if request.deadline <= now {
            out.late.push(request);
        } else {
            match place_of(&request, &place) {
                Place::HereLater => {
                    left.push_back(request);
                    continue;
                }
                Place::Elsewhere => out.elsewhere.push(request),
                Place::Here | Place::HereLogged
                    if request.operation.key().is_some_and(&is_busy) =>
                {
                    left.push_back(request);
                    continue;
                }
                place @ (Place::Here | Place::HereLogged) => {
                    let logs = place == Place::HereLogged;
                    if let Some(request) = picked.take(request, logs, limits) {
                        left.push_back(request);
                        looks += 1;
                        continue;
                    }
                }
            }
        }
        looks += 1;
        out.freed_keys += 1;
        out.freed_bytes += bytes;
    }
    // What was looked at and left is older than what was not looked at.
    left.append(backlog);
    *backlog = left;
    out.batch = picked.into_batch();
    out
}

/// Where a request belongs: several slots only to where all of them do.
pub fn place_of(request: &Request, place: impl Fn(Slot, Needs) -> Place) -> Place {
    let needs = request.needs();
    match request.operation.key() {
        Some(key) => place(key.slot(), needs),
        None => {
            let mut places = request.operation.slots().map(|slot| place(slot, needs));
            places
                .find(|place| *place != Place::Here)
                .unwrap_or(Place::Here)
        }
    }
}

/// The batch while it is being picked.
#[derive(Default)]
struct Picked {
    requests: Vec<Request>,
    /// With whether it logs its keys.
    kind: Option<(Kind, bool)>,
    /// Bytes of the row that each key has so far.
    row_bytes: HashMap<Key, usize, RandomState>,
    bytes: usize,
    /// The largest value that is known to be among those to read.
    value_bytes: usize,
    /// Keys with an older request that was left behind.
    blocked: HashSet<Key, RandomState>,
    full: bool,
}

impl Picked {
    /// Takes the request into the batch, or gives it back.
    fn take(&mut self, request: Request, logs: bool, limits: BatchLimits) -> Option<Request> {
        let kind = request.operation.kind();
        if *self.kind.get_or_insert((kind, logs)) != (kind, logs) {
            self.block(&request);
            return Some(request);
        }
        let Some(key) = request.operation.key().cloned() else {
            self.full = true;
            self.requests.push(request);
            return None;
        };
        let bytes = request.operation.bytes();
        let known = self.row_bytes.get(&key).copied();
        let rows = self.row_bytes.len() + usize::from(known.is_none());
        let total = self.bytes - known.unwrap_or(0) + bytes;
        let value_bytes = self.value_bytes.max(request.value_bytes);
        let fits = rows <= limits.rows_max.min(kind.rows_max())
            && (total <= limits.bytes_max || self.requests.is_empty())
            && (rows * value_bytes <= limits.fetch_bytes_max || rows == 1);
        if (!self.blocked.is_empty() && self.blocked.contains(&key))
            || (known.is_some() && !kind.joins_equal_keys())
        {
            self.block(&request);
            return Some(request);
        }
        if !fits {
            self.full = true;
            return Some(request);
        }
        self.bytes = total;
        self.value_bytes = value_bytes;
        self.row_bytes.insert(key, bytes);
        self.requests.push(request);
        None
    }

    fn block(&mut self, request: &Request) {
        if let Some(key) = request
            .operation
            .key()
            .filter(|_| request.operation.kind().is_write())
        {
            self.blocked.insert(key.clone());
        }
    }

    fn into_batch(self) -> Option<Batch> {
        let (kind, logs) = self.kind.filter(|_| !self.requests.is_empty())?;
        let (rows, row_of) = rows_of(kind, &self.requests);
        Some(Batch {
            kind,
            logs,
            rows,
            requests: self.requests,
            row_of,
        })
    }
}

/// The rows of the requests, sorted, each key once with the operation of its last request; and for
/// each request the index of its row.
fn rows_of(kind: Kind, requests: &[Request]) -> (Rows, Vec<usize>) {
    let key = |index: usize| requests[index].operation.key();
    // Slots alone tell nearly all keys apart, and lie side by side here.
    let mut order: Vec<(Option<Slot>, usize)> = (0..requests.len())
        .map(|index| (key(index).map(Key::slot), index))
        .collect();
    // Requests for one key stay in the order in which they came.
    order.sort_unstable_by(|(slot_a, a), (slot_b, b)| {
        slot_a
            .cmp(slot_b)
            .then_with(|| key(*a).cmp(&key(*b)))
            .then(a.cmp(b))
    });
    let mut row_of = vec![0; requests.len()];
    let mut last: Vec<&Operation> = Vec::with_capacity(requests.len());
    for (_, index) in order {
        let operation = &requests[index].operation;
        match last.last_mut() {
            Some(row) if row.key().is_some() && row.key() == operation.key() => *row = operation,
            _ => last.push(operation),
        }
        row_of[index] = last.len() - 1;
    }
    (statement_rows(kind, &last), row_of)
}

fn statement_rows(kind: Kind, operations: &[&Operation]) -> Rows {
    let keys = || {
        operations
            .iter()
            .filter_map(|operation| operation.key().cloned())
            .collect()
    };
    match (kind, operations) {
        (Kind::Scan, [Operation::Scan(range), ..]) => Rows::Scan(range.clone()),
        (Kind::Inspect, [Operation::Inspect(key), ..]) => Rows::Inspect(key.clone()),
        (Kind::Put, _) => Rows::Put(
            operations
                .iter()
                .filter_map(|operation| match operation {
                    Operation::Put(row) => Some(row.clone()),
                    _ => None,
                })
                .collect(),
        ),
        (Kind::Expire, _) => Rows::Expire(
            operations
                .iter()
                .filter_map(|operation| match operation {
                    Operation::Expire(row) => Some(row.clone()),
                    _ => None,
                })
                .collect(),
        ),
        (Kind::Delete, _) => Rows::Delete(keys()),
        (Kind::Ttl, _) => Rows::Ttl(keys()),
        (Kind::Get | Kind::Scan | Kind::Inspect, _) => Rows::Get(keys()),
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
