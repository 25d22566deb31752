//! What SQLite's errors mean to whoever asked.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use crate::error::{Refusal, StorageError};

/// A statement failed before COMMIT: its transaction is rolled back.
///
/// SQLite's messages name tables, columns and files, never what is stored in them. rusqlite's own
/// variants may quote values, so of those only the kind is told.
pub(super) fn refused(error: &Error) -> StorageError {
    let (refusal, code, message) = match error {
        Error::QueryReturnedNoRows => (
            Refusal::Schema,
            0,
            "the fence row is missing: run freehold init".to_owned(),
        ),
        Error::SqliteFailure(code, message) => {
            let message = message.clone().unwrap_or_else(|| code.to_string());
            (refusal(code.code, &message), code.extended_code, message)
        }
        Error::SqlInputError {
            error: code, msg, ..
        } => (refusal(code.code, msg), code.extended_code, msg.clone()),
        Error::InvalidColumnType(_, name, found) => {
            let message = format!("column {name} holds {found}, which Freehold never stores there");
            (Refusal::Other, 0, message)
        }
        _ => (
            Refusal::Other,
            0,
            "the driver failed on its own account".to_owned(),
        ),
    };
    StorageError::Refused {
        refusal,
        code: code.cast_unsigned(),
        message: message.into(),
    }
}

/// COMMIT failed.
///
/// A full disk tears the last frame of the log, and a commit counts only with that frame: it was
/// not applied. Busy leaves the transaction open, and it is rolled back. After anything else a
/// later recovery may still find the commit in the log.
pub(super) fn commit_failed(error: &Error) -> StorageError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => refused(error),
        _ => StorageError::Lost {
            reason: format!("commit failed: {error}").into(),
        },
    }
}

/// The file could not be opened.
pub(super) fn unreachable(path: &Path, error: &dyn std::fmt::Display) -> StorageError {
    StorageError::Unreachable {
        reason: format!("{}: {error}", path.display()).into(),
    }
}

fn refusal(code: ErrorCode, message: &str) -> Refusal {
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Refusal::Busy,
        ErrorCode::ReadOnly => Refusal::ReadOnly,
        ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => Refusal::Denied,
        ErrorCode::TooBig => Refusal::TooLarge,
        ErrorCode::DiskFull => Refusal::Full,
        // One number stands for every mistake in a statement; the words tell them apart.
        ErrorCode::Unknown if message.starts_with("no such ") => Refusal::Schema,
        _ => Refusal::Other,
    }
}
