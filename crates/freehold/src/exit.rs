//! How a command ends: a code for scripts, and words for people.

use std::io;

use freehold_client::{Code, ConnectError, Error};
use freehold_mover::MoveError;
use serde_json::json;

use crate::{cluster::ClusterError, config::ConfigError, output::Output, planning::PlanError};

/// The table in `--help`.
pub(crate) const CODES: &str = "\
Exit codes:
   0  done
   1  a key was not there; lines of an import were bad; doctor or an audit
      found errors; calls of bench failed
   2  wrong usage, input that breaks a limit, or what this version does not do
   3  not applied, or not available: safe to try again; an audit could not
      look at everything
   4  outcome unknown: the write may or may not have been applied
  78  the config cannot be used";

/// The code a process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// Asked and answered: something is not there, or not in order.
    NotFound = 1,
    /// The request itself is wrong.
    Usage = 2,
    /// Nothing was applied.
    NotApplied = 3,
    /// A write may have been applied.
    Unknown = 4,
    /// `EX_CONFIG` of `sysexits.h`.
    Config = 78,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Arguments or input that cannot be used.
    #[error("{0}")]
    Usage(String),
    /// The config cannot be used.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// There is no router to ask.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The router's answer.
    #[error("{0}")]
    Call(#[from] Error),
    /// `init`, `migrate` or a server of the cluster.
    #[error("{0}")]
    Cluster(#[from] ClusterError),
    /// A move that stopped.
    #[error("{0}")]
    Move(#[from] MoveError),
    /// A move that cannot begin, or that stopped in a router; sweepers that there are not.
    #[error("{0}")]
    Stopped(String),
    /// Serving did not begin, or broke off.
    #[error("{0}")]
    Serve(String),
    /// Files and terminals.
    #[error("{what}: {error}")]
    Io {
        /// What was done with what.
        what: String,
        /// What came back.
        error: io::Error,
    },
    /// Whoever read our output went away.
    #[error("output closed")]
    OutputClosed,
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::NoShard { .. } | PlanError::NoPlan(_) => Self::Usage(error.to_string()),
            PlanError::Unowned(_) => Self::Stopped(error.to_string()),
            PlanError::Shard(error) => Self::Move(error),
        }
    }
}

impl Failure {
    pub(crate) fn io(what: impl Into<String>, error: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            error,
        }
    }

    /// The code for scripts.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Call(Error::InvalidArgument { .. }) => Exit::Usage,
            Self::Connect(ConnectError::Address { .. })
            | Self::Call(Error::Refused {
                code: Code::Unimplemented,
                ..
            }) => Exit::Usage,
            Self::Config(_) => Exit::Config,
            Self::Call(Error::OutcomeUnknown { .. }) => Exit::Unknown,
            Self::Call(Error::NotApplied { .. } | Error::Refused { .. })
            | Self::Connect(ConnectError::Unreachable { .. } | ConnectError::NoRandomness { .. })
            | Self::Cluster(_)
            | Self::Move(_)
            | Self::Stopped(_)
            | Self::Serve(_)
            | Self::Io { .. } => Exit::NotApplied,
            // `freehold scan | head` went as it was meant to.
            Self::OutputClosed => Exit::Done,
        }
    }

    /// Tells it on standard error.
    pub(crate) fn report(&self, output: Output) {
        if matches!(self, Self::OutputClosed) {
            return;
        }
        if output.is_json() {
            output.error_json(&json!({ "error": self.to_json() }));
        } else {
            output.error(&self.words());
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Call(Error::OutcomeUnknown { message }) => format!(
                "outcome unknown: {message}\nThe write may or may not have been applied. Read the \
                 key before you repeat it: somebody else may have written it in between."
            ),
            Self::Call(Error::NotApplied {
                reason,
                message,
                retry_after,
            }) => {
                let hint = retry_after
                    .map(|delay| format!("; try again in {}", humantime::format_duration(delay)));
                format!("{message} [{reason}]{}", hint.unwrap_or_default())
            }
            Self::Connect(error @ ConnectError::Unreachable { .. }) => {
                format!("{error}\nIs it running? `freehold serve` starts one.")
            }
            other => other.to_string(),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let message = self.to_string();
        match self {
            Self::Usage(_) => json!({ "kind": "usage", "message": message }),
            Self::Config(error) => {
                let problems: Vec<_> = error
                    .problems
                    .iter()
                    .map(|problem| json!({ "key": problem.key, "problem": problem.words }))
                    .collect();
                json!({ "kind": "config", "message": message, "problems": problems })
            }
            Self::Call(Error::InvalidArgument { field, .. }) => {
                json!({ "kind": "invalid_argument", "field": field, "message": message })
            }
            Self::Call(Error::OutcomeUnknown { .. }) => {
                json!({ "kind": "outcome_unknown", "message": message })
            }
            Self::Call(Error::NotApplied {
                reason,
                retry_after,
                ..
            }) => json!({
                "kind": "not_applied",
                "reason": reason,
                "message": message,
                "retry_after_ms": retry_after.map(|delay| delay.as_millis() as u64),
            }),
            Self::Call(Error::Refused { code, reason, .. }) => json!({
                "kind": "refused",
                "code": format!("{code:?}"),
                "reason": reason,
                "message": message,
            }),
            Self::Connect(_) => json!({ "kind": "unreachable", "message": message }),
            Self::Cluster(error) => error.to_json(),
            Self::Move(_) | Self::Stopped(_) => json!({ "kind": "move", "message": message }),
            Self::Serve(_) => json!({ "kind": "serve", "message": message }),
            Self::Io { .. } | Self::OutputClosed => json!({ "kind": "io", "message": message }),
        }
    }
}
