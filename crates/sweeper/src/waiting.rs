//! Why a sweeper does not sweep at the moment: pure.

use std::{fmt, time::Duration};

use freehold_storage::sweep::Lease;

use crate::settings::SweeperSettings;

/// What a sweeper waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// Its first look at the database.
    Start,
    /// Nothing: this router does not offer to sweep.
    Disabled,
    /// The lease, which another router has.
    Lease {
        /// Who has it, if anybody still has.
        holder: Option<String>,
    },
    /// An operator, who paused it.
    Operator,
    /// Rows: nothing is due.
    Rows,
    /// A replica that is too far behind.
    Replica {
        /// Host and port.
        replica: String,
        /// How far; `None` if it could not say.
        lag: Option<Duration>,
        /// How far it may be.
        limit: Duration,
    },
    /// The purge of undo records.
    Purge {
        /// How many wait.
        records: u64,
        /// How many may.
        limit: u64,
    },
    /// The fence: the server says that it is not the shard's master, or no longer.
    Fence,
    /// The master, which did not answer or refused.
    Master {
        /// What came of it.
        error: String,
    },
    /// Nothing any more: it was shut down.
    Stopped,
}

impl Waiting {
    /// A word for a metric's label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Disabled => "disabled",
            Self::Lease { .. } => "lease",
            Self::Operator => "operator",
            Self::Rows => "rows",
            Self::Replica { lag: Some(_), .. } => "replica",
            Self::Replica { lag: None, .. } => "replica_silent",
            Self::Purge { .. } => "purge",
            Self::Fence => "fence",
            Self::Master { .. } => "master",
            Self::Stopped => "stopped",
        }
    }

    /// Every word of [`Self::as_str`].
    pub const WORDS: [&'static str; 11] = [
        "start",
        "disabled",
        "lease",
        "operator",
        "rows",
        "replica",
        "replica_silent",
        "purge",
        "fence",
        "master",
        "stopped",
    ];
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("the first look at the database"),
            Self::Disabled => f.write_str("other routers: this one does not offer to sweep"),
            Self::Lease {
                holder: Some(holder),
            } => write!(f, "the lease, which {holder} has"),
            Self::Lease { holder: None } => f.write_str("the lease"),
            Self::Operator => f.write_str("an operator paused it: freehold sweep --resume"),
            Self::Rows => f.write_str("nothing is due"),
            Self::Replica {
                replica,
                lag: Some(lag),
                limit,
            } => {
                write!(f, "replica {replica} is {lag:?} behind, above {limit:?}")
            }
            Self::Replica {
                replica,
                lag: None,
                limit,
            } => {
                write!(
                    f,
                    "replica {replica} cannot say how far it is behind (limit {limit:?}): is it \
                     down, or does its replication stand? Mend it, or take it out of the config"
                )
            }
            Self::Purge { records, limit } => {
                write!(f, "{records} undo records wait to be purged, above {limit}")
            }
            Self::Fence => {
                f.write_str("the fence: this server is not the shard's master, or not yet")
            }
            Self::Master { error } => write!(f, "the master: {error}"),
            Self::Stopped => f.write_str("this router is shutting down"),
        }
    }
}

/// What a replica said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicaLag {
    pub(crate) replica: String,
    /// `None` if it could not be asked or could not say: never zero.
    pub(crate) lag: Option<Duration>,
}

/// Whether to wait before looking for rows at all.
pub(crate) fn before_reading(enabled: bool, held: bool, lease: &Lease) -> Option<Waiting> {
    if !enabled {
        return Some(Waiting::Disabled);
    }
    if !held {
        return Some(Waiting::Lease {
            holder: lease.holder.clone(),
        });
    }
    lease.paused.then_some(Waiting::Operator)
}

