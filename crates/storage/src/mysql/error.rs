//! What the server's and the driver's errors mean: refused, never sent, or lost.
//!
//! The rule for a write: an error number is a refusal only if every place in both servers that
//! raises it has rolled the statement back, or never began it. A number that is not in the list is
//! [`StorageError::Lost`], however unlikely it is that the write was applied. Left out on purpose:
//!
//! - 1180 (error during COMMIT) and 1026 (the binlog could not be written): the engine may have
//!   committed already.
//! - 3100, 3101 (Group Replication's hooks): the group may have the transaction although this
//!   member gave up waiting for it.
//! - 1158 to 1161 (network errors, told late): the statement had begun.
//! - 1053, 1317, 1927, 1969, 3024 (somebody or a time limit ended the statement, the connection or
//!   the server): both servers look for it before they commit, but not only then. Seen with
//!   semi-synchronous replication and a frozen replica: to KILL QUERY of the commit that waits for
//!   it MariaDB answers success, MySQL goes on waiting; to KILL and to a shutdown the connection
//!   breaks or success is answered. In each case the row was stored. Group Replication's waits were
//!   not tried.

use mysql_async::{DriverError, Error, IoError};

use crate::error::{Refusal, StorageError};

/// A deadlock: this transaction was chosen and rolled back.
pub(super) const DEADLOCK: u16 = 1213;
/// A row lock was not had in time: the statement is rolled back.
pub(super) const LOCK_WAIT_TIMEOUT: u16 = 1205;
/// A number outside of its type: what the fence in a PUT answers with.
pub(super) const OUT_OF_RANGE: u16 = 1690;
/// KILL of a session that is not there any more.
pub(super) const NO_SUCH_SESSION: u16 = 1094;
/// The account lacks a right that the whole server asks for.
pub(super) const LACKS_PRIVILEGE: u16 = 1227;
/// `max_prepared_stmt_count` is reached.
pub(super) const NO_ROOM_TO_PREPARE: u16 = 1461;
/// What the client sent is larger than `max_allowed_packet`.
pub(super) const PACKET_TOO_LARGE: u16 = 1153;

/// MySQL's goodbye to a connection that was idle for `wait_timeout`.
const IDLE_TOO_LONG: u16 = 4031;

/// The kind of a refusal, if the number proves that nothing was applied.
pub(super) fn refusal(code: u16) -> Option<Refusal> {
    Some(match code {
        // Locks and deadlocks; limits of connections, of an account's rate and of statements;
        // a statement whose table changed while it was prepared.
        LOCK_WAIT_TIMEOUT | DEADLOCK | 1040 | 1203 | 1226 | NO_ROOM_TO_PREPARE | 1615 => {
            Refusal::Busy
        }
        // read_only, super_read_only, a session that may only read; innodb_read_only, for which
        // MariaDB has 1036 and MySQL the lock of a file (1015).
        1015 | 1036 | 1290 | 1792 | 1836 => Refusal::ReadOnly,
        // No such database, table or column.
        1049 | 1054 | 1146 | 1932 => Refusal::Schema,
        // Accounts, hosts, passwords that have to be changed, rights of every width.
        1044 | 1045 | 1129 | 1130 | 1142 | 1143 | LACKS_PRIVILEGE | 1370 | 1698 | 1820 | 1862
        | 3118 | 4151 => Refusal::Denied,
        // A value, a row, a transaction's share of the binlog cache.
        1118 | 1197 | 1406 => Refusal::TooLarge,
        1021 | 1114 => Refusal::Full,
        // Found while the statement was read, or in a value of one of its rows.
        1048 | 1064 | 1193 | 1210 | 1231 | 1264 | 1292 | 1364 | 1366 | OUT_OF_RANGE => {
            Refusal::Other
        }
        // Strictness of GTIDs and of Group Replication, asked before the first row is touched.
        1785 | 3098 => Refusal::Other,
        _ => return None,
    })
}

/// What was being done when the driver failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Connecting or preparing: no statement was on its way.
    Preparing,
    /// Reading: nothing can be applied.
    Reading,
    /// A write was on its way, and nothing of it had answered.
    Writing,
    /// A write had answered, and what came after it failed: it may be applied.
    Reporting,
}

