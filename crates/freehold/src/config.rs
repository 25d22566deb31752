//! The config: a TOML file, then environment variables `FREEHOLD__SECTION__KEY` over it.
//!
//! [`load()`] reads both into the sections below, where an unknown key is an error, and [`check()`]
//! looks at what types cannot say: ranges, and servers that are named twice. What comes out holds
//! values only. Every problem names its key, its value and the file.

mod check;
mod load;
mod problem;
mod shards;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    check::check,
    load::{environment, load, name_of, parse, read},
    problem::{ConfigError, Problem},
    shards::ShardConfig,
};

/// Everything that can be said.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server: ServerSection,
    /// Never written anywhere: there are passwords in it.
    #[serde(skip_serializing)]
    pub(crate) shards: Vec<ShardSection>,
    pub(crate) lanes: LanesSection,
    pub(crate) reads: ReadsSection,
    pub(crate) failover: FailoverSection,
    pub(crate) sweeper: SweeperSection,
    pub(crate) mover: MoverSection,
    pub(crate) audit: AuditSection,
    pub(crate) log: LogSection,
}

/// `[server]`: this router.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerSection {
    /// Where gRPC is served, as `ADDRESS:PORT`. Whoever reaches it can read and write every key:
    /// the default is this machine alone; `0.0.0.0:7420` trades that for callers elsewhere.
    pub(crate) listen: String,
    /// Where metrics, health and the admin service are. Whoever reaches it can pause sweeping, so
    /// keep it narrower than `listen`.
    pub(crate) admin: String,
    /// After SIGTERM, how long the router takes to end at most; requests that are under way have
    /// three quarters of it. Longer loses fewer of them, shorter restarts sooner; an orchestrator's
    /// own patience (often 30 s) must be longer. 0 to 600,000 ms.
    pub(crate) grace_period_ms: u64,
    /// How long a request may take at most, and how long if its caller named no deadline. Longer
    /// rides out a slow master, shorter frees its callers and its queue sooner. 1 to 600,000 ms.
    pub(crate) request_timeout_ms: u64,
    /// Requests of one Pipeline stream that may be under way; more wait in the network. More fill
    /// larger batches for a single busy stream, fewer leave more of the lanes' queues to the
    /// others. 1 to 65,536.
    pub(crate) pipeline_requests_max: u64,
    /// Bytes of answers that the caller of one Pipeline stream may leave unread; beyond it its
    /// reads are answered with ASK_AGAIN. More bears a caller that reads in fits, less bounds what
    /// one that does not read can hold. A single value may always wait. 1 MiB to 16 GiB.
    pub(crate) pipeline_answer_bytes_max: u64,
    /// How often each master's fence is looked at when no request shows that it changed. Lower
    /// tells a router without traffic sooner that a shard is down or has moved slots, for one small
    /// read each time; what is written never depends on it. 50 to 60,000 ms.
    pub(crate) map_poll_ms: u64,
    /// Bytes of a value, 1 to 15 MiB. Larger values make larger statements: a batch of one 15 MiB
    /// value holds up its connection for as long as 15,000 values of 1 KiB would, and every
    /// server's `max_allowed_packet` must be above it.
    pub(crate) value_bytes_max: u64,
    /// Connections that callers may have open. An idle one takes 25 kB and a file descriptor; one
    /// that sends faster than it is served holds up to 4 MiB of requests that were not read yet.
    /// More serve more processes. One too many is let in for a second, and its calls are answered
    /// RESOURCE_EXHAUSTED; beyond 256 such at once it is closed. 1 to 1,000,000.
    pub(crate) connections_max: u64,
    /// Calls and streams that may be open at once, over all connections; more are answered
    /// RESOURCE_EXHAUSTED. Each takes some kilobytes besides its messages. 1 to 10,000,000.
    pub(crate) calls_max: u64,
    /// Bytes of requests that have not arrived whole, over all calls. Beyond it the calls whose
    /// requests go on arriving are answered RESOURCE_EXHAUSTED: more bears more and slower senders
    /// of large values, less protects the router's memory. 1 MiB to 1 TiB.
    pub(crate) received_bytes_max: u64,
    /// Bytes of values in answers that callers have not taken, over all calls. Beyond it reads are
    /// answered RESOURCE_EXHAUSTED: more bears more and slower readers of large values, less
    /// protects the router's memory. (One stream may have
    /// `pipeline_answer_bytes_max` of it, a scan some 3 MiB.)
    /// 1 MiB to 1 TiB.
    pub(crate) answer_bytes_max: u64,
}

