//! A client: asks one thing after another, and writes down what came of each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_checker::record::{self, Action, Operation, Record, Scan};
use freehold_client::Consistency;
use freehold_proto::v1;
use rand::{RngExt as _, rngs::StdRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::calls::{self, Ended, Question, Way, unary};
use crate::journal::Journal;
use crate::sessions::{Known, Shared};
use crate::workload::{Ask, Level, next};

/// After a failure, so that a dead router is not asked a million times.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// How long a walk may take.
const SCAN_WITHIN: Duration = Duration::from_secs(4);

/// One client.
pub struct Worker {
    /// Its number.
    pub number: u32,
    /// Which keys are its round's.
    pub round: u64,
    /// How it asks.
    pub way: Way,
    /// Its choices.
    pub random: StdRng,
    /// Where it writes.
    pub journal: Arc<Journal>,
    /// How many values it has stored.
    pub values: u64,
    /// Its session.
    pub known: Known,
    /// Sessions that others left.
    pub shared: Arc<Shared>,
}

impl Worker {
    /// Asks until it is stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let has_stream = matches!(self.way, Way::Streamed(_));
            let ask = next(&mut self.random, self.round, has_stream);
            let within = [250, 800, 2_000][self.random.random_range(0..3)];
            if self.random.random_bool(0.02) {
                self.shared.exchange(&mut self.known);
            }
            if !self.ask(ask, Duration::from_millis(within)).await {
                sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }

    /// False if anything failed.
    async fn ask(&mut self, ask: Ask, within: Duration) -> bool {
        match (ask, &mut self.way) {
            (Ask::BatchWrite { keys }, Way::Unary(_)) => self.batch_write(keys, within).await,
            (Ask::BatchGet { keys, level }, Way::Unary(_)) => {
                self.batch_get(keys, level, within).await
            }
            (
                Ask::Scan {
                    prefix,
                    level,
                    page_size,
                },
                Way::Unary(_),
            ) => self.scan(prefix, level, page_size).await,
            (Ask::Burst { asks }, _) => self.burst(asks, within).await,
            // The Rust client's batches are the same calls.
            (Ask::BatchWrite { .. } | Ask::BatchGet { .. } | Ask::Scan { .. }, _) => true,
            (ask, _) => self.burst(vec![ask], within).await,
        }
    }

    fn value(&mut self) -> String {
        self.values += 1;
        format!("w{}-{}", self.number, self.values)
    }

    /// Requests on one key, all at once if there is a stream for them.
    async fn burst(&mut self, asks: Vec<Ask>, within: Duration) -> bool {
        let via = match self.way {
            Way::Unary(_) => "unary",
            Way::Streamed(_) => "Pipeline",
        };
        let mut calls = JoinSet::new();
        for ask in asks {
            let name = self.value();
            let read = consistency(level_of(&ask), &self.known);
            let operation = self.begin(&ask, &name, via, within);
            let (mut way, journal) = (self.way.clone(), self.journal.clone());
            let question = Question {
                ask,
                name,
                read,
                within,
            };
            calls.spawn(async move {
                let ended = calls::single(&mut way, &question).await;
                end(&journal, operation, ended)
            });
        }
        let mut all_well = true;
        while let Some(ended) = calls.join_next().await {
            all_well &= ended.is_ok_and(|ending| self.learn(&ending));
        }
        all_well
    }

    async fn batch_write(&mut self, keys: Vec<(String, bool)>, within: Duration) -> bool {
        let (mut operations, mut writes) = (Vec::new(), Vec::new());
        for (key, is_delete) in keys {
            let name = self.value();
            let (ask, write) = if is_delete {
                let wire = v1::DeleteRequest {
                    key: key.clone().into(),
                };
                (Ask::Delete { key }, v1::write::Write::Delete(wire))
            } else {
                let wire = unary::wire_put(&key, &name, None, 20);
                let (ttl_ms, padding_bytes) = (None, 20);
                let ask = Ask::Put {
                    key,
                    ttl_ms,
                    padding_bytes,
                };
                (ask, v1::write::Write::Put(wire))
            };
            operations.push(self.begin(&ask, &name, "unary", within));
            writes.push(v1::Write { write: Some(write) });
        }
        let Way::Unary(stub) = &self.way else {
            return true;
        };
        let all = unary::batch_write(&mut stub.clone(), writes, within).await;
        self.end_all(operations, all)
    }

    async fn batch_get(&mut self, keys: Vec<String>, level: Level, within: Duration) -> bool {
        let begin = |key: &String| {
            let key = key.clone();
            self.begin(&Ask::Get { key, level }, "", "unary", within)
        };
        let operations = keys.iter().map(begin).collect();
        let Way::Unary(stub) = &self.way else {
            return true;
        };
        let read = consistency(level, &self.known);
        let all = unary::batch_get(&mut stub.clone(), &keys, &read, within).await;
        self.end_all(operations, all)
    }

    async fn scan(&mut self, prefix: String, level: Level, page_size: u32) -> bool {
        let Way::Unary(stub) = &self.way else {
            return true;
        };
        let (id, now) = (self.journal.id(), Instant::now());
        let walk = unary::Walk {
            prefix,
            read: consistency(level, &self.known),
            page_size,
            within: SCAN_WITHIN,
        };
        let walked = unary::scan(&mut stub.clone(), &walk).await;
        let is_lost = is_lost(&walked.status);
        self.journal.note(Record::Scan(Scan {
            id,
            start_ns: self.journal.at_ns(now),
            end_ns: self.journal.now_ns(),
            deadline_ns: Some(self.journal.at_ns(now + SCAN_WITHIN)),
            prefix: walk.prefix,
            is_complete: walked.is_complete,
            level: recorded(level, &self.known, ""),
            rows: walked.rows,
            status: walked.status,
        }));
        if is_lost {
            self.shared.forget(&mut self.known);
        }
        walked.is_complete
    }

    fn begin(&self, ask: &Ask, name: &str, via: &str, within: Duration) -> Operation {
        let operation = begin(&self.journal, self.number, via, ask, name, within);
        let level = recorded(level_of(ask), &self.known, &operation.key);
        Operation { level, ..operation }
    }

    fn end_all(&mut self, operations: Vec<Operation>, all: Vec<Ended>) -> bool {
        let journal = self.journal.clone();
        let pairs = operations.into_iter().zip(all);
        pairs.fold(true, |well, (operation, ended)| {
            self.learn(&end(&journal, operation, ended)) && well
        })
    }

    /// What an ending means for this client's session; false if it failed.
    fn learn(&mut self, ending: &Ending) -> bool {
        if ending.is_lost {
            self.shared.forget(&mut self.known);
        }
        if !ending.token.is_empty() {
            let floor = ending.floor.as_ref().map(|(key, id)| (key.as_str(), *id));
            self.known.add(&ending.token, floor);
        }
        ending.is_well
    }
}

fn level_of(ask: &Ask) -> Level {
    match ask {
        Ask::Get { level, .. } | Ask::Ttl { level, .. } => *level,
        _ => Level::Strong,
    }
}

/// What is asked for. A session that has written nothing has no token to ask with.
fn consistency(level: Level, known: &Known) -> Consistency {
    match level {
        Level::Strong => Consistency::Strong,
        Level::Eventual => Consistency::Eventual,
        Level::Bounded(ms) => Consistency::BoundedStaleness(Duration::from_millis(ms)),
        Level::Session if known.token().is_empty() => Consistency::Strong,
        Level::Session => Consistency::Session(known.token()),
    }
}

/// The same as it is written down.
fn recorded(level: Level, known: &Known, key: &str) -> record::Level {
    match level {
        Level::Strong => record::Level::Strong,
        Level::Eventual => record::Level::Eventual,
        Level::Bounded(ms) => record::Level::Bounded {
            max_staleness_ms: i64::try_from(ms).unwrap_or(i64::MAX),
        },
        Level::Session if known.token().is_empty() => record::Level::Strong,
        Level::Session => record::Level::Session {
            token_of: known.floor(key),
        },
    }
}

/// What is written down before a request is sent.
fn begin(
    journal: &Journal,
    client: u32,
    via: &str,
    ask: &Ask,
    name: &str,
    within: Duration,
) -> Operation {
    let wire_ms = |ms: &Option<u64>| ms.and_then(|ms| i64::try_from(ms).ok());
    let (key, action) = match ask {
        Ask::Put { key, ttl_ms, .. } => {
            let action = Action::Put {
                value: name.to_owned(),
                ttl_ms: wire_ms(ttl_ms),
            };
            (key, action)
        }
        Ask::Delete { key } => (key, Action::Delete { existed: None }),
        Ask::Expire { key, ttl_ms } => {
            let action = Action::Expire {
                ttl_ms: wire_ms(ttl_ms),
                existed: None,
            };
            (key, action)
        }
        Ask::Ttl { key, .. } | Ask::Get { key, .. } => (key, Action::Get { seen: None }),
        _ => unreachable!("not a request on one key"),
    };
    let now = Instant::now();
    Operation {
        id: journal.id(),
        client,
        key: key.clone(),
        start_ns: journal.at_ns(now),
        end_ns: 0,
        deadline_ns: Some(journal.at_ns(now + within)),
        action,
        outcome: record::Outcome::Unknown,
        level: record::Level::Strong,
        by_replica: false,
        staleness_ms: None,
        via: via.to_owned(),
        status: String::new(),
        words: String::new(),
    }
}

/// What one request's end means for its client.
struct Ending {
    is_well: bool,
    /// The token's write was lost in a failover.
    is_lost: bool,
    /// Of a write; else empty.
    token: Bytes,
    /// What has to be seen from now on: of writes that change what is there.
    floor: Option<(String, u64)>,
}

/// Whether a failover lost what the session's token stands for.
fn is_lost(status: &str) -> bool {
    status.ends_with("SESSION_LOST")
}

/// Writes down how a request ended.
fn end(journal: &Journal, mut operation: Operation, ended: Ended) -> Ending {
    operation.end_ns = journal.now_ns();
    operation.outcome = ended.outcome;
    operation.status = ended.status;
    operation.words = ended.words;
    operation.by_replica = ended.by_replica;
    operation.staleness_ms = ended.staleness_ms;
    match &mut operation.action {
        Action::Delete { existed } | Action::Expire { existed, .. } => *existed = ended.existed,
        Action::Get { seen } => *seen = ended.seen,
        Action::Put { .. } => {}
    }
    let is_well = ended.outcome == record::Outcome::Applied;
    let replaces = match operation.action {
        Action::Put { .. } => is_well,
        Action::Delete { existed } => existed == Some(true),
        _ => false,
    };
    let ending = Ending {
        is_well,
        is_lost: is_lost(&operation.status),
        token: ended.token,
        floor: replaces.then(|| (operation.key.clone(), operation.id)),
    };
    journal.note(Record::Operation(operation));
    ending
}
