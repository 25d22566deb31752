//! Statements that are out.

use std::time::Duration;

use freehold_core::Fence;
use freehold_storage::{DataConnection, Outcome, StorageError};
use tokio::time::{Instant, timeout};

use super::{
    Event, Lane,
    execute::{Executed, execute},
};
use crate::{
    batch::{Batch, Rows},
    request::{Kind, Request, Stage},
};

/// A statement that is out, and who waits for it.
pub(super) struct Flight {
    /// Statements of a lane are numbered as they are sent.
    pub(super) number: u64,
    link: usize,
    kind: Kind,
    /// How many rows it carries.
    pub(super) rows: usize,
    pub(super) requests: Vec<Request>,
    row_of: Vec<usize>,
    fence: Fence,
    pub(super) started: Instant,
}

/// What came of a statement.
pub(super) struct Answered {
    number: u64,
    /// Absent if the answer did not come in time.
    connection: Option<Box<dyn DataConnection>>,
    rows: Rows,
    executed: Executed,
}

/// A statement that came back, with those who wait for its answer.
pub(super) struct Landed {
    batch: Batch,
    executed: Executed,
    fence: Fence,
}

impl Lane {
    /// Sends a batch as one statement on a free connection.
    pub(super) fn send(&mut self, link: usize, mut batch: Batch, fence: Fence) {
        let connection = self.links[link].take().expect("the connection is free");
        for request in &mut batch.requests {
            request.stage = Stage::Sent;
        }
        let number = self.flights_begun;
        self.flights_begun += 1;
        self.flights.push(Flight {
            number,
            link,
            kind: batch.kind,
            rows: batch.rows.len(),
            requests: batch.requests,
            row_of: batch.row_of,
            fence,
            started: Instant::now(),
        });
        let statement = run(connection, batch.rows, fence, self.parts.statement_timeout);
        self.jobs.push(Box::pin(async move {
            let (connection, rows, executed) = statement.await;
            Event::Answered(Answered {
                number,
                connection,
                rows,
                executed,
            })
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
        let link = &mut self.links[flight.link];
        if connection.is_none() && flight.kind.is_write() {
            let keys = flight
                .requests
                .iter()
                .filter_map(|request| request.operation.key());
            link.unsettled = keys.cloned().collect();
        }
        link.give_back(connection);
        let took = link.last_used - flight.started;
        self.parts.metrics.statement(flight.kind, flight.rows, took);
        let batch = Batch {
            kind: flight.kind,
            rows: answered.rows,
            requests: flight.requests,
            row_of: flight.row_of,
        };
        let landed = Landed {
            batch,
            executed: answered.executed,
            fence: flight.fence,
        };
        self.settle_landed();
        let at_once = !self.ends_all(&landed);
        self.landed = Some(landed);
        if at_once {
            self.settle_landed();
        }
    }

    /// Answers what landed, if anything did.
    pub(super) fn settle_landed(&mut self) {
        if let Some(landed) = self.landed.take() {
            self.settle(landed.batch, landed.executed, landed.fence);
        }
    }

    /// Whether no write of it goes out again. (Reads may, and have no order.)
    fn ends_all(&self, landed: &Landed) -> bool {
        fn applied<T>(outcomes: &[Outcome<T>]) -> bool {
            let mut outcomes = outcomes.iter();
            outcomes.all(|outcome| matches!(outcome, Outcome::Applied(_)))
        }
        match &landed.executed {
            Executed::Read(read) => self.may_answer(&read.fence, read.answered_by, &landed.fence),
            Executed::Stored(outcomes) => applied(outcomes),
            Executed::Existed(outcomes) => applied(outcomes),
            Executed::Page(_) | Executed::Raw(_) | Executed::Failed(_) => false,
        }
    }
}

async fn run(
    mut connection: Box<dyn DataConnection>,
    rows: Rows,
    fence: Fence,
    answer_within: Duration,
) -> (Option<Box<dyn DataConnection>>, Rows, Executed) {
    match timeout(answer_within, execute(&mut *connection, &rows, &fence)).await {
        Ok(executed) => (Some(connection), rows, executed),
        Err(_) => {
            let reason = format!("no answer within {answer_within:?}").into();
            (None, rows, Executed::Failed(StorageError::Lost { reason }))
        }
    }
}
