//! The one place where failures become what callers see.
//!
//! Every status made here carries an `ErrorInfo` of domain `freehold`. Its reason, and nothing
//! else, tells a caller what became of a write: any reason but `OUTCOME_UNKNOWN` means that it was
//! not applied.

use std::{collections::HashMap, time::Duration};

use freehold_storage::Refusal;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::failure::Failure;

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "freehold";

/// When to try again after a full queue: a few statements' time.
const RETRY_FULL: Duration = Duration::from_millis(20);

/// When to try again after a router that is at a limit: it waits for callers, not for statements.
const RETRY_OVERLOADED: Duration = Duration::from_millis(500);

/// When to try again after an unavailable shard: about as often as lanes try to reach it.
const RETRY_UNAVAILABLE: Duration = Duration::from_millis(200);

/// When to try again where a move or a plan has to end first.
const RETRY_OCCUPIED: Duration = Duration::from_secs(5);

/// The reason that stands in the `ErrorInfo`.
#[must_use]
pub const fn reason(failure: &Failure) -> &'static str {
    match failure {
        Failure::Invalid { .. } => "INVALID",
        Failure::Full { .. } => "QUEUE_FULL",
        Failure::Overloaded { .. } => "ROUTER_FULL",
        Failure::Occupied { .. } => "ROUTER_OCCUPIED",
        Failure::DeadlineBeforeSending { .. } => "DEADLINE_BEFORE_SENDING",
        Failure::OutcomeUnknown { .. } => "OUTCOME_UNKNOWN",
        Failure::ReadTimedOut { .. } => "READ_TIMED_OUT",
        Failure::Unavailable { .. } | Failure::Moved(_) => "SHARD_UNAVAILABLE",
        Failure::Misconfigured(_) => "MISCONFIGURED",
        Failure::Refused { refusal, .. } => match refusal {
            Refusal::Busy => "DATABASE_BUSY",
            Refusal::ReadOnly => "DATABASE_READ_ONLY",
            Refusal::Schema => "SCHEMA",
            Refusal::Denied => "DATABASE_DENIED",
            Refusal::TooLarge => "DATABASE_PACKET",
            Refusal::Full => "DATABASE_FULL",
            Refusal::Other => "DATABASE_ERROR",
        },
        Failure::SessionLost { .. } => "SESSION_LOST",
        Failure::AskAgain => "ASK_AGAIN",
        Failure::ShuttingDown => "SHUTTING_DOWN",
    }
}

/// The status code of a failure.
#[must_use]
pub const fn code(failure: &Failure) -> Code {
    match failure {
        Failure::Invalid { .. } => Code::InvalidArgument,
        Failure::Full { .. } | Failure::Overloaded { .. } | Failure::Occupied { .. } => {
            Code::ResourceExhausted
        }
        Failure::DeadlineBeforeSending { .. } | Failure::ReadTimedOut { .. } => {
            Code::DeadlineExceeded
        }
        Failure::OutcomeUnknown { .. } => Code::Unknown,
        Failure::Misconfigured(_) | Failure::SessionLost { .. } => Code::FailedPrecondition,
        Failure::Refused { refusal, .. } => match refusal {
            Refusal::Busy | Refusal::ReadOnly | Refusal::Full | Refusal::Other => Code::Unavailable,
            Refusal::Schema | Refusal::Denied | Refusal::TooLarge => Code::FailedPrecondition,
        },
        Failure::Unavailable { .. }
        | Failure::AskAgain
        | Failure::ShuttingDown
        | Failure::Moved(_) => Code::Unavailable,
    }
}

/// When to try again, where that can help.
const fn retry_after(failure: &Failure) -> Option<Duration> {
    match (code(failure), failure) {
        (_, Failure::Overloaded { .. }) => Some(RETRY_OVERLOADED),
        (_, Failure::Occupied { .. }) => Some(RETRY_OCCUPIED),
        (Code::ResourceExhausted, _) => Some(RETRY_FULL),
        (Code::Unavailable, Failure::AskAgain) => Some(Duration::ZERO),
        (Code::Unavailable, _) => Some(RETRY_UNAVAILABLE),
        _ => None,
    }
}

