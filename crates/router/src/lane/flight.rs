//! Statements that are out.

use std::time::Duration;

use freehold_core::{
    Fence, Position,
    planted::{self, Bug},
};
use freehold_storage::{DataConnection, Outcome, StorageError};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    Event, Lane,
    execute::{Executed, execute},
    link::Unsettled,
    settle::Shown,
};
use crate::{
    batch::{Batch, Rows},
    request::{Kind, Level, Needs, Request, Stage},
};

/// What becomes of statements that are out when another server begins to lead.
const CUT_OFF: &str = "another server leads the shard since it was sent";

/// An answer that took longer proves nothing by itself: the server may have hung while another one
/// was promoted.
const PROMPT: Duration = Duration::from_millis(250);

/// A statement that is out, and who waits for it.
pub(super) struct Flight {
    /// Statements of a lane are numbered as they are sent.
    pub(super) number: u64,
    link: usize,
    kind: Kind,
    logs: bool,
    /// How many rows it carries.
    pub(super) rows: usize,
    pub(super) requests: Vec<Request>,
    row_of: Vec<usize>,
    fence: Fence,
    pub(super) started: Instant,
    /// Dropped to give the statement up: its answer is of no use any more.
    cut_off: Option<oneshot::Sender<()>>,
}

impl Flight {
    /// Gives it up if only the server that leads may answer some of it.
    pub(super) fn cut_off(&mut self) {
        let mut requests = self.requests.iter();
        if requests.any(|request| request.needs() != Needs::Anyone) {
            self.cut_off = None;
        }
    }
}

/// What came of a statement.
pub(super) struct Answered {
    number: u64,
    /// Absent if the answer did not come in time.
    connection: Option<Box<dyn DataConnection>>,
    rows: Rows,
    executed: Executed,
    position: Option<Position>,
}

/// A statement that came back, with those who wait for its answer.
pub(super) struct Landed {
    /// The number of its statement.
    pub(super) number: u64,
    pub(super) batch: Batch,
    executed: Executed,
    position: Option<Position>,
    fence: Fence,
}

impl Lane {
    /// Sends a batch as one statement on a free connection.
    pub(super) fn send(&mut self, link: usize, mut batch: Batch, fence: Fence) {
        let connection = self.links[link].take().expect("the connection is free");
        for request in &mut batch.requests {
            request.stage = Stage::Sent;
        }
        // Another fence than the map's would turn one of them away, whatever it says.
        let mut requests = batch.requests.iter();
        let under_fence = requests.any(|request| self.must_lead(request))
            && !planted::is(Bug::EpochIgnoredForReads);
        let number = self.flights_begun;
        self.flights_begun += 1;
        let (cut_off, is_cut_off) = oneshot::channel();
        self.flights.push(Flight {
            number,
            link,
            kind: batch.kind,
            logs: batch.logs,
            rows: batch.rows.len(),
            requests: batch.requests,
            row_of: batch.row_of,
            fence,
            started: Instant::now(),
            cut_off: Some(cut_off),
        });
        let within = self.parts.statement_timeout;
        let with_position = self.is_replicated();
        let (rows, logs) = (batch.rows, batch.logs);
        let statement = async move {
            let executing = run(
                connection,
                rows,
                logs,
                fence,
                under_fence,
                within,
                is_cut_off,
            );
            let mut answered = executing.await;
            if with_position {
                add_position(&mut answered).await;
            }
            answered
        };
        self.jobs.push(Box::pin(async move {
            let answered = statement.await;
            Event::Answered(Box::new(Answered { number, ..answered }))
        }));
    }

    /// Answers the requests of a statement that came back: at once where some of them go out again,
    /// ahead of what waits; else after the next statement was sent.
    pub(super) fn answered(&mut self, answered: Answered) {
        let is_it = |flight: &Flight| flight.number == answered.number;
        let place = self.flights.iter().position(is_it);
        let flight = self
            .flights
            .swap_remove(place.expect("each statement is answered once"));
        let mut connection = answered.connection;
        if answered.executed.breaks_connection() {
            connection = None;
        }
        match &connection {
            Some(_) => self.note_life(),
            // The server may be gone, or may not lead any more.
            None => {
                let shard = self.parts.shards.shard(self.parts.shard);
                shard.reload.notify_one();
            }
        }
        let link = &mut self.links[flight.link];
        if connection.is_none() && flight.kind.is_write() {
            let keys = flight
                .requests
                .iter()
                .filter_map(|request| request.operation.key());
            link.unsettled = Unsettled::Keys(keys.cloned().collect());
        }
        link.give_back(connection);
        let took = link.last_used - flight.started;
        self.parts.metrics.statement(flight.kind, flight.rows, took);
        let batch = Batch {
            kind: flight.kind,
            logs: flight.logs,
            rows: answered.rows,
            requests: flight.requests,
            row_of: flight.row_of,
        };
        let landed = Landed {
            number: flight.number,
            batch,
            executed: answered.executed,
            position: answered.position,
            fence: flight.fence,
        };
        self.settle_landed();
        let shard = self.parts.shards.shard(self.parts.shard);
        if (took > PROMPT || !shard.is_awake(self.parts.place, flight.started))
            && self.may_have_been_succeeded(&landed)
        {
            return self.doubt(landed);
        }
        let at_once = !self.ends_all(&landed);
        self.landed = Some(landed);
        if at_once {
            self.settle_landed();
        }
    }

