//! Answering the requests of a batch from what came back.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use freehold_core::{
    Beat, Fence, Position, ShardMap, Term, Token,
    limits::VALUE_BYTES_MAX,
    planted::{self, Bug},
};
use freehold_storage::{Inspected, Outcome, Row, StorageError, Value};
use tokio::time::Instant;

use super::{
    Lane,
    execute::{Executed, is_closed},
    hooks::{applied_nothing, as_answered, place_of},
};
use crate::{
    batch::{Batch, Rows},
    failure::Failure,
    request::{Answer, Level, Needs, ReadAnswer, Request, Stage},
};

/// How often a request that provably changed nothing goes out again after a broken connection.
const REPEATS_MAX: u8 = 1;

/// What a server showed of itself beside the rows that it read.
pub(super) struct Shown {
    fence: Fence,
    /// Whether it leads by the very fence that the map had: a replica at the address of the leader
    /// shows that fence, too, and may be behind.
    is_leaders: bool,
    /// Whether it was read under that fence, which a closed server does not let through. (A heartbeat
    /// comes with other reads.)
    is_proven: bool,
    /// Whether it is not ahead of the map.
    is_known: bool,
    answered_by: u64,
    /// The heartbeat, if it was read as well.
    beat: Option<Beat>,
}

impl Shown {
    pub(super) fn new(
        fence: Fence,
        answered_by: u64,
        beat: Option<Beat>,
        believed: &Fence,
    ) -> Self {
        Self {
            fence,
            is_leaders: fence.agrees_with(believed) && answered_by == fence.server_id,
            is_proven: beat.is_none(),
            is_known: !fence.is_newer_than(believed),
            answered_by,
            beat,
        }
    }

    /// Whether rows that were read so may be given to this caller, who was routed by the map.
    fn answers(&self, request: &Request) -> bool {
        let planted = planted::is(Bug::EpochIgnoredForReads);
        self.is_leaders || (self.is_known && request.needs() == Needs::Anyone) || planted
    }

    pub(super) fn answers_all(&self, requests: &[Request]) -> bool {
        requests.iter().all(|request| self.answers(request))
    }
}

impl Lane {
    /// Answers every request of the batch, or sends it on its way again.
    /// `position` includes what it wrote, if it is known.
    pub(super) fn settle(
        &mut self,
        batch: Batch,
        executed: Executed,
        position: Option<Position>,
        fence: Fence,
    ) {
        match executed {
            Executed::Read(read) => {
                let shown = Shown::new(read.fence, read.answered_by, read.beat, &fence);
                self.answer_reads(batch, shown, read.rows, fence);
            }
            Executed::TurnedAway => self.turn_away(batch.requests, fence),
            Executed::Page(page) => {
                let shown = Shown::new(page.fence, page.answered_by, page.beat, &fence);
                if !shown.answers_all(&batch.requests) {
                    self.turn_away(batch.requests, fence);
                } else if self.is_behind(&self.map(), &batch.requests, &shown)
                    || !self.is_as_asked(&batch.requests, &shown, self.proven_since(&shown))
                {
                    self.give_up(batch.requests, &self.behind());
                } else {
                    self.end_all(batch, |_| {
                        Answer::Page(page.clone(), None).within(&self.parts.answer_bytes)
                    });
                }
            }
            Executed::Raw(Inspected {
                fence: shown,
                answered_by,
                row,
            }) => {
                if Shown::new(shown, answered_by, None, &fence).answers_all(&batch.requests) {
                    self.end_all(batch, |_| Ok(Answer::Raw(row.clone())));
                } else {
                    self.turn_away(batch.requests, fence);
                }
            }
            Executed::Stored(outcomes) => {
                let outcomes = as_answered(outcomes);
                let versions: Vec<u64> = match &batch.rows {
                    Rows::Put(rows) => rows.iter().map(|row| row.version).collect(),
                    _ => Vec::new(),
                };
                let token = self.token(&fence, position);
                let answer = |row: usize, (): &()| Answer::Stored(versions[row], token.clone());
                self.settle_writes(batch, &outcomes, fence, answer);
            }
            Executed::Existed(outcomes) => {
                let outcomes = as_answered(outcomes);
                let token = self.token(&fence, position);
                let answer = |_, existed: &bool| Answer::Existed(*existed, token.clone());
                self.settle_writes(batch, &outcomes, fence, answer);
            }
            Executed::Failed(error) => self.settle_failure(batch, &error),
        }
    }

