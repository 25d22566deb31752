//! How calls end, and the one way in which each is waited for. [`unary`] makes them as any gRPC
//! client does, [`streamed`] through the Rust client.

pub mod streamed;
pub mod unary;

use std::time::Duration;

use bytes::Bytes;
use freehold_checker::record::{Outcome, Seen};
use freehold_client::{Client, Consistency, Error};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, RpcStatusExt as _, StatusExt as _};

pub use self::unary::Stub;
use crate::workload::Ask;

/// How long a call that does not end by its deadline is waited for.
const OVER_DEADLINE: Duration = Duration::from_secs(5);

/// The Rust client's own reason of a read whose answer did not come: no router said so.
const NO_ANSWER: &str = "NO_ANSWER";

/// How a router's own words of an outcome that is unknown begin. The client's begin otherwise.
const ROUTERS_WORDS: &str = "outcome unknown: ";

/// How a worker asks.
#[derive(Clone)]
pub enum Way {
    /// By single methods and batches, of one router.
    Unary(Stub),
    /// Through the Rust client, of both.
    Streamed(Client),
}

/// A request on one key, with everything that goes into it.
#[derive(Debug, Clone)]
pub struct Question {
    /// What is asked.
    pub ask: Ask,
    /// The value of a put.
    pub name: String,
    /// How fresh a read must be.
    pub read: Consistency,
    /// How long the caller waits.
    pub within: Duration,
}

/// Asks for one key.
pub async fn single(way: &mut Way, question: &Question) -> Ended {
    let call = async {
        match way {
            Way::Unary(stub) => unary::single(stub, question)
                .await
                .map_err(|status| Box::new(Ended::of_status(&status))),
            Way::Streamed(client) => streamed::single(client, question)
                .await
                .map_err(|error| Box::new(Ended::of_error(&error))),
        }
    };
    let ended = awaited(question.within, call).await;
    ended.unwrap_or_else(|failed| *failed)
}

/// What became of a call, however long after its deadline: at some time it is given up.
async fn awaited<T>(
    within: Duration,
    call: impl Future<Output = Result<T, Box<Ended>>>,
) -> Result<T, Box<Ended>> {
    let ended = timeout(within + OVER_DEADLINE, call).await;
    ended.unwrap_or_else(|_| Err(Box::new(Ended::never())))
}

/// How one request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What became of it.
    pub outcome: Outcome,
    /// Code and reason, empty if it ended well.
    pub status: String,
    /// What was said besides, for people.
    pub words: String,
    /// Of a delete and an expire.
    pub existed: Option<bool>,
    /// Of a read.
    pub seen: Option<Seen>,
    /// Whether a replica answered.
    pub by_replica: bool,
    /// The answer's bound of its age.
    pub staleness_ms: Option<i64>,
    /// Of a write.
    pub token: Bytes,
}

impl Ended {
    fn well() -> Self {
        Self {
            outcome: Outcome::Applied,
            status: String::new(),
            words: String::new(),
            existed: None,
            seen: None,
            by_replica: false,
            staleness_ms: None,
            token: Bytes::new(),
        }
    }

    fn stored(token: Bytes) -> Self {
        Self {
            token,
            ..Self::well()
        }
    }

    fn existed(existed: bool, token: Bytes) -> Self {
        Self {
            existed: Some(existed),
            ..Self::stored(token)
        }
    }

    fn failed(code: &str, reason: &str) -> Self {
        let outcome = match reason {
            "" | "OUTCOME_UNKNOWN" => Outcome::Unknown,
            _ => Outcome::NotApplied,
        };
        Self {
            outcome,
            status: format!("{code} {reason}").trim_end().to_owned(),
            ..Self::well()
        }
    }

    /// Of a whole call.
    pub fn of_status(status: &Status) -> Self {
        let failed = Self::failed(name(status.code()), &reason(&status.get_error_details()));
        failed.saying(status.message())
    }

    /// Of one item of a batch.
    pub fn of_item(status: &tonic_types::Status) -> Self {
        let details = status.get_error_details();
        let failed = Self::failed(name(Code::from_i32(status.code)), &reason(&details));
        failed.saying(&status.message)
    }

    fn saying(self, words: &str) -> Self {
        Self {
            words: words.to_owned(),
            ..self
        }
    }

    fn of_error(error: &Error) -> Self {
        let failed = match error {
            Error::NotApplied { reason, .. } if reason == NO_ANSWER => {
                Self::failed("UNAVAILABLE", "")
            }
            Error::NotApplied { reason, .. } => Self::failed(code_of(reason), reason),
            Error::OutcomeUnknown { message } if message.starts_with(ROUTERS_WORDS) => {
                Self::failed("UNKNOWN", "OUTCOME_UNKNOWN")
            }
            Error::OutcomeUnknown { .. } => Self::failed("UNKNOWN", ""),
            Error::InvalidArgument { .. } => Self::failed("INVALID_ARGUMENT", "INVALID"),
            Error::Refused { code, reason, .. } => Self::failed(name(*code), reason),
        };
        failed.saying(&error.to_string())
    }

    /// No answer, long after the deadline.
    pub fn never() -> Self {
        Self::failed("NEVER", "")
    }
}

/// The code that comes with a reason, which the client does not tell.
fn code_of(reason: &str) -> &'static str {
    match reason {
        "QUEUE_FULL" | "ROUTER_FULL" => "RESOURCE_EXHAUSTED",
        "DEADLINE_BEFORE_SENDING" | "READ_TIMED_OUT" => "DEADLINE_EXCEEDED",
        _ => "UNAVAILABLE",
    }
}

fn reason(details: &ErrorDetails) -> String {
    let info = details
        .error_info()
        .filter(|info| info.domain == "freehold");
    info.map_or_else(String::new, |info| info.reason.clone())
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        _ => "OTHER",
    }
}
