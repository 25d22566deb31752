//! What `init`, `migrate` and `doctor` ask of a server.

use std::{ops::RangeInclusive, time::Duration};

use async_trait::async_trait;
use freehold_core::ShardIdentity;

use crate::error::StorageError;

/// How far a server's tables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaState {
    /// No `shard` table, or no row in it.
    Absent,
    /// `init` began and did not finish: the identity's `schema_version` is 0, and no slot has an
    /// owner here.
    Started(ShardIdentity),
    /// Tables and slots are there.
    Ready {
        /// Whose.
        identity: ShardIdentity,
        /// How many slots are owned, outgoing or fenced here.
        slots_claimed: usize,
        /// The claimed slots, as ranges in order.
        claimed: Vec<RangeInclusive<u16>>,
    },
}

/// Settings of a server that Freehold depends on, as the server names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// `MariaDB`, `MySQL` or `SQLite`.
    pub engine: String,
    /// As the server says it.
    pub version: String,
    /// `@@server_id`; 0 for SQLite.
    pub server_id: u64,
    /// The server's clock minus the asker's, in milliseconds, and half the round trip as its error.
    pub clock_skew_ms: i64,
    /// See `clock_skew_ms`.
    pub clock_error_ms: u64,
    /// `name` to `value`, as `SHOW GLOBAL VARIABLES` prints them: those of [`FACT_VARIABLES`].
    pub variables: std::collections::BTreeMap<String, String>,
    /// The account's grants, as `SHOW GRANTS` prints them, without password hashes.
    pub grants: Vec<String>,
    /// The collation of the `store.key` column if the table is there.
    pub key_collation: Option<String>,
}

/// The global variables that [`ServerFacts::variables`] holds. A server that does not know one of
/// them leaves it out: MariaDB and MySQL each have names that the other lacks.
pub const FACT_VARIABLES: [&str; 35] = [
    "binlog_annotate_row_events",
    "binlog_format",
    "binlog_row_image",
    "binlog_rows_query_log_events",
    "default_storage_engine",
    "group_replication_exit_state_action",
    "group_replication_group_name",
    "gtid_mode",
    "enforce_gtid_consistency",
    "gtid_strict_mode",
    "innodb_flush_log_at_trx_commit",
    "innodb_read_only",
    "log_bin",
    "log_replica_updates",
    "log_slave_updates",
    "max_allowed_packet",
    "max_connections",
    "max_prepared_stmt_count",
    "read_only",
    "replica_preserve_commit_order",
    "rpl_semi_sync_master_enabled",
    "rpl_semi_sync_master_timeout",
    "rpl_semi_sync_master_wait_no_slave",
    "rpl_semi_sync_master_wait_point",
    "rpl_semi_sync_slave_enabled",
    "rpl_semi_sync_source_enabled",
    "rpl_semi_sync_source_timeout",
    "rpl_semi_sync_source_wait_no_replica",
    "rpl_semi_sync_source_wait_point",
    "server_uuid",
    "super_read_only",
    "sync_binlog",
    "system_time_zone",
    "time_zone",
    "wsrep_on",
];

/// One connection with the rights to create and change tables.
#[async_trait]
pub trait SchemaConnection: Send {
    /// What the server is and how it is set.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn facts(&mut self) -> Result<ServerFacts, StorageError>;

    /// How far its tables are.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn state(&mut self) -> Result<SchemaState, StorageError>;

    /// First half of `init`: creates what is missing of tables, view and the fence row, with
    /// `schema_version` 0. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn create(&mut self, identity: &ShardIdentity) -> Result<(), StorageError>;

    /// Second half of `init`, in one transaction: the slots become `owned` here and the fence shows
    /// the schema's version, term 1 and epoch 1.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn take_slots(&mut self, slots: RangeInclusive<u16>) -> Result<(), StorageError>;

    /// [`Self::take_slots`] of a shard that joins a cluster: it owns no slot.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn take_no_slots(&mut self) -> Result<(), StorageError>;

    /// Whether no row is stored here, live or not, and no slot has a row.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn is_empty(&mut self) -> Result<bool, StorageError>;

    /// Applies one migration's statements, then shows `to_version` in the fence with a new epoch.
    /// The statements must bear repetition, since a crash between them repeats all.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn migrate(&mut self, statements: &[&str], to_version: u32) -> Result<(), StorageError>;
}

/// How long a statement of `init`, `migrate` or `doctor` may take.
pub const SCHEMA_STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
