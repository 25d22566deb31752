//! What an operator may choose about sweeping.

use std::time::Duration;

use freehold_core::limits::STATEMENT_KEYS_MAX;

/// How a shard is swept. The defaults suit a master that serves requests besides.
#[derive(Debug, Clone, PartialEq)]
pub struct SweeperSettings {
    /// Whether this router offers to sweep. Without, it only shows who does, and steers.
    pub enabled: bool,
    /// Rows in one batch, 1 to [`STATEMENT_KEYS_MAX`]. More rows share the price of a commit; fewer
    /// make a PUT of one of them wait less.
    pub batch_rows_max: usize,
    /// A batch that takes longer is followed by smaller ones. Lower spares the writers that wait
    /// for its locks, higher sweeps faster on slow disks.
    pub batch_time_max: Duration,
    /// The pause after a batch as a multiple of the time it took: 1.0 uses at most half of one
    /// connection, 0.0 sweeps at full speed.
    pub pause_factor: f64,
    /// The shortest pause between two batches.
    pub pause_min: Duration,
    /// The longest pause between two batches: it bounds how far a slow server can hold sweeping up.
    pub pause_max: Duration,
    /// How long to wait once nothing is due. Longer saves a small read each time; shorter keeps
    /// dead rows on the disk for less time. No reader sees them either way.
    pub idle_interval: Duration,
    /// Sweeping stops while a replica is further behind, or cannot say how far. `None` does not
    /// look at replicas: then a large sweep can make them late.
    pub replica_lag_max: Option<Duration>,
    /// Sweeping stops while more undo records wait to be purged: deleting more then only makes
    /// every read slower. A long snapshot, such as a backup's, holds the purge up. `None` does not
    /// look.
    pub purge_backlog_max: Option<u64>,
    /// How old what is known of replicas and purge may be when a batch starts. It costs one query
    /// on each replica.
    pub look_interval: Duration,
    /// How long a lease lasts. After a router dies, its shards are not swept for so long.
    pub lease_length: Duration,
    /// How often the lease is renewed, which is also how soon a pause by an operator is noticed.
    /// Each renewal is a write of one row.
    pub renew_interval: Duration,
    /// How often a router without the lease looks whether it is free.
    pub standby_interval: Duration,
    /// How long one statement may take before the server counts as frozen. Above the 2 s that a
    /// session waits for a lock.
    pub statement_time_max: Duration,
    /// How long to open a connection, at most.
    pub connect_time_max: Duration,
    /// Rows that are counted to tell how many are due, at most; their keys pass through memory.
    pub count_rows_max: usize,
    /// How often rows are counted while they cannot be, or are not yet, deleted.
    pub count_interval: Duration,
    /// The first wait after a failure; it doubles with each further one.
    pub retry_min: Duration,
    /// The longest wait after a failure: how late a server's return can be noticed.
    pub retry_max: Duration,
    /// How long a shutdown waits for the batch that is under way, and then for giving the lease
    /// back. Without that it ends by itself after `lease_length`.
    pub stop_time_max: Duration,
}

impl Default for SweeperSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            batch_rows_max: STATEMENT_KEYS_MAX,
            batch_time_max: Duration::from_millis(100),
            pause_factor: 1.0,
            pause_min: Duration::from_millis(1),
            pause_max: Duration::from_secs(2),
            idle_interval: Duration::from_secs(2),
            replica_lag_max: Some(Duration::from_secs(5)),
            purge_backlog_max: Some(100_000),
            look_interval: Duration::from_secs(1),
            lease_length: Duration::from_secs(10),
            renew_interval: Duration::from_millis(2_500),
            standby_interval: Duration::from_secs(4),
            statement_time_max: Duration::from_millis(2_500),
            connect_time_max: Duration::from_secs(10),
            count_rows_max: 10_000,
            count_interval: Duration::from_secs(15),
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(5),
            stop_time_max: Duration::from_secs(1),
        }
    }
}

/// Settings that cannot work.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// A batch must fit one statement.
    #[error("batch_rows_max is {0}: use 1 to {STATEMENT_KEYS_MAX}")]
    BatchRows(usize),
    /// A pause cannot be negative or endless.
    #[error("pause_factor is {0}: use 0 to 1000")]
    PauseFactor(f64),
    /// A range that is upside down.
    #[error("{min} is above {max}: swap them")]
    Range {
        /// The lower limit.
        min: &'static str,
        /// The upper limit.
        max: &'static str,
    },
    /// The lease would lapse between two renewals on a server that is slow but alive.
    #[error(
        "lease_length is {lease:?}: use at least {least:?}, which is 4 × statement_time_max and \
         2 × renew_interval"
    )]
    Lease {
        /// What it is.
        lease: Duration,
        /// What it must be.
        least: Duration,
    },
}

impl SweeperSettings {
    /// Looks whether the values fit together.
    ///
    /// # Errors
    /// [`SettingsError`], which names the field and what it may be.
    pub fn check(&self) -> Result<(), SettingsError> {
        if !(1..=STATEMENT_KEYS_MAX).contains(&self.batch_rows_max) {
            return Err(SettingsError::BatchRows(self.batch_rows_max));
        }
        if !(0.0..=1_000.0).contains(&self.pause_factor) {
            return Err(SettingsError::PauseFactor(self.pause_factor));
        }
        if self.pause_min > self.pause_max {
            return Err(SettingsError::Range {
                min: "pause_min",
                max: "pause_max",
            });
        }
        if self.retry_min > self.retry_max {
            return Err(SettingsError::Range {
                min: "retry_min",
                max: "retry_max",
            });
        }
        // A renewal, a read and a look at the replicas may each take their limit, and then there
        // must be time for a batch.
        let least = (4 * self.statement_time_max).max(2 * self.renew_interval);
        if self.lease_length < least {
            return Err(SettingsError::Lease {
                lease: self.lease_length,
                least,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        assert_eq!(SweeperSettings::default().check(), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_would() {
        let rows = SweeperSettings {
            batch_rows_max: 0,
            ..Default::default()
        };
        assert_eq!(
            rows.check().unwrap_err().to_string(),
            "batch_rows_max is 0: use 1 to 128"
        );
        let factor = SweeperSettings {
            pause_factor: f64::NAN,
            ..Default::default()
        };
        assert!(factor.check().is_err());
        let lease = SweeperSettings {
            lease_length: Duration::from_secs(4),
            ..Default::default()
        };
        let error = lease.check().unwrap_err().to_string();
        assert!(
            error.contains("lease_length is 4s: use at least 10s"),
            "{error}"
        );
        let pauses = SweeperSettings {
            pause_min: Duration::from_secs(9),
            ..Default::default()
        };
        assert_eq!(
            pauses.check(),
            Err(SettingsError::Range {
                min: "pause_min",
                max: "pause_max"
            })
        );
    }
}
