//! What an operator may change about a router, as plain values.

use std::time::Duration;

use freehold_core::limits;

/// Settings of one router. The defaults serve one busy master well on a few cores.
#[derive(Debug, Clone)]
pub struct RouterSettings {
    /// Bytes of a value that PUT accepts; at most [`limits::VALUE_BYTES_MAX`]. Every server's
    /// `max_allowed_packet` must be larger.
    pub value_bytes_max: usize,
    /// How long a request may take whose caller gave no deadline, and the longest that a caller's
    /// deadline may be.
    pub request_timeout: Duration,
    /// Connections of the read lane of each master and each replica. The second is used where few
    /// requests are out (fewer than 8 rows, and as many wait), where a statement keeps others
    /// waiting for 10 ms, or where twice as many wait as it has rows (two full statements, if it is
    /// full); more use more of the server's cores, for smaller batches.
    pub read_connections: usize,
    /// Connections of the write lane of each master. One writes while the other's commit waits for
    /// the disk. More help where a commit takes long; with hundreds the fence triples the server's
    /// work per write.
    pub write_connections: usize,
    /// Connections for scans of each master and each replica, opened with the first scan.
    pub scan_connections: usize,
    /// Keys that may wait in one lane before it answers RESOURCE_EXHAUSTED.
    pub queue_keys_max: usize,
    /// Bytes of keys and values that may wait in one lane.
    pub queue_bytes_max: usize,
    /// How long a lane waits for an answer before it gives the connection up. Callers are answered
    /// at their own deadlines, whatever this is.
    pub statement_timeout: Duration,
    /// Whether an EVENTUAL read goes to the master where no replica answers.
    pub eventual_falls_back_to_master: bool,
    /// How often a heartbeat is written at each master, and every server of a shard looked at.
    pub heartbeat: Duration,
    /// How long a SESSION read waits for a replica to have what its token names, before the master
    /// answers. Zero: not at all.
    pub session_wait: Duration,
    /// How long a replica that does not follow its master may serve EVENTUAL reads.
    pub replica_unusable_after: Duration,
    /// How often each shard's fence is looked at when nothing disagrees. It bounds how long a
    /// router with no traffic believes an old map; correctness never depends on it.
    pub map_poll: Duration,
    /// Whether a promoted server is adopted as soon as that may be; else an operator says when.
    pub adopts_automatically: bool,
    /// Requests that one Pipeline stream may have in flight; more wait in the network.
    pub pipeline_requests_max: usize,
    /// Bytes of answers that one Pipeline stream may leave unread before its reads are refused.
    pub pipeline_answer_bytes_max: usize,
    /// Connections that callers may have open at once.
    pub connections_max: usize,
    /// Calls and streams that may be open at once, over all connections.
    pub calls_max: usize,
    /// Bytes of messages that may be on their way in, over all calls.
    pub received_bytes_max: usize,
    /// Bytes of values that may wait to be sent, over all calls.
    pub answer_bytes_max: usize,
    /// How long shutting down may take before what is left is answered UNAVAILABLE.
    pub grace_period: Duration,
}

impl Default for RouterSettings {
    fn default() -> Self {
        Self {
            value_bytes_max: limits::VALUE_BYTES_MAX_DEFAULT,
            request_timeout: Duration::from_secs(5),
            read_connections: 2,
            write_connections: 2,
            scan_connections: 2,
            queue_keys_max: 16_384,
            queue_bytes_max: 64 << 20,
            statement_timeout: Duration::from_secs(10),
            eventual_falls_back_to_master: true,
            heartbeat: Duration::from_millis(200),
            session_wait: Duration::from_millis(200),
            replica_unusable_after: Duration::from_secs(60),
            map_poll: Duration::from_secs(1),
            adopts_automatically: true,
            pipeline_requests_max: 4_096,
            pipeline_answer_bytes_max: 64 << 20,
            connections_max: 4_096,
            calls_max: 65_536,
            received_bytes_max: 256 << 20,
            answer_bytes_max: 512 << 20,
            grace_period: Duration::from_secs(10),
        }
    }
}