/// The status of a whole call.
#[must_use]
pub fn to_status(failure: &Failure) -> Status {
    Status::with_error_details(code(failure), failure.to_string(), details(failure))
}

/// The status of one item of a batch or a pipeline.
#[must_use]
pub fn to_item(failure: &Failure) -> tonic_types::Status {
    // `Status` keeps its details as this very message, encoded.
    let status = to_status(failure);
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: code(failure) as i32,
        message: failure.to_string(),
        details: Vec::new(),
    })
}

/// The status of a message that gRPC's own layer could not read. No method saw it, so it was not
/// applied; gRPC's words say what is wrong with it.
#[must_use]
pub fn of_unread(status: &Status) -> Status {
    let words = status.message().trim_start_matches("Error, ");
    match status.code() {
        // Not decodable, a broken frame, or larger than messages may be.
        Code::Internal | Code::OutOfRange => to_status(&Failure::invalid("message", words)),
        Code::Unimplemented => {
            let info = ErrorDetails::with_error_info("UNIMPLEMENTED", DOMAIN, HashMap::new());
            Status::with_error_details(Code::Unimplemented, words, info)
        }
        // Whatever else it is, it may have come after a write was sent: no details, no promise.
        _ => status.clone(),
    }
}

fn details(failure: &Failure) -> ErrorDetails {
    let mut metadata = HashMap::new();
    match failure {
        Failure::Full { shard, .. }
        | Failure::Unavailable { shard, .. }
        | Failure::SessionLost { shard }
        | Failure::Refused { shard, .. }
        | Failure::DeadlineBeforeSending { shard }
        | Failure::ReadTimedOut { shard } => {
            metadata.insert("shard".to_owned(), shard.to_string());
        }
        Failure::Overloaded { limit, .. } => {
            metadata.insert("limit".to_owned(), (*limit).to_owned());
        }
        Failure::Invalid { field, .. } => {
            metadata.insert("field".to_owned(), (*field).to_owned());
        }
        _ => {}
    }
    let mut details = ErrorDetails::with_error_info(reason(failure), DOMAIN, metadata);
    if let Failure::Invalid { field, problem } = failure {
        details.add_bad_request_violation(*field, problem.clone());
    }
    if let Some(after) = retry_after(failure) {
        details.set_retry_info(Some(after));
    }
    details
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_says_in_an_error_info_what_became_of_the_request() {
        let failure = Failure::OutcomeUnknown {
            reason: "cut".into(),
        };
        let status = to_status(&failure);
        assert_eq!(status.code(), Code::Unknown);
        let info = status.get_error_details().error_info().cloned().unwrap();
        assert_eq!(
            (info.domain.as_str(), info.reason.as_str()),
            (DOMAIN, "OUTCOME_UNKNOWN")
        );
    }

    #[test]
    fn bad_input_names_its_field() {
        let status = to_status(&Failure::invalid("ttl", "ttl is 0 s: 1 ms to 100 years"));
        let details = status.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(
            (status.code(), violation.field.as_str()),
            (Code::InvalidArgument, "ttl")
        );
    }

    #[test]
    fn what_could_not_be_read_is_the_callers_to_mend() {
        for theirs in [
            Status::internal("bad tag"),
            Status::out_of_range("Error, 9 bytes"),
        ] {
            let status = of_unread(&theirs);
            let details = status.get_error_details();
            let violation = &details.bad_request().unwrap().field_violations[0];
            assert_eq!(
                (status.code(), violation.field.as_str()),
                (Code::InvalidArgument, "message")
            );
            assert!(theirs.message().ends_with(&violation.description));
        }
        let status = of_unread(&Status::unimplemented("compressed"));
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.get_error_details().error_info().is_some());
    }

    #[test]
    fn an_item_carries_the_same_details_as_a_call() {
        let failure = Failure::Full {
            shard: "a".into(),
            what: "the queue",
            limit: "1 requests".into(),
        };
        let item = to_item(&failure);
        assert_eq!(item.code, Code::ResourceExhausted as i32);
        assert_eq!(item.details.len(), 2, "ErrorInfo and RetryInfo");
    }
}