/// `[[shards]]`: where the servers of one shard are. Who owns what stands in the databases.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardSection {
    /// 1 to 64 letters, digits, `-`, `_` or `.`. It is stored in the shard when it is created, and
    /// never changes again.
    pub(crate) name: String,
    /// The DSN of the master. After a failover it need not be changed: routers find the server that
    /// leads. Only commands that ask no router (init, migrate) go by it.
    pub(crate) master: String,
    /// The DSNs of the replicas, any of which may be promoted, unless its DSN says `promote=never`.
    /// Each takes EVENTUAL reads off the master, for connections of its
    /// own.
    #[serde(default)]
    pub(crate) replicas: Vec<String>,
}

/// `[lanes]`: the queues of each server, and the connections that carry what waits in them.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LanesSection {
    /// Connections of the read lane of each master and each replica. The second is used where few
    /// requests are out (fewer than 8 rows, and as many wait), where a statement keeps others
    /// waiting for 10 ms, or where twice as many wait as it has rows (two full statements, if it is
    /// full); more use more of the server's cores, for smaller batches, and batches are worth 6 to
    /// 9 times. 1 to 64.
    pub(crate) reads: u64,
    /// Connections of the write lane of each master. One writes while the other's commit waits for
    /// the disk, and several share one flush of the log; from few of them the fence is nearly free,
    /// from 256 a write costs the server three times as much. 1 to 64.
    pub(crate) writes: u64,
    /// Connections for scans of each master and each replica, opened with the first scan. Each
    /// carries one stretch of one scan at a time: more use more of the server's cores for scans,
    /// fewer leave more to everything else. 1 to 64.
    pub(crate) scans: u64,
    /// Keys that may wait in one lane before it answers RESOURCE_EXHAUSTED. More ride out a longer
    /// stall, fewer fail sooner. 128 to 1,048,576.
    pub(crate) queue_keys_max: u64,
    /// Bytes of keys and values that may wait in one lane. More ride out a longer stall of large
    /// values, fewer bound what the router's memory can grow to: this, times the masters. (Reads
    /// hold keys alone, 16 MiB in each read lane at most, by `queue_keys_max`.) One request may
    /// always wait, whatever its size. 16 MiB (one largest value) to 16 GiB.
    pub(crate) queue_bytes_max: u64,
    /// How long a lane waits for an answer before it gives its connection up and opens another.
    /// Callers are answered at their own deadlines, whatever this is; shorter gives a frozen server
    /// up sooner, longer bears a slow one. 3,500 to 600,000 ms: above the 2 s that a statement may
    /// wait for a row's lock (which MySQL counts in whole seconds), so that a locked row is told of
    /// as such, with time to send a write that fits no single packet in parts.
    pub(crate) statement_timeout_ms: u64,
    /// How long opening a connection may take: name, TCP, TLS and login together. Longer reaches a
    /// server far away, shorter gives one that is down up sooner. 100 to 4,000 ms.
    pub(crate) connect_timeout_ms: u64,
}

/// `[reads]`: where reads go.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReadsSection {
    /// Whether an EVENTUAL read goes to the master where no replica answers. True keeps it
    /// answered; false protects a master that could not bear its replicas' reads besides its own.
    pub(crate) eventual_falls_back_to_master: bool,
    /// How often a shard's heartbeat is written where it has replicas, and each of its servers looked
    /// at. A BOUNDED_STALENESS read cannot be called fresher than the last beat: lower serves smaller
    /// bounds from replicas, for one more small commit per shard (not per router) and one small read
    /// per server and router each time. The same for all routers. 20 to 10,000 ms.
    pub(crate) heartbeat_ms: u64,
    /// How long a SESSION read waits for a replica to have what its token names, before the master
    /// answers. Longer takes more reads off the master where replicas are behind, shorter answers
    /// sooner; 0 does not wait. 0 to 10,000 ms.
    pub(crate) session_wait_ms: u64,
    /// How long a replica that does not follow its master (threads stopped, another source, no
    /// heartbeat) may go on serving EVENTUAL reads. Longer keeps reads off the master during
    /// maintenance, shorter bounds how old they get. 0 to 2,592,000,000 ms (30 days).
    pub(crate) replica_unusable_after_ms: u64,
}