    /// Whether another server may lead by now, and may have led before this answer came.
    fn may_have_been_succeeded(&self, landed: &Landed) -> bool {
        let shard = self.parts.shards.shard(self.parts.shard);
        let mut requests = landed.batch.requests.iter();
        shard.is_replicated()
            && !matches!(landed.executed, Executed::Failed(_))
            && requests.any(|request| self.must_lead(request))
    }

    /// Whether only a server that leads may answer this, here. Where no replica could, the leader
    /// answers what has to be fresh.
    pub(super) fn must_lead(&self, request: &Request) -> bool {
        request.needs() != Needs::Anyone || (self.leads() && request.level != Level::Eventual)
    }

    /// Keeps an answer back until it is certain that its server led when it came.
    fn doubt(&mut self, landed: Landed) {
        let number = landed.number;
        self.doubted.push(landed);
        let (shards, parts) = (self.parts.shards.clone(), &self.parts);
        let (shard, place) = (parts.shard, parts.place);
        let wait_max = parts.statement_timeout;
        self.jobs.push(Box::pin(async move {
            let leads = timeout(wait_max, shards.still_leads(shard, place)).await;
            Event::Confirmed(number, leads.unwrap_or(false))
        }));
    }

    /// Answers what was kept back.
    pub(super) fn confirmed(&mut self, number: u64, leads: bool) {
        let is_it = |landed: &Landed| landed.number == number;
        let Some(place) = self.doubted.iter().position(is_it) else {
            return;
        };
        let mut landed = self.doubted.swap_remove(place);
        if !leads {
            let reason = CUT_OFF.into();
            landed.executed = Executed::Failed(StorageError::Lost { reason });
        }
        self.settle(landed.batch, landed.executed, landed.position, landed.fence);
    }

    /// Answers what landed, if anything did.
    pub(super) fn settle_landed(&mut self) {
        if let Some(landed) = self.landed.take() {
            self.settle(landed.batch, landed.executed, landed.position, landed.fence);
        }
    }

    /// Whether no write of it goes out again. (Reads may, and have no order.)
    fn ends_all(&self, landed: &Landed) -> bool {
        fn applied<T>(outcomes: &[Outcome<T>]) -> bool {
            let mut outcomes = outcomes.iter();
            outcomes.all(|outcome| matches!(outcome, Outcome::Applied(_)))
        }
        match &landed.executed {
            Executed::Read(read) => {
                Shown::new(read.fence, read.answered_by, read.beat, &landed.fence)
                    .answers_all(&landed.batch.requests)
            }
            Executed::Stored(outcomes) => applied(outcomes),
            Executed::Existed(outcomes) => applied(outcomes),
            Executed::TurnedAway | Executed::Page(_) | Executed::Raw(_) | Executed::Failed(_) => {
                false
            }
        }
    }
}

/// How long the position of a write that was answered is waited for.
const POSITION_WAIT_MAX: Duration = Duration::from_secs(1);

async fn run(
    mut connection: Box<dyn DataConnection>,
    rows: Rows,
    logs: bool,
    fence: Fence,
    under_fence: bool,
    answer_within: Duration,
    is_cut_off: oneshot::Receiver<()>,
) -> Answered {
    let executing = execute(&mut *connection, &rows, logs, &fence, under_fence);
    let executed = tokio::select! {
        biased;
        _ = is_cut_off => Err(CUT_OFF.to_owned()),
        executed = timeout(answer_within, executing) => {
            executed.map_err(|_| format!("no answer within {answer_within:?}"))
        }
    };
    let (connection, executed) = match executed {
        Ok(executed) => (Some(connection), executed),
        Err(reason) => {
            let reason = reason.into();
            (None, Executed::Failed(StorageError::Lost { reason }))
        }
    };
    Answered {
        number: 0,
        connection,
        rows,
        executed,
        position: None,
    }
}

/// Asks where the history is that has the write: once for all that was in the statement.
///
/// Where the server dies in that moment, nobody would know after a failover whether a token without
/// position is of a write that was lost. Such a write is of unknown outcome, and hands out none.
async fn add_position(answered: &mut Answered) {
    if !answered.executed.wrote() {
        return;
    }
    let Some(connection) = &mut answered.connection else {
        return;
    };
    let reason = match timeout(POSITION_WAIT_MAX, connection.written_position()).await {
        Ok(Ok(position)) => {
            answered.position = position;
            return;
        }
        // The server lives, and its shard has this term.
        Ok(Err(error)) if !error.breaks_connection() => return,
        Ok(Err(error)) => format!("the server was lost after the write: {error}"),
        Err(_) => format!("no position of the write within {POSITION_WAIT_MAX:?}"),
    };
    answered.connection = None;
    answered.executed.lose(&reason.into());
}
