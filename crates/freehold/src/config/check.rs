//! What types cannot say: ranges, and what belongs together.

use std::{fmt::Display, net::SocketAddr, ops::RangeInclusive, time::Duration};

use freehold_core::limits::{
    LOCK_WAIT_MAX, MOVER_BYTES_PER_SECOND_MAX, MOVER_LATENCY_FACTORS, STATEMENT_KEYS_MAX,
    STATEMENT_TIMEOUT_MIN, VALUE_BYTES_MAX,
};

use super::{Config, ConfigError, LogFormat, Problem, ShardConfig, SweeperSection, shards};

const MINUTE_MS: u64 = 60_000;

/// Above it, the sweeper takes the server for frozen before it takes a batch for a slow one.
const BATCH_MS_MAX: u64 = 2_000;

/// Looks at everything and tells all that is wrong at once. `source` is what errors call the
/// config; without shards of its own a config is for the embedded ones, if `embedded`.
pub(crate) fn check(
    config: &Config,
    source: &str,
    embedded: bool,
) -> Result<Vec<ShardConfig>, ConfigError> {
    let mut problems = Vec::new();
    check_server(config, &mut problems);
    check_reads(config, &mut problems);
    check_lanes(config, &mut problems);
    check_sweeper(config, &mut problems);
    check_mover(config, &mut problems);
    check_audit(config, &mut problems);
    check_log(config, &mut problems);
    let shards = if embedded {
        Vec::new()
    } else {
        shards::check(&config.shards, &mut problems)
    };
    if problems.is_empty() {
        return Ok(shards);
    }
    Err(ConfigError {
        source: source.to_owned(),
        problems,
    })
}

fn check_server(config: &Config, problems: &mut Vec<Problem>) {
    let server = &config.server;
    let mut address = |key: &str, value: &str| {
        if value.parse::<SocketAddr>().is_err() {
            let words = format!("'{value}' is not ADDRESS:PORT, such as 127.0.0.1:7420");
            problems.push(Problem::new(key, words));
        }
    };
    address("server.listen", &server.listen);
    address("server.admin", &server.admin);
    let same = server.listen == server.admin && !server.listen.ends_with(":0");
    if same {
        let words = format!(
            "'{}' is server.listen already: use another port",
            server.admin
        );
        problems.push(Problem::new("server.admin", words));
    }
    range(
        "server.grace_period_ms",
        server.grace_period_ms,
        0..=10 * MINUTE_MS,
        problems,
    );
    range(
        "server.request_timeout_ms",
        server.request_timeout_ms,
        1..=10 * MINUTE_MS,
        problems,
    );
    range(
        "server.pipeline_requests_max",
        server.pipeline_requests_max,
        1..=65_536,
        problems,
    );
    range(
        "server.pipeline_answer_bytes_max",
        server.pipeline_answer_bytes_max,
        1 << 20..=16 << 30,
        problems,
    );
    range(
        "server.map_poll_ms",
        server.map_poll_ms,
        50..=MINUTE_MS,
        problems,
    );
    range(
        "server.value_bytes_max",
        server.value_bytes_max,
        1..=VALUE_BYTES_MAX as u64,
        problems,
    );
    let bytes = 1 << 20..=1 << 40;
    for (key, value, allowed) in [
        (
            "server.connections_max",
            server.connections_max,
            1..=1_000_000,
        ),
        ("server.calls_max", server.calls_max, 1..=10_000_000),
        (
            "server.received_bytes_max",
            server.received_bytes_max,
            bytes.clone(),
        ),
        ("server.answer_bytes_max", server.answer_bytes_max, bytes),
    ] {
        range(key, value, allowed, problems);
    }
}

fn check_lanes(config: &Config, problems: &mut Vec<Problem>) {
    let lanes = &config.lanes;
    range("lanes.reads", lanes.reads, 1..=64, problems);
    range("lanes.writes", lanes.writes, 1..=64, problems);
    range("lanes.scans", lanes.scans, 1..=64, problems);
    let keys = STATEMENT_KEYS_MAX as u64..=1 << 20;
    range("lanes.queue_keys_max", lanes.queue_keys_max, keys, problems);
    // A queue that cannot hold one value would never let it through.
    let bytes = 16 << 20..=16 << 30;
    range(
        "lanes.queue_bytes_max",
        lanes.queue_bytes_max,
        bytes,
        problems,
    );
    check_statement_timeout(lanes.statement_timeout_ms, problems);
    range(
        "lanes.connect_timeout_ms",
        lanes.connect_timeout_ms,
        100..=4_000,
        problems,
    );
}

fn check_reads(config: &Config, problems: &mut Vec<Problem>) {
    let reads = &config.reads;
    range(
        "reads.heartbeat_ms",
        reads.heartbeat_ms,
        20..=10_000,
        problems,
    );
    range(
        "reads.session_wait_ms",
        reads.session_wait_ms,
        0..=10_000,
        problems,
    );
    range(
        "reads.replica_unusable_after_ms",
        reads.replica_unusable_after_ms,
        0..=2_592_000_000,
        problems,
    );
}

