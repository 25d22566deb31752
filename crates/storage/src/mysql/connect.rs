//! Opening a session: account, TLS, settings, and the checks that they are in force.

use freehold_core::limits::LOCK_WAIT_MAX;
use mysql_async::{Conn, Error, Opts, OptsBuilder};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::time::timeout;

use super::{
    decode::column,
    error::{Doing, storage_error, unreachable},
    session::{Failure, Prepared, Session, packet},
    tls,
    write::SENDING_MAX,
};
use crate::{
    dsn::{MysqlTarget, Password, SslMode},
    error::{Refusal, StorageError},
    server::ConnectOptions,
};

/// Everything a session depends on, whatever the server's own defaults are.
///
/// It is two statements because the isolation level has no name that both servers know: 10.11 of
/// the one calls it tx_isolation, 9.7 of the other transaction_isolation. What only MariaDB or only
/// MySQL knows stands in a comment that the other one skips.
const SETTINGS: [&str; 2] = [
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
    // A binary connection: with utf8mb4 some statements alter bytes, one of the servers silently.
    "SET NAMES binary, \
     SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
     SESSION time_zone = '+00:00', \
     SESSION autocommit = 1, \
     SESSION completion_type = 0, \
     SESSION sql_safe_updates = 0, \
     SESSION sql_select_limit = 18446744073709551615, \
     SESSION innodb_lock_wait_timeout = 2, \
     SESSION lock_wait_timeout = 2 \
     /*M! , SESSION max_statement_time = 0 */ \
     /*!50708 , SESSION max_execution_time = 0 */",
];

const _: () = assert!(LOCK_WAIT_MAX.as_secs() == 2, "as the settings say");

/// The second and third column show whether SYSDATE() goes on while a statement runs, the fourth
/// whether the settings reached the session that will run the statements: something between here
/// and the server may share sessions. The fifth shows which of the two servers it is.
const CHECKS: &str = "SELECT @@max_allowed_packet, SLEEP(0.001), SYSDATE(6) > NOW(6), \
     @@autocommit = 1 AND @@time_zone = '+00:00' AND @@innodb_lock_wait_timeout = 2 \
     AND @@sql_mode LIKE '%STRICT_ALL_TABLES%', VERSION() LIKE '%MariaDB%'";

/// The largest packet the driver lets through: any. The server's own limit is looked at before
/// sending, because the driver closes a connection over it.
const DRIVER_PACKET_BYTES_MAX: usize = 1 << 30;

/// Opens a session within the connect timeout.
pub(super) async fn open(
    target: &MysqlTarget,
    options: &ConnectOptions,
    seed: u64,
) -> Result<Session, StorageError> {
    match timeout(options.connect_timeout, open_in_any_time(target, seed)).await {
        Ok(opened) => opened,
        Err(_) => Err(unreachable(format!(
            "no connection within {:?}",
            options.connect_timeout
        ))),
    }
}

async fn open_in_any_time(target: &MysqlTarget, seed: u64) -> Result<Session, StorageError> {
    let mut conn = match Conn::new(opts(target, None).await?).await {
        Err(error) if target.ssl_mode == SslMode::VerifyCa => of_another_name(target, &error).await,
        opened => opened.map_err(|error| storage_error(&error, Doing::Preparing)),
    }?;
    let statements: Vec<String> = SETTINGS
        .iter()
        .chain([&CHECKS])
        .map(ToString::to_string)
        .collect();
    let mut answers = packet(&mut conn, &statements)
        .await
        // Nothing that anybody asked for was sent yet.
        .map_err(|Failure { error, .. }| storage_error(&error, Doing::Preparing))?;
    let checks = answers.pop().and_then(|mut answer| answer.rows.pop());
    let mut checks = checks.ok_or_else(|| unreachable("the server does not answer queries"))?;
    let clock_goes_on: bool = column(&mut checks, 2, "a comparison of clocks")?;
    let is_mariadb: bool = column(&mut checks, 4, "the server's version")?;
    let settings_hold: bool = column(&mut checks, 3, "a session's settings")?;
    if !clock_goes_on {
        return Err(unfit(
            "the server runs with sysdate_is_now: take it out of my.cnf, [mysqld], and restart it",
        ));
    }
    if !settings_hold {
        return Err(unfit(
            "the session does not keep its settings: connect to the server itself",
        ));
    }
    Ok(Session {
        packet_bytes_max: column(&mut checks, 0, "max_allowed_packet")?,
        sending_max: SENDING_MAX,
        last_write_changed: false,
        // Two servers of one seed may not draw the same stamps.
        random: StdRng::seed_from_u64(seed ^ u64::from(conn.id())),
        is_mariadb,
        prepared: Prepared::default(),
        conn,
    })
}

fn unfit(message: &str) -> StorageError {
    StorageError::Refused {
        refusal: Refusal::Other,
        code: 0,
        message: message.into(),
    }
}

/// A second attempt, if the certificate was refused for the name it bears.
async fn of_another_name(target: &MysqlTarget, error: &Error) -> Result<Conn, StorageError> {
    let refusal = error.to_string();
    if !tls::is_for_other_name(&refusal) {
        return Err(storage_error(error, Doing::Preparing));
    }
    let Some(name) = tls::presented_name(&refusal) else {
        return Err(unreachable(
            "the server's certificate names no host, which verify_ca cannot check: give it one \
             with a subjectAltName, or use ssl_mode=required",
        ));
    };
    let conn = Conn::new(opts(target, Some(name)).await?).await;
    conn.map_err(|error| storage_error(&error, Doing::Preparing))
}

/// What the driver is told; `name` is asked of the certificate instead of the host's.
async fn opts(target: &MysqlTarget, name: Option<String>) -> Result<Opts, StorageError> {
    let builder = OptsBuilder::default()
        .ip_or_hostname(&target.host)
        .tcp_port(target.port)
        // The driver would move on to the server's Unix socket, which is not what the DSN says.
        .prefer_socket(false)
        .user(Some(&target.user))
        .pass(password(&target.password).await?)
        .db_name(Some(&target.database))
        .ssl_opts(tls::options(target, name).await?)
        .connect_attribute("program_name", "freehold")
        .tcp_keepalive(Some(KEEPALIVE))
        // Statements are kept here, by size.
        .stmt_cache_size(0)
        // Known values, so that the driver does not ask for them at each connection.
        .max_allowed_packet(Some(DRIVER_PACKET_BYTES_MAX))
        .wait_timeout(Some(0));
    Ok(builder.into())
}

/// After so much silence the operating system asks whether the other end is there.
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(15);

/// The password as it is now: files and variables are read at each connection.
async fn password(password: &Password) -> Result<Option<String>, StorageError> {
    Ok(match password {
        Password::None => None,
        Password::Inline(password) => Some(password.clone()),
        Password::File(path) => {
            let bytes = tls::read(path, "password file").await?;
            let text = String::from_utf8(bytes).map_err(|_| {
                unreachable(format!("password file {} is not UTF-8", path.display()))
            })?;
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
        Password::Env(name) => Some(
            std::env::var(name)
                .map_err(|error| unreachable(format!("password variable {name}: {error}")))?,
        ),
    })
}
