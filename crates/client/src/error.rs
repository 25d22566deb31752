//! What can come of a call, and what each kind says about a write.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, RpcStatusExt, StatusExt};

use crate::retry::{self, Again};

/// The domain of a router's own `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "freehold";

/// The reason of an `ErrorInfo` that proves nothing.
pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";

/// The reason, made here, of a call that never left this process.
pub const NOT_SENT: &str = "NOT_SENT";

/// The reason, made here, of a read whose answer did not arrive.
pub const NO_ANSWER: &str = "NO_ANSWER";

/// The reason, made here, of a call that found too many others waiting to be sent.
pub const CLIENT_FULL: &str = "CLIENT_FULL";

/// Why a call failed. Every variant but [`Error::OutcomeUnknown`] proves that a write was not
/// applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was applied, and trying again later can help. The client has done so itself, as far
    /// as the deadline and [`RetryOptions`](crate::RetryOptions) let it.
    #[error("{message}")]
    NotApplied {
        /// The router's reason, or [`NOT_SENT`], [`CLIENT_FULL`], or for a read [`NO_ANSWER`].
        reason: String,
        /// For people.
        message: String,
        /// When the router asks not to be tried again before.
        retry_after: Option<Duration>,
    },
    /// The write may or may not have been applied. Repeating it can undo what somebody else wrote
    /// in between.
    #[error("{message}")]
    OutcomeUnknown {
        /// For people.
        message: String,
    },
    /// The request breaks a limit. Nothing was applied; the same request never will be.
    #[error("{message}")]
    InvalidArgument {
        /// Which field of the request.
        field: String,
        /// For people: the limit and the value.
        message: String,
    },
    /// Nothing was applied, and trying again does not help until somebody changes something.
    #[error("{message}")]
    Refused {
        /// gRPC's code.
        code: Code,
        /// The router's reason; empty if it gave none.
        reason: String,
        /// For people: what to do.
        message: String,
    },
}

/// Whether a call could have changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// It could not.
    Read,
    /// It could.
    Write,
}

/// An error, and whether its request may be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) again: Again,
}

impl Failure {
    /// Of a whole call or stream.
    pub(crate) fn of_status(status: &Status, kind: CallKind) -> Self {
        if was_never_sent(status) {
            return Self {
                error: Error::not_sent(status.message()),
                again: Again::Elsewhere,
            };
        }
        let details = status.get_error_details();
        Self::of_parts(status.code(), status.message(), &details, kind)
    }

    /// Of one item of a pipeline or batch.
    pub(crate) fn of_item(status: &tonic_types::Status, kind: CallKind) -> Self {
        let code = Code::from_i32(status.code);
        Self::of_parts(code, &status.message, &status.get_error_details(), kind)
    }

    /// A request was sent and its answer will not come.
    pub(crate) fn no_answer(message: String, kind: CallKind) -> Self {
        Self {
            error: Error::no_answer(message, kind),
            again: retry::after_status(kind, Code::Unavailable, None, None),
        }
    }

    fn of_parts(code: Code, message: &str, details: &ErrorDetails, kind: CallKind) -> Self {
        let reason = our_reason(details);
        let asked = details.retry_info().and_then(|info| info.retry_delay);
        Self {
            error: Error::from_parts(code, message, details, kind),
            again: retry::after_status(kind, code, reason, asked),
        }
    }
}

impl Error {
    pub(crate) fn from_status(status: &Status, kind: CallKind) -> Self {
        Failure::of_status(status, kind).error
    }

    pub(crate) fn not_sent(message: &str) -> Self {
        Self::NotApplied {
            reason: NOT_SENT.to_owned(),
            message: format!("not sent: {message}"),
            retry_after: None,
        }
    }

    /// A call was sent and its answer will not come.
    pub(crate) fn no_answer(message: String, kind: CallKind) -> Self {
        match kind {
            CallKind::Write => Self::OutcomeUnknown { message },
            CallKind::Read => Self::NotApplied {
                reason: NO_ANSWER.to_owned(),
                message,
                retry_after: None,
            },
        }
    }

    fn from_parts(code: Code, message: &str, details: &ErrorDetails, kind: CallKind) -> Self {
        let message = if message.is_empty() {
            code.description()
        } else {
            message
        }
        .to_owned();
        let info = details
            .error_info()
            .filter(|info| info.domain == ERROR_DOMAIN);
        let reason = our_reason(details).map(str::to_owned);
        match (code, kind) {
            (_, CallKind::Write) if reason.as_deref().is_none_or(|r| r == OUTCOME_UNKNOWN) => {
                Self::OutcomeUnknown { message }
            }
            (Code::InvalidArgument, _) => {
                let field = info.and_then(|info| info.metadata.get("field").cloned());
                let violation = || {
                    Some(
                        details
                            .bad_request()?
                            .field_violations
                            .first()?
                            .field
                            .clone(),
                    )
                };
                Self::InvalidArgument {
                    field: field.or_else(violation).unwrap_or_default(),
                    message,
                }
            }
            (
                Code::Unavailable
                | Code::ResourceExhausted
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::Cancelled
                | Code::Internal
                | Code::Unknown,
                _,
            ) => Self::NotApplied {
                reason: reason.unwrap_or_else(|| NO_ANSWER.to_owned()),
                message,
                retry_after: details.retry_info().and_then(|info| info.retry_delay),
            },
            _ => Self::Refused {
                code,
                reason: reason.unwrap_or_default(),
                message,
            },
        }
    }
}

/// The reason of an `ErrorInfo`, if it is a router's own.
fn our_reason(details: &ErrorDetails) -> Option<&str> {
    let info = details.error_info()?;
    (info.domain == ERROR_DOMAIN).then_some(info.reason.as_str())
}

/// Whether a router said it, and not the transport about a router that says nothing.
pub(crate) fn is_a_routers(status: &Status) -> bool {
    our_reason(&status.get_error_details()).is_some()
}

/// Whether the transport says that it had no connection to send on: the one case in which an error
/// without details proves something.
fn was_never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