/// `[failover]`: what happens after another server of a shard was promoted.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FailoverSection {
    /// Who says that a promoted server may be written to. `automatic`: the first router that sees
    /// it, if nothing speaks against it; writes go on within a second. `manual`: an operator, by
    /// `freehold adopt SHARD`; until then the shard takes no writes, whatever was promoted by
    /// mistake.
    pub(crate) adopt: AdoptMode,
}

/// Who adopts promoted servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AdoptMode {
    #[default]
    Automatic,
    Manual,
}

/// `[sweeper]`: deleting what is expired or deleted from the disk. No reader sees such rows either
/// way; sweeping trades a part of the masters' work for their disk space.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SweeperSection {
    /// Whether this router offers to sweep. One router per shard does it at a time; false leaves it
    /// to the others.
    pub(crate) enabled: bool,
    /// Rows in one batch, 1 to 128. More share one commit, fewer make a PUT of one of them wait
    /// less.
    pub(crate) batch_rows_max: u64,
    /// A batch that takes longer is followed by smaller ones, down to one row. Lower spares the
    /// PUTs that wait for its locks, higher sweeps faster on a slow disk. 1 to 2,000 ms.
    pub(crate) batch_ms_max: u64,
    /// The pause after a batch, as a multiple of the time that the batch took: 1.0 keeps one
    /// connection busy for half of the time, and after a batch that was slower than usual for less.
    /// Lower sweeps faster where rows expire faster than they are deleted (`freehold sweep` shows
    /// how many are due); 0.0, with `pause_ms_min` 0, is full speed, and takes from requests what
    /// it needs. 0 to 1,000.
    pub(crate) pause_factor: f64,
    /// The shortest pause between two batches. Raising it to 100 ms caps a shard at some 1,280 rows
    /// per second. 0 to 60,000 ms.
    pub(crate) pause_ms_min: u64,
    /// The longest pause between two batches, whatever `pause_factor` asks for. Lower bounds how
    /// far a slow server holds sweeping up, higher leaves it alone for longer. 0 to 600,000 ms.
    pub(crate) pause_ms_max: u64,
    /// How long to wait once nothing is due. Higher saves a small read each time, lower has dead
    /// rows on the disk for less time. 10 to 600,000 ms.
    pub(crate) idle_ms: u64,
    /// Sweeping stops while a replica is further behind, or cannot say how far. Lower keeps replica
    /// reads fresher, higher keeps the disk cleaner. 1 to 3,600,000 ms.
    pub(crate) replica_lag_ms_max: u64,
    /// Sweeping stops while more undo records wait to be purged: deleting more would then only make
    /// reads slower. At least 1,000.
    pub(crate) purge_backlog_max: u64,
    /// Another account than the DSN's for the sweeper. The account for requests then needs neither
    /// PROCESS, which shows everybody's statements, nor the right to write leases
    /// (`deploy/*/grants.sql`); it deletes rows either way. Absent: the DSN's.
    pub(crate) user: Option<String>,
    /// A file whose first line is that account's password; read at every new connection.
    pub(crate) password_file: Option<String>,
    /// The environment variable that holds that account's password.
    pub(crate) password_env: Option<String>,
}