/// Below it, a locked row could cost its lane the connection, and its callers the truth; and of a
/// write in several parts only the first would be sent.
fn check_statement_timeout(value_ms: u64, problems: &mut Vec<Problem>) {
    const KEY: &str = "lanes.statement_timeout_ms";
    const MAX_MS: u64 = 10 * MINUTE_MS;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (lock_wait_ms, min_ms) = (millis(LOCK_WAIT_MAX), millis(STATEMENT_TIMEOUT_MIN));
    if value_ms < min_ms {
        let words = format!(
            "{value_ms} is too near to the {lock_wait_ms} ms that a statement may wait for a row's \
             lock: use {min_ms} to {MAX_MS}"
        );
        problems.push(Problem::new(KEY, words));
    } else {
        range(KEY, value_ms, min_ms..=MAX_MS, problems);
    }
}

fn check_sweeper(config: &Config, problems: &mut Vec<Problem>) {
    let sweeper = &config.sweeper;
    let rows = 1..=STATEMENT_KEYS_MAX as u64;
    range(
        "sweeper.batch_rows_max",
        sweeper.batch_rows_max,
        rows,
        problems,
    );
    range(
        "sweeper.batch_ms_max",
        sweeper.batch_ms_max,
        1..=BATCH_MS_MAX,
        problems,
    );
    range(
        "sweeper.idle_ms",
        sweeper.idle_ms,
        10..=10 * MINUTE_MS,
        problems,
    );
    check_pauses(sweeper, problems);
    range(
        "sweeper.replica_lag_ms_max",
        sweeper.replica_lag_ms_max,
        1..=60 * MINUTE_MS,
        problems,
    );
    range(
        "sweeper.purge_backlog_max",
        sweeper.purge_backlog_max,
        1_000..=u64::MAX,
        problems,
    );
    let SweeperSection {
        user,
        password_file,
        password_env,
        ..
    } = sweeper;
    check_account("sweeper", user, [password_file, password_env], problems);
}

/// An account of a section's own: `passwords` are where its password is, at most one of them.
fn check_account(
    section: &str,
    user: &Option<String>,
    passwords: [&Option<String>; 2],
    problems: &mut Vec<Problem>,
) {
    let names = [
        ("user", user),
        ("password_file", passwords[0]),
        ("password_env", passwords[1]),
    ];
    for (key, name) in names {
        if name.as_ref().is_some_and(String::is_empty) {
            problems.push(Problem::new(
                format!("{section}.{key}"),
                "is empty: name one, or leave the key out",
            ));
        }
    }
    match (user, passwords.into_iter().flatten().count()) {
        (_, 2) => problems.push(Problem::new(
            format!("{section}.password_env"),
            "password_file is there too: give one of them",
        )),
        (None, 1) => problems.push(Problem::new(
            format!("{section}.user"),
            "is missing: a password alone names no account",
        )),
        _ => {}
    }
}

fn check_mover(config: &Config, problems: &mut Vec<Problem>) {
    let mover = &config.mover;
    range(
        "mover.abandoned_after_ms",
        mover.abandoned_after_ms,
        1_000..=10 * MINUTE_MS,
        problems,
    );
    if mover.latency_factor_max != 0.0 {
        range(
            "mover.latency_factor_max",
            mover.latency_factor_max,
            MOVER_LATENCY_FACTORS,
            problems,
        );
    }
    range(
        "mover.bytes_per_s_max",
        mover.bytes_per_s_max,
        0..=MOVER_BYTES_PER_SECOND_MAX,
        problems,
    );
    let passwords = [&mover.password_file, &mover.password_env];
    check_account("mover", &mover.user, passwords, problems);
}

fn check_pauses(sweeper: &SweeperSection, problems: &mut Vec<Problem>) {
    range(
        "sweeper.pause_factor",
        sweeper.pause_factor,
        0.0..=1_000.0,
        problems,
    );
    range(
        "sweeper.pause_ms_min",
        sweeper.pause_ms_min,
        0..=MINUTE_MS,
        problems,
    );
    range(
        "sweeper.pause_ms_max",
        sweeper.pause_ms_max,
        0..=10 * MINUTE_MS,
        problems,
    );
    if sweeper.pause_ms_min > sweeper.pause_ms_max {
        let words = format!(
            "{} is above sweeper.pause_ms_max ({}): swap them",
            sweeper.pause_ms_min, sweeper.pause_ms_max
        );
        problems.push(Problem::new("sweeper.pause_ms_min", words));
    }
}

fn check_audit(config: &Config, problems: &mut Vec<Problem>) {
    let audit = &config.audit;
    range(
        "audit.interval_s",
        audit.interval_s,
        1..=31_536_000,
        problems,
    );
    let rows = 1..=10_000_000;
    range("audit.rows_per_s_max", audit.rows_per_s_max, rows, problems);
    let lag = 1..=60 * MINUTE_MS;
    range("audit.lag_ms_max", audit.lag_ms_max, lag, problems);
}

fn check_log(config: &Config, problems: &mut Vec<Problem>) {
    let Some(filter) = &config.log.filter else {
        return;
    };
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(filter) {
        let words =
            format!("'{filter}' is not a filter ({error}): write info, or TARGET=debug,info");
        problems.push(Problem::new("log.filter", words));
    }
}

fn range<T: PartialOrd + Display>(
    key: &str,
    value: T,
    allowed: RangeInclusive<T>,
    problems: &mut Vec<Problem>,
) {
    if allowed.contains(&value) {
        return;
    }
    let words = format!(
        "{value} is out of range: use {} to {}",
        allowed.start(),
        allowed.end()
    );
    problems.push(Problem::new(key, words));
}

impl LogFormat {
    /// Whether lines are for a collector.
    pub(crate) fn is_json(self) -> bool {
        self == Self::Json
    }
}
