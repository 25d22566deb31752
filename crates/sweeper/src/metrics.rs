//! What is counted, per shard.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::waiting::Waiting;

/// Upper bounds in seconds: a batch in memory takes 1 ms, one with two disk syncs some 10 ms.
const BATCH_SECONDS: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
];

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabel {
    shard: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    shard: String,
    reason: &'static str,
}

/// The metrics of all sweepers of a process.
///
/// What only the holder of a lease knows (ages, rows due, pauses) is absent elsewhere.
#[derive(Debug, Clone)]
pub struct SweeperMetrics {
    rows_deleted: Family<ShardLabel, Counter>,
    batches: Family<ShardLabel, Counter>,
    batch_seconds: Family<ShardLabel, Histogram, fn() -> Histogram>,
    pause_seconds: Family<ShardLabel, Seconds>,
    oldest_expired_seconds: Family<ShardLabel, Seconds>,
    rows_due: Family<ShardLabel, Gauge>,
    lease_held: Family<ShardLabel, Gauge>,
    waiting: Family<ReasonLabel, Gauge>,
    errors: Family<ShardLabel, Counter>,
}

impl Default for SweeperMetrics {
    fn default() -> Self {
        Self {
            rows_deleted: Family::default(),
            batches: Family::default(),
            batch_seconds: Family::new_with_constructor(|| Histogram::new(BATCH_SECONDS)),
            pause_seconds: Family::default(),
            oldest_expired_seconds: Family::default(),
            rows_due: Family::default(),
            lease_held: Family::default(),
            waiting: Family::default(),
            errors: Family::default(),
        }
    }
}

impl SweeperMetrics {
    /// Registers everything as `sweeper_...` under the registry's own prefix.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("sweeper");
        registry.register(
            "rows_deleted",
            "Rows deleted because they were expired or deleted",
            self.rows_deleted.clone(),
        );
        registry.register("batches", "Batches of rows deleted", self.batches.clone());
        registry.register_with_unit(
            "batch_duration",
            "How long a batch took to read and delete",
            Unit::Seconds,
            self.batch_seconds.clone(),
        );
        registry.register_with_unit(
            "pause",
            "The pause after the last batch",
            Unit::Seconds,
            self.pause_seconds.clone(),
        );
        registry.register_with_unit(
            "oldest_expired_row_age",
            "How long the oldest expired row has been due; 0 if none is",
            Unit::Seconds,
            self.oldest_expired_seconds.clone(),
        );
        registry.register(
            "rows_due",
            "Rows still due, counted up to a bound",
            self.rows_due.clone(),
        );
        registry.register(
            "lease_held",
            "1 if this router sweeps the shard",
            self.lease_held.clone(),
        );
        registry.register(
            "waiting",
            "1 for the reason why this router does not sweep the shard now: replica is too far \
             behind, replica_silent does not say how far",
            self.waiting.clone(),
        );
        registry.register(
            "errors",
            "Failed statements and connections",
            self.errors.clone(),
        );
    }

    pub(crate) fn of_shard(&self, shard: &str) -> ShardMetrics {
        let shard = ShardLabel {
            shard: shard.to_owned(),
        };
        ShardMetrics {
            rows_deleted: self.rows_deleted.get_or_create_owned(&shard),
            batches: self.batches.get_or_create_owned(&shard),
            batch_seconds: self.batch_seconds.get_or_create_owned(&shard),
            lease_held: self.lease_held.get_or_create_owned(&shard),
            errors: self.errors.get_or_create_owned(&shard),
            all: self.clone(),
            shard,
        }
    }
}

/// The metrics of one shard.
#[derive(Debug)]
pub(crate) struct ShardMetrics {
    pub(crate) rows_deleted: Counter,
    pub(crate) batches: Counter,
    pub(crate) batch_seconds: Histogram,
    pub(crate) errors: Counter,
    lease_held: Gauge,
    all: SweeperMetrics,
    shard: ShardLabel,
}

impl ShardMetrics {
    pub(crate) fn pause(&self, pause: Duration) {
        self.all
            .pause_seconds
            .get_or_create(&self.shard)
            .set(pause.as_secs_f64());
    }

    pub(crate) fn oldest_expired(&self, age: Duration) {
        self.all
            .oldest_expired_seconds
            .get_or_create(&self.shard)
            .set(age.as_secs_f64());
    }

    pub(crate) fn rows_due(&self, rows: u64) {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.all.rows_due.get_or_create(&self.shard).set(rows);
    }

    /// Without the lease the rest is not known any more: an old figure would be a wrong one.
    pub(crate) fn lease(&self, held: bool) {
        self.lease_held.set(i64::from(held));
        if !held {
            self.all.pause_seconds.remove(&self.shard);
            self.all.oldest_expired_seconds.remove(&self.shard);
            self.all.rows_due.remove(&self.shard);
        }
    }

    pub(crate) fn waiting(&self, waiting: Option<&Waiting>) {
        for reason in Waiting::WORDS {
            let label = ReasonLabel {
                shard: self.shard.shard.clone(),
                reason,
            };
            let is_it = waiting.is_some_and(|waiting| waiting.as_str() == reason);
            self.all.waiting.get_or_create(&label).set(i64::from(is_it));
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(metrics: &SweeperMetrics) -> String {
        let mut registry = Registry::with_prefix("freehold");
        metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn each_shard_has_its_own_figures() {
        let metrics = SweeperMetrics::default();
        let (a, b) = (metrics.of_shard("a"), metrics.of_shard("b"));
        a.rows_deleted.inc_by(7);
        a.lease(true);
        a.rows_due(3);
        a.oldest_expired(Duration::from_millis(1_500));
        b.waiting(Some(&Waiting::Operator));
        let text = text(&metrics);
        for line in [
            "freehold_sweeper_rows_deleted_total{shard=\"a\"} 7",
            "freehold_sweeper_rows_deleted_total{shard=\"b\"} 0",
            "freehold_sweeper_lease_held{shard=\"a\"} 1",
            "freehold_sweeper_rows_due{shard=\"a\"} 3",
            "freehold_sweeper_oldest_expired_row_age_seconds{shard=\"a\"} 1.5",
            "freehold_sweeper_waiting{shard=\"b\",reason=\"operator\"} 1",
            "freehold_sweeper_waiting{shard=\"b\",reason=\"rows\"} 0",
        ] {
            assert!(
                text.contains(&format!("{line}\n")),
                "{line} is not in\n{text}"
            );
        }
        assert!(
            !text.contains("rows_due{shard=\"b\"}"),
            "a figure that nobody knows:\n{text}"
        );
    }

    #[test]
    fn figures_of_a_lost_lease_disappear() {
        let metrics = SweeperMetrics::default();
        let a = metrics.of_shard("a");
        a.lease(true);
        a.rows_due(3);
        a.pause(Duration::from_secs(1));
        a.lease(false);
        let text = text(&metrics);
        assert!(text.contains("lease_held{shard=\"a\"} 0"), "{text}");
        assert!(
            !text.contains("rows_due{") && !text.contains("pause_seconds{"),
            "{text}"
        );
    }
}
