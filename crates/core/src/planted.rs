//! Bugs on purpose, to see that the tests find them. No build that anybody uses has them: the feature
//! `planted-bugs` is off by default, and with it a bug is there only if the environment variable
//! `FREEHOLD_PLANTED_BUG` names it. Without the feature [`is`] is a constant, and nothing is left of
//! any of them.

/// What can be planted. Each is one line at the place that does it right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A write's look at the fence takes no lock.
    NoLockClause,
    /// A write whose outcome is unknown is sent again.
    BlindRetry,
    /// The fence is looked at by a statement of its own, before the PUT.
    FenceReadApart,
    /// A connection that is used again has an open transaction.
    OpenTransaction,
    /// A read does not care whose fence it was made under.
    EpochIgnoredForReads,
    /// A replica answers what the master was asked.
    ReplicaAsMaster,
    /// Expiry is decided by the router's clock, which is two seconds late.
    RouterClock,
    /// The sweeper deletes what it found due without looking again.
    SweeperLooksOnce,
    /// A lane gives a caller the answer of its neighbour in the batch.
    NeighboursAnswer,
    /// A write whose answer was lost is said to be applied.
    UnknownIsApplied,
}

/// All of them, with the names that the environment variable takes.
pub const BUGS: [(Bug, &str); 10] = [
    (Bug::NoLockClause, "no-lock-clause"),
    (Bug::BlindRetry, "blind-retry"),
    (Bug::FenceReadApart, "fence-read-apart"),
    (Bug::OpenTransaction, "open-transaction"),
    (Bug::EpochIgnoredForReads, "epoch-ignored-for-reads"),
    (Bug::ReplicaAsMaster, "replica-as-master"),
    (Bug::RouterClock, "router-clock"),
    (Bug::SweeperLooksOnce, "sweeper-looks-once"),
    (Bug::NeighboursAnswer, "neighbours-answer"),
    (Bug::UnknownIsApplied, "unknown-is-applied"),
];

/// Whether this bug was planted.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
pub const fn is(_bug: Bug) -> bool {
    false
}

/// Whether this bug was planted.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn is(bug: Bug) -> bool {
    static NAME: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let planted = NAME.get_or_init(|| std::env::var("FREEHOLD_PLANTED_BUG").ok());
    let name = BUGS.iter().find(|(known, _)| *known == bug);
    planted.as_deref() == name.map(|(_, name)| *name)
}