    /// Each row has its own outcome; rows that the fence turned away are routed again.
    fn settle_writes<T>(
        &mut self,
        batch: Batch,
        outcomes: &[Outcome<T>],
        fence: Fence,
        answer: impl Fn(usize, &T) -> Answer,
    ) {
        assert_eq!(outcomes.len(), batch.rows.len(), "one outcome per row");
        let failed = |outcome: &Outcome<T>| match outcome {
            Outcome::Failed(error) => Some(error.clone()),
            _ => None,
        };
        if let Some(error) = outcomes.iter().find_map(failed) {
            self.parts.metrics.storage_error(batch.kind, &error);
        }
        let (mut turned_away, mut unsent) = (Vec::new(), Vec::new());
        let mut unreachable = None;
        let now = Instant::now();
        for (mut request, row) in batch.requests.into_iter().zip(batch.row_of) {
            match &outcomes[row] {
                Outcome::Applied(value) => {
                    request.end_at(now, Ok(answer(row, value)));
                }
                Outcome::FenceDisagrees => turned_away.push(request),
                Outcome::Failed(error) if applied_nothing(error) => {
                    unreachable = Some(error);
                    unsent.push(request);
                }
                Outcome::Failed(error) => {
                    let failure = Failure::of_storage(&self.name, error, true);
                    request.end(Err(failure));
                }
            }
        }
        if let Some(error) = unreachable {
            self.again_or_fail(unsent, error);
        }
        if !turned_away.is_empty() {
            self.turn_away(turned_away, fence);
        }
    }

    /// The whole statement failed.
    fn settle_failure(&mut self, mut batch: Batch, error: &StorageError) {
        self.parts.metrics.storage_error(batch.kind, error);
        let requests = std::mem::take(&mut batch.requests);
        let applied_nothing = !batch.kind.is_write() || applied_nothing(error);
        if applied_nothing && error.breaks_connection() {
            self.again_or_fail(requests, error);
        } else {
            // Some past state, which is all that these asked for, a closed server has: without the
            // others they are read under no fence.
            let may_answer = |request: &Request| is_closed(error) && !self.must_lead(request);
            let (again, requests) = requests.into_iter().partition(may_answer);
            self.again_or_fail(again, error);
            let failure = Failure::of_storage(&self.name, error, batch.kind.is_write());
            self.give_up(requests, &failure);
        }
    }

    /// Requests that provably changed nothing, on a connection that is given up: once more, then
    /// failed.
    fn again_or_fail(&mut self, requests: Vec<Request>, error: &StorageError) {
        let (mut again, mut failed) = (Vec::new(), Vec::new());
        for mut request in requests {
            request.stage = Stage::Waiting;
            request.repeats += 1;
            if request.repeats <= REPEATS_MAX {
                &mut again
            } else {
                &mut failed
            }
            .push(request);
        }
        let failure = Failure::of_storage(&self.name, error, false);
        self.give_up(failed, &failure);
        self.put_back(again);
    }

    /// Ahead of everything else that waits in this lane.
    fn put_back(&mut self, requests: Vec<Request>) {
        let bytes = requests
            .iter()
            .map(|request| request.operation.bytes())
            .sum();
        self.parts.queue.readmit(requests.len(), bytes);
        for request in requests.into_iter().rev() {
            self.backlog.push_front(request);
        }
    }

    /// The fence shows something else than the map: load the map, then route these again ahead of
    /// newer requests.
    fn turn_away(&mut self, mut requests: Vec<Request>, fence: Fence) {
        self.parts.metrics.turned_away(requests.len());
        for request in &mut requests {
            request.stage = Stage::Waiting;
        }
        self.put_back(requests);
        self.reload(Some(fence));
    }

    /// Whether the server shows a time before the slots came to this shard: what it has of them
    /// then is not the slots' content.
    fn is_behind(&self, map: &ShardMap, requests: &[Request], shown: &Shown) -> bool {
        if shown.is_leaders {
            return false;
        }
        let view = map.shard(self.parts.shard);
        // What shows an earlier term may follow a former master, for good: what that took since is
        // no past of this shard.
        // So may what shows this term and was not seen in it yet.
        let term = Some(Term::from(&shown.fence));
        if view.term() != term || !self.server().watch.seen().is_of(term) {
            return true;
        }
        requests
            .iter()
            .flat_map(|request| request.operation.slots())
            .any(|slot| {
                view.claim(slot)
                    .is_none_or(|claim| shown.fence.epoch < claim.since_epoch)
            })
    }

    /// A time such that everything that was committed before is in what a replica brought, if that is
    /// known.
    fn proven_since(&self, shown: &Shown) -> Option<Instant> {
        let (shards, shard) = (&self.parts.shards, self.parts.shard);
        shards.proven_since(shard, self.server(), shown.beat, shown.answered_by)
    }

    /// Whether what was read is as fresh as its callers asked for.
    fn is_as_asked(&self, requests: &[Request], shown: &Shown, since: Option<Instant>) -> bool {
        let watch = &self.server().watch;
        requests.iter().all(|request| match &request.level {
            Level::Session(_) => {
                let is_of_term = request.judged.term == Some(Term::from(&shown.fence));
                let has_all = shown.is_leaders
                    || (since.is_some() && request.judged.generation == Some(watch.generation()));
                is_of_term && has_all
            }
            _ if shown.is_leaders => true,
            Level::Bounded(max) => {
                let oldest = request.received.checked_sub(*max);
                since.is_some_and(|since| oldest.is_none_or(|oldest| since >= oldest))
            }
            Level::Strong | Level::Eventual => true,
        })
    }

