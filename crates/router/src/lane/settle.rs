//! Answering the requests of a batch from what came back.

use std::sync::Arc;

use freehold_core::{Fence, ShardMap, limits::VALUE_BYTES_MAX};
use freehold_storage::{Inspected, Outcome, Row, StorageError, Value};

use super::{Lane, Role, execute::Executed};
use crate::{
    batch::{Batch, Rows},
    failure::Failure,
    request::{Answer, Level, ReadAnswer, Request, Stage},
};

/// How often a request that provably changed nothing goes out again after a broken connection.
const REPEATS_MAX: u8 = 1;

impl Lane {
    /// Answers every request of the batch, or sends it on its way again.
    pub(super) fn settle(&mut self, batch: Batch, executed: Executed, fence: Fence) {
        match executed {
            Executed::Read(read) => {
                if self.may_answer(&read.fence, read.answered_by, &fence) {
                    self.answer_reads(batch, &read.fence, read.rows);
                } else {
                    self.turn_away(batch.requests, fence);
                }
            }
            Executed::Page(page) => {
                if !self.may_answer(&page.fence, page.answered_by, &fence) {
                    self.turn_away(batch.requests, fence);
                } else if self.is_behind(&self.map(), &batch.requests, &page.fence) {
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
                if self.may_answer(&shown, answered_by, &fence) {
                    self.end_all(batch, |_| Ok(Answer::Raw(row.clone())));
                } else {
                    self.turn_away(batch.requests, fence);
                }
            }
            Executed::Stored(outcomes) => {
                let versions: Vec<u64> = match &batch.rows {
                    Rows::Put(rows) => rows.iter().map(|row| row.version).collect(),
                    _ => Vec::new(),
                };
                let answer = |row: usize, (): &()| Answer::Stored(versions[row]);
                self.settle_writes(batch, &outcomes, fence, answer);
            }
            Executed::Existed(outcomes) => {
                let answer = |_, existed: &bool| Answer::Existed(*existed);
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
        for (mut request, row) in batch.requests.into_iter().zip(batch.row_of) {
            match &outcomes[row] {
                Outcome::Applied(value) => {
                    request.end(Ok(answer(row, value)));
                }
                Outcome::FenceDisagrees => turned_away.push(request),
                Outcome::Failed(error @ StorageError::Unreachable { .. }) => {
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
        let applied_nothing =
            !batch.kind.is_write() || matches!(error, StorageError::Unreachable { .. });
        if applied_nothing && error.breaks_connection() {
            self.again_or_fail(requests, error);
        } else {
            let failure = Failure::of_storage(&self.name, error, batch.kind.is_write());
            self.give_up(requests, &failure);
        }
    }

    /// Requests that provably changed nothing, on a connection that broke: once more, then failed.
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

    /// Whether rows read under the fence `shown` may be given to callers routed by `believed`. A
    /// master must show the very fence and be the server that it names, as for a write: a replica
    /// behind the master's address shows the same fence, and may be behind. A replica may, too, but
    /// it may not be ahead.
    pub(super) fn may_answer(&self, shown: &Fence, answered_by: u64, believed: &Fence) -> bool {
        match self.parts.role {
            Role::Master => shown.agrees_with(believed) && answered_by == shown.server_id,
            Role::Replica(_) => !shown.is_newer_than(believed),
        }
    }

    /// Whether the server shows a time before the slots came to this shard: what it has of them
    /// then is not the slots' content.
    fn is_behind(&self, map: &ShardMap, requests: &[Request], shown: &Fence) -> bool {
        if self.parts.role == Role::Master {
            return false;
        }
        let view = map.shard(self.parts.shard);
        requests
            .iter()
            .flat_map(|request| request.operation.slots())
            .any(|slot| {
                view.claim(slot)
                    .is_none_or(|claim| shown.epoch < claim.since_epoch)
            })
    }

    /// Answers each request from its row. Values that were too large for their share of the
    /// statement are read again, by a statement that takes fewer of them, under a fence of its own:
    /// what a lane holds at once is what one statement brings.
    fn answer_reads(&mut self, batch: Batch, shown: &Fence, rows: Vec<Option<Row>>) {
        assert_eq!(rows.len(), batch.rows.len(), "one row per key");
        let from_replica = self.parts.role != Role::Master;
        let shard: Arc<str> = self.name.clone();
        // One map for the whole batch.
        let map = self.map();
        let (mut behind, mut again) = (Vec::new(), Vec::new());
        for (mut request, row) in batch.requests.into_iter().zip(batch.row_of) {
            if from_replica && self.is_behind(&map, std::slice::from_ref(&request), shown) {
                behind.push(request);
                continue;
            }
            let row = rows[row].clone();
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
                room: None,
            });
            request.end(answer.within(&self.parts.answer_bytes));
        }
        self.put_back(again);
        if !behind.is_empty() {
            self.give_up(behind, &self.behind());
        }
    }

    fn map(&self) -> Arc<ShardMap> {
        self.parts.shards.map.load_full()
    }

    fn behind(&self) -> Failure {
        Failure::Unavailable {
            shard: self.name.clone(),
            reason: "the replica has not yet seen the slot arrive".into(),
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
        let fall_back = self.parts.role != Role::Master && self.parts.shards.may_fall_back();
        let mut to_master = Vec::new();
        for mut request in requests {
            if fall_back && !request.is_over() {
                request.level = Level::Strong;
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
