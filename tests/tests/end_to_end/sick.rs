//! Callers of a master that is about to fail.

use std::time::Duration;

use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    history::{Ending, History},
    scene::{Result, keys_of},
    wire::{self, Stub, Verdict},
};

/// What most callers of the sick master give each request. It is later than the router's own limit,
/// so that an answer has time to come on a busy machine.
pub(crate) const PATIENT: Duration = Duration::from_secs(3);

/// What some of them give: earlier than the router's own limit.
pub(crate) const IMPATIENT: Duration = Duration::from_millis(900);

/// How a request to the sick master ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) write: bool,
    pub(crate) deadline: Duration,
    pub(crate) verdict: Verdict,
}

impl Ended {
    /// Whether code and reason fit each other and the request. An `ErrorInfo` is there, so it is
    /// the router's own answer, which therefore came in time.
    pub(crate) fn is_truthful(&self) -> bool {
        let reason = self.verdict.reason.as_str();
        match (self.write, self.verdict.code) {
            (_, Code::Ok) => true,
            (true, Code::Unknown) => reason == "OUTCOME_UNKNOWN",
            (true, Code::DeadlineExceeded) => reason == "DEADLINE_BEFORE_SENDING",
            (false, Code::DeadlineExceeded) => {
                ["READ_TIMED_OUT", "DEADLINE_BEFORE_SENDING"].contains(&reason)
            }
            (_, Code::Unavailable) => reason == "SHARD_UNAVAILABLE",
            _ => false,
        }
    }
}

/// Callers of the sick master, who note how each request ended.
pub(crate) struct Sick {
    stop: CancellationToken,
    callers: JoinSet<(History, Vec<Ended>)>,
}

impl Sick {
    /// Eight writers and four readers, one request at a time each.
    pub(crate) fn start(stub: &Stub) -> Self {
        let stop = CancellationToken::new();
        let mut callers = JoinSet::new();
        for number in 0..8 {
            callers.spawn(write(stub.clone(), number, stop.clone()));
        }
        for number in 0..4 {
            callers.spawn(read(stub.clone(), number, stop.clone()));
        }
        Self { stop, callers }
    }

    pub(crate) async fn stop(mut self) -> Result<(History, Vec<Ended>)> {
        self.stop.cancel();
        let (mut history, mut endings) = (History::default(), Vec::new());
        while let Some(caller) = self.callers.join_next().await {
            let (written, ended) = caller?;
            history.merge(written);
            endings.extend(ended);
        }
        Ok((history, endings))
    }
}

/// Every fourth caller is impatient.
fn deadline_of(number: u32) -> Duration {
    if number.is_multiple_of(4) {
        IMPATIENT
    } else {
        PATIENT
    }
}

/// Every write goes to a key of its own, twice.
async fn write(stub: Stub, number: u32, stop: CancellationToken) -> (History, Vec<Ended>) {
    let deadline = deadline_of(number);
    let (mut history, mut endings) = (History::default(), Vec::new());
    for key in keys_of(0, 2, &format!("sick{number}")) {
        for value in ["1", "2"] {
            let verdict = wire::put(&stub, &key, value, deadline).await;
            let ending = verdict.of_write();
            history.note(&key, Some(value.to_owned()), ending);
            rest(&verdict).await;
            endings.push(Ended {
                write: true,
                deadline,
                verdict,
            });
            if ending == Ending::Unknown {
                break;
            }
        }
        if stop.is_cancelled() {
            break;
        }
    }
    (history, endings)
}

async fn read(stub: Stub, number: u32, stop: CancellationToken) -> (History, Vec<Ended>) {
    let deadline = deadline_of(number);
    let mut endings = Vec::new();
    for key in keys_of(0, 2, &format!("read{number}")) {
        let verdict = wire::get(&stub, &key, deadline).await;
        rest(&verdict).await;
        endings.push(Ended {
            write: false,
            deadline,
            verdict,
        });
        if stop.is_cancelled() {
            break;
        }
    }
    (History::default(), endings)
}

/// Between two requests; longer after a failure, as callers do.
async fn rest(verdict: &Verdict) {
    sleep(Duration::from_millis(if verdict.code == Code::Ok {
        5
    } else {
        20
    }))
    .await;
}