/// Whether to wait before deleting rows that are due. Where several reasons hold, the first is
/// named: they are looked at again when it is gone.
pub(crate) fn before_deleting(
    replicas: &[ReplicaLag],
    purge_backlog: Option<u64>,
    settings: &SweeperSettings,
) -> Option<Waiting> {
    let late = settings.replica_lag_max.and_then(|limit| {
        let above = |lag: Option<Duration>| lag.is_none_or(|lag| lag > limit);
        replicas
            .iter()
            .find(|replica| above(replica.lag))
            .map(|replica| Waiting::Replica {
                replica: replica.replica.clone(),
                lag: replica.lag,
                limit,
            })
    });
    let purge = || {
        let (records, limit) = purge_backlog.zip(settings.purge_backlog_max)?;
        (records > limit).then_some(Waiting::Purge { records, limit })
    };
    late.or_else(purge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str, lag_ms: Option<u64>) -> ReplicaLag {
        ReplicaLag {
            replica: name.to_owned(),
            lag: lag_ms.map(Duration::from_millis),
        }
    }

    #[test]
    fn only_the_holder_of_the_lease_reads_and_only_unless_paused() {
        let lease = |held, paused| Lease {
            held,
            holder: Some("b".to_owned()),
            paused,
        };
        let other = Waiting::Lease {
            holder: Some("b".to_owned()),
        };
        assert_eq!(
            before_reading(true, false, &lease(false, false)),
            Some(other.clone())
        );
        assert_eq!(
            before_reading(true, false, &lease(false, true)),
            Some(other)
        );
        assert_eq!(
            before_reading(true, true, &lease(true, true)),
            Some(Waiting::Operator)
        );
        assert_eq!(before_reading(true, true, &lease(true, false)), None);
    }

    #[test]
    fn a_late_or_silent_replica_stops_sweeping_and_is_named() {
        let settings = SweeperSettings::default();
        let limit = settings.replica_lag_max.unwrap();
        let stops = |replicas: &[ReplicaLag]| before_deleting(replicas, None, &settings);
        assert_eq!(stops(&[]), None);
        assert_eq!(
            stops(&[replica("r1", Some(0)), replica("r2", Some(5_000))]),
            None
        );
        let late = Some(Duration::from_millis(5_001));
        assert_eq!(
            stops(&[replica("r1", Some(0)), replica("r2", Some(5_001))]),
            Some(Waiting::Replica {
                replica: "r2".to_owned(),
                lag: late,
                limit
            })
        );
        assert_eq!(
            stops(&[replica("r1", None)]),
            Some(Waiting::Replica {
                replica: "r1".to_owned(),
                lag: None,
                limit
            })
        );
    }

    #[test]
    fn a_purge_that_is_behind_stops_sweeping() {
        let settings = SweeperSettings {
            purge_backlog_max: Some(1_000),
            ..SweeperSettings::default()
        };
        assert_eq!(before_deleting(&[], None, &settings), None);
        assert_eq!(before_deleting(&[], Some(1_000), &settings), None);
        assert_eq!(
            before_deleting(&[], Some(1_001), &settings),
            Some(Waiting::Purge {
                records: 1_001,
                limit: 1_000
            })
        );
    }

    #[test]
    fn without_limits_nothing_stops_it() {
        let settings = SweeperSettings {
            replica_lag_max: None,
            purge_backlog_max: None,
            ..SweeperSettings::default()
        };
        assert_eq!(
            before_deleting(&[replica("r", None)], Some(u64::MAX), &settings),
            None
        );
    }

    #[test]
    fn every_reason_has_a_word_and_a_sentence() {
        let limit = Duration::from_secs(5);
        let all = [
            Waiting::Start,
            Waiting::Disabled,
            Waiting::Lease { holder: None },
            Waiting::Operator,
            Waiting::Rows,
            Waiting::Replica {
                replica: "r:1".to_owned(),
                lag: Some(limit),
                limit,
            },
            Waiting::Replica {
                replica: "r:1".to_owned(),
                lag: None,
                limit,
            },
            Waiting::Purge {
                records: 2,
                limit: 1,
            },
            Waiting::Fence,
            Waiting::Master {
                error: "no answer".to_owned(),
            },
            Waiting::Stopped,
        ];
        assert_eq!(all.each_ref().map(Waiting::as_str), Waiting::WORDS);
        let silent = all[6].to_string();
        assert!(
            silent.starts_with("replica r:1 cannot say how far it is behind (limit 5s)"),
            "{silent}"
        );
    }
}