    /// What writes of this batch hand out.
    fn token(&self, fence: &Fence, position: Option<Position>) -> Bytes {
        let tag = self.parts.shards.tag(self.parts.shard);
        let token = tag.map(|tag| Token::new(tag, fence, position).encode());
        token.unwrap_or_default().into()
    }

    /// Answers each request from its row. Values that were too large for their share of the
    /// statement are read again, by a statement that takes fewer of them, under a fence of its own:
    /// what a lane holds at once is what one statement brings.
    fn answer_reads(
        &mut self,
        batch: Batch,
        shown: Shown,
        mut rows: Vec<Option<Row>>,
        believed: Fence,
    ) {
        assert_eq!(rows.len(), batch.rows.len(), "one row per key");
        let now = Instant::now();
        let each_its_own = batch.requests.len() == rows.len();
        let from_replica = !(shown.is_leaders && self.leads());
        let shard: Arc<str> = self.name.clone();
        // One map for the whole batch.
        let map = self.map();
        let since = (!shown.is_leaders)
            .then(|| self.proven_since(&shown))
            .flatten();
        // Where nobody could have been promoted, what the leader shows is the latest.
        let is_latest = shown.is_leaders && (shown.is_proven || !self.is_replicated());
        let staleness = match is_latest {
            true => Some(Duration::ZERO),
            false => since.map(|since| since.elapsed()),
        };
        let (mut behind, mut again) = (Vec::new(), Vec::new());
        let mut turned_away = Vec::new();
        for (mut request, row) in batch.requests.into_iter().zip(batch.row_of) {
            if !shown.answers(&request) {
                turned_away.push(request);
                continue;
            }
            let alone = std::slice::from_ref(&request);
            if self.is_behind(&map, alone, &shown) || !self.is_as_asked(alone, &shown, since) {
                behind.push(request);
                continue;
            }
            let place = place_of(row, rows.len());
            // Most rows are one request's alone.
            let row = if each_its_own {
                rows[place].take()
            } else {
                rows[place].clone()
            };
            let value = row.as_ref().map(|row| &row.value);
            if let Some(Value::TooLarge { bytes }) = value {
                if *bytes > VALUE_BYTES_MAX {
                    let failure = Failure::Misconfigured(unreadable(*bytes).into());
                    request.end(Err(failure));
                } else if request.has_room(*bytes) {
                    request.read_again(*bytes);
                    again.push(request);
                } else {
                    request.end(Err(Failure::AskAgain));
                }
                continue;
            }
            let answer = Answer::Read(ReadAnswer {
                row,
                shard: shard.clone(),
                from_replica,
                staleness,
                room: None,
            });
            request.end_at(now, answer.within(&self.parts.answer_bytes));
        }
        self.put_back(again);
        if !behind.is_empty() {
            self.give_up(behind, &self.behind());
        }
        if !turned_away.is_empty() {
            self.turn_away(turned_away, believed);
        }
    }

    fn map(&self) -> Arc<ShardMap> {
        self.parts.shards.map.load_full()
    }

    fn behind(&self) -> Failure {
        Failure::Unavailable {
            shard: self.name.clone(),
            reason: "the replica is behind what was asked for".into(),
        }
    }

    fn end_all(&self, batch: Batch, ending: impl Fn(usize) -> Result<Answer, Failure>) {
        for (mut request, row) in batch.requests.into_iter().zip(batch.row_of) {
            request.end(ending(row));
        }
    }

    /// Ends requests that this server cannot answer. A read that a replica could not answer goes to
    /// the master instead, if it may.
    pub(super) fn give_up(&self, requests: Vec<Request>, failure: &Failure) {
        let mut to_master = Vec::new();
        for mut request in requests {
            let fall_back = self.parts.shards.may_fall_back(&request.level);
            let of_replica = request.needs() == Needs::Anyone && !self.leads();
            // The leader's answer may be of a term that the token was not judged by.
            let of_session = matches!(request.level, Level::Session(_));
            if (of_replica && fall_back || of_session && !request.leader_only) && !request.is_over()
            {
                request.leader_only = true;
                request.stage = Stage::Waiting;
                to_master.push(request);
            } else {
                request.end(Err(failure.clone()));
            }
        }
        for request in to_master {
            self.parts.shards.dispatch(request);
        }
    }
}

/// What is said of a value that no PUT stored.
fn unreadable(bytes: usize) -> String {
    format!(
        "the value of this key has {bytes} bytes: at most {VALUE_BYTES_MAX} can be read. It was \
         stored past Freehold: put a smaller value, or delete the key (SELECT slot, HEX(`key`) FROM \
         store WHERE LENGTH(value) > {VALUE_BYTES_MAX} shows all such rows)"
    )
}