/// What an error of the driver means to whoever asked.
pub(super) fn storage_error(error: &Error, doing: Doing) -> StorageError {
    match error {
        // The server reads nothing more from this connection, and did not read this statement. (Of
        // a write that had answered before, this says nothing.)
        Error::Server(server)
            if doing != Doing::Reporting
                && matches!(server.code, PACKET_TOO_LARGE | IDLE_TOO_LONG) =>
        {
            unreachable(format!("{} (error {})", server.message, server.code))
        }
        Error::Server(server) => {
            let known = refusal(server.code);
            match (known, doing) {
                (Some(refusal), Doing::Preparing | Doing::Reading | Doing::Writing) => {
                    refused(refusal, server.code, &server.message)
                }
                (None, Doing::Preparing | Doing::Reading) => {
                    refused(Refusal::Other, server.code, &server.message)
                }
                (None, Doing::Writing) | (_, Doing::Reporting) => StorageError::Lost {
                    reason: format!("{} (error {})", server.message, server.code).into(),
                },
            }
        }
        other if doing == Doing::Preparing => unreachable(words(other)),
        other => StorageError::Lost {
            reason: words(other).into(),
        },
    }
}

/// A refusal in the server's words.
///
/// The words of some errors quote the key or the value that they are about; those are left out.
pub(super) fn refused(refusal: Refusal, code: u16, message: &str) -> StorageError {
    let quotes_data = matches!(code, 1062 | 1064 | 1292 | 1366 | OUT_OF_RANGE);
    let message = if quotes_data {
        "its words may quote data and are left out".into()
    } else {
        message.into()
    };
    StorageError::Refused {
        refusal,
        code: code.into(),
        message,
    }
}

/// Nothing was sent.
pub(super) fn unreachable(reason: impl Into<String>) -> StorageError {
    StorageError::Unreachable {
        reason: reason.into().into(),
    }
}

/// An answer that is not what the tables hold.
pub(super) fn unexpected(what: &str) -> StorageError {
    StorageError::Refused {
        refusal: Refusal::Other,
        code: 0,
        message: format!("{what} is not what Freehold stores there").into(),
    }
}

/// The driver's words without what it may quote: rows, packets, parameters.
fn words(error: &Error) -> String {
    match error {
        Error::Io(IoError::Io(error)) => error.to_string(),
        Error::Io(IoError::Tls(error)) => format!("TLS: {error}"),
        Error::Driver(
            error @ (DriverError::ConnectionClosed
            | DriverError::NoClientSslFlagFromServer
            | DriverError::UnknownAuthPlugin { .. }
            | DriverError::CleartextPluginDisabled
            | DriverError::MysqlOldPasswordDisabled),
        ) => error.to_string(),
        _ => "the server answered what the driver does not understand".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use mysql_async::ServerError;

    use super::*;

    fn server(code: u16) -> Error {
        Error::Server(ServerError {
            code,
            message: "Duplicate entry 'secret'".to_owned(),
            state: "HY000".to_owned(),
        })
    }

    #[test]
    fn a_write_is_refused_only_by_numbers_that_prove_it() {
        for code in 1_000..5_000 {
            let error = storage_error(&server(code), Doing::Writing);
            let is_refused = matches!(error, StorageError::Refused { .. });
            assert_eq!(is_refused, refusal(code).is_some(), "{code}");
        }
        for unread in [PACKET_TOO_LARGE, IDLE_TOO_LONG] {
            let error = storage_error(&server(unread), Doing::Writing);
            assert!(
                matches!(error, StorageError::Unreachable { .. }),
                "{unread}"
            );
        }
        for unproven in [
            1_026, 1_053, 1_180, 1_317, 1_927, 1_969, 3_024, 3_100, 3_101, 9_999,
        ] {
            assert_eq!(refusal(unproven), None, "{unproven}");
        }
    }

    #[test]
    fn a_read_changes_nothing_whatever_the_number() {
        for code in (1_000..4_000).filter(|code| *code != PACKET_TOO_LARGE) {
            let error = storage_error(&server(code), Doing::Reading);
            assert!(matches!(error, StorageError::Refused { .. }), "{code}");
        }
    }

    #[test]
    fn what_fails_behind_an_answered_write_does_not_undo_it() {
        for code in 1_000..5_000 {
            let error = storage_error(&server(code), Doing::Reporting);
            assert!(matches!(error, StorageError::Lost { .. }), "{code}");
        }
    }

    #[test]
    fn a_broken_connection_is_unreachable_before_and_lost_after_sending() {
        let broken = || Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let before = storage_error(&broken(), Doing::Preparing);
        assert!(matches!(before, StorageError::Unreachable { .. }));
        for doing in [Doing::Reading, Doing::Writing, Doing::Reporting] {
            let after = storage_error(&broken(), doing);
            assert!(matches!(after, StorageError::Lost { .. }), "{doing:?}");
        }
    }

    #[test]
    fn messages_quote_no_data() {
        for code in [1_064, 1_292, 1_366, OUT_OF_RANGE] {
            let error = storage_error(&server(code), Doing::Writing);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