/// `[mover]`: how slots are moved, and going on with moves whose mover died. No move begins by itself.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MoverSection {
    /// Whether this router moves slots when somebody asks it to, and goes on with moves that nobody runs
    /// any more. Of several routers the first does; false leaves both to the others. Where no router does, the slots of a mover that was
    /// killed stay as they are, also those whose writes wait, until `freehold moves --resume` or
    /// `--cancel`.
    pub(crate) enabled: bool,
    /// How long a move may show no sign of life before it counts as abandoned; a mover gives one
    /// every 200 ms. Lower ends a pause of writes sooner whose mover died in it, higher takes fewer
    /// moves away from movers that were only slow (which harms nothing: they stop, and the router
    /// goes on). 1,000 to 600,000 ms.
    pub(crate) abandoned_after_ms: u64,
    /// How many times as long as without the mover a small write may take on the two masters; beyond
    /// it, the mover rests between pages, up to nine tenths of the time, and makes them smaller. Lower
    /// spares requests, higher ends sooner. 0 never rests; else 1.05 to 100.
    pub(crate) latency_factor_max: f64,
    /// Bytes of values that a move copies in a second at most; 0: as many as go. Up to 1 TiB.
    pub(crate) bytes_per_s_max: u64,
    /// Another account than the DSN's for moving slots, which takes rights that requests do not need
    /// (`deploy/*/grants.sql`). Absent: the DSN's.
    pub(crate) user: Option<String>,
    /// A file whose first line is that account's password; read at every new connection.
    pub(crate) password_file: Option<String>,
    /// The environment variable that holds that account's password.
    pub(crate) password_env: Option<String>,
}

/// `[audit]`: looking by itself at whether the databases hold what they must, as `freehold audit`
/// does. Each shard is audited by the router that sweeps it; without sweepers nobody does.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditSection {
    /// Whether this router audits what it sweeps.
    pub(crate) enabled: bool,
    /// How long after one audit of a shard the next one begins. Shorter finds sooner what a failing
    /// disk or somebody's own SQL did, longer reads less. 1 to 31,536,000 s.
    pub(crate) interval_s: u64,
    /// Rows that are read of a server in a second at most. More end sooner (a million rows take
    /// eight minutes at 2,000), fewer spare the disk and leave more of the buffer pool to requests.
    /// 1 to 10,000,000.
    pub(crate) rows_per_s_max: u64,
    /// How long a replica that differs may take to catch up; one that is further behind is not
    /// compared to the end. 1 to 3,600,000 ms.
    pub(crate) lag_ms_max: u64,
}

/// `[log]`: what is written to standard error.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSection {
    /// `text` for people, `json` for collectors: one object per line.
    pub(crate) format: LogFormat,
    /// What is logged, as `LEVEL` or `TARGET=LEVEL,...`. `debug` tells of every connection and map
    /// change, `info` (the default) of what an operator would want to know, `warn` of trouble.
    pub(crate) filter: Option<String>,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7420".to_owned(),
            admin: "127.0.0.1:7421".to_owned(),
            grace_period_ms: 10_000,
            request_timeout_ms: 5_000,
            pipeline_requests_max: 4_096,
            pipeline_answer_bytes_max: 64 << 20,
            map_poll_ms: 1_000,
            value_bytes_max: freehold_core::limits::VALUE_BYTES_MAX_DEFAULT as u64,
            connections_max: 4_096,
            calls_max: 65_536,
            received_bytes_max: 256 << 20,
            answer_bytes_max: 512 << 20,
        }
    }
}

impl Default for LanesSection {
    fn default() -> Self {
        Self {
            reads: 2,
            writes: 2,
            scans: 2,
            queue_keys_max: 16_384,
            queue_bytes_max: 64 << 20,
            statement_timeout_ms: 10_000,
            connect_timeout_ms: 2_000,
        }
    }
}

impl Default for ReadsSection {
    fn default() -> Self {
        Self {
            eventual_falls_back_to_master: true,
            heartbeat_ms: 200,
            session_wait_ms: 200,
            replica_unusable_after_ms: 60_000,
        }
    }
}

impl Default for AuditSection {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_s: 86_400,
            rows_per_s_max: 2_000,
            lag_ms_max: 60_000,
        }
    }
}

impl Default for MoverSection {
    fn default() -> Self {
        Self {
            enabled: true,
            abandoned_after_ms: 3_000,
            latency_factor_max: 1.5,
            bytes_per_s_max: 0,
            user: None,
            password_file: None,
            password_env: None,
        }
    }
}

impl Default for SweeperSection {
    fn default() -> Self {
        Self {
            enabled: true,
            batch_rows_max: 128,
            batch_ms_max: 100,
            pause_factor: 1.0,
            pause_ms_min: 1,
            pause_ms_max: 2_000,
            idle_ms: 2_000,
            replica_lag_ms_max: 5_000,
            purge_backlog_max: 100_000,
            user: None,
            password_file: None,
            password_env: None,
        }
    }
}
