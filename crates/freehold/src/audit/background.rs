//! Audits that run by themselves: each shard once in a while, by the router that sweeps it, and the
//! slots of all by the one that sweeps the first. So there is one at a time, and it moves to another
//! router with the sweeper's lease.

use std::{collections::HashMap, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use rand::{RngExt as _, rngs::StdRng};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Settings, audit_shard, audit_slots,
    owners::Ownership,
    report::{Report, ShardReport},
};
use crate::{
    cluster::servers::{ShardServers, servers},
    config::{AuditSection, ShardConfig},
    sweepers::SweeperDesk,
};

/// How often to see which shards are swept here and due.
const POLL: Duration = Duration::from_secs(5);

/// The first audit comes so long after the lease at most: a router need not live for a whole
/// interval to have audited.
const FIRST_AFTER_MAX: Duration = Duration::from_secs(600);

const STRAY_ROWS: &str = "stray_rows";
const REPLICA_ROWS: &str = "replica_rows";
const UNOWNED_SLOTS: &str = "unowned_slots";
const CONTESTED_SLOTS: &str = "contested_slots";

/// Kinds of findings.
const OF_SHARDS: [&str; 2] = [STRAY_ROWS, REPLICA_ROWS];
const OF_SLOTS: [&str; 2] = [UNOWNED_SLOTS, CONTESTED_SLOTS];

/// What is counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditMetrics {
    findings: Family<FindingLabels, Gauge>,
    audits: Family<ResultLabels, Counter>,
    rows: Family<ShardLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    /// Empty for the slots, which are of no one shard.
    shard: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    shard: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabels {
    shard: String,
}

impl AuditMetrics {
    /// Registers everything.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "audit_findings",
            "What the last audit by this router found that must not be, by kind; absent where another \
             router audits",
            self.findings.clone(),
        );
        registry.register(
            "audits",
            "Audits that ended, of each shard and (without a shard) of the slots, by result",
            self.audits.clone(),
        );
        registry.register(
            "audit_rows",
            "Rows of masters that audits compared with their replicas",
            self.rows.clone(),
        );
    }

    fn found(&self, shard: &str, kind: &'static str, count: u64) {
        let shard = shard.to_owned();
        let gauge = self
            .findings
            .get_or_create_owned(&FindingLabels { shard, kind });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The same after a look that was not whole: what it did not see may be there all the same.
    fn found_at_least(&self, shard: &str, kind: &'static str, count: u64) {
        if count > 0 {
            self.found(shard, kind, count);
        }
    }

    /// Another router audits it from now on.
    fn forget(&self, shard: &str, kinds: [&'static str; 2]) {
        for kind in kinds {
            let shard = shard.to_owned();
            self.findings.remove(&FindingLabels { shard, kind });
        }
    }

    fn ended(&self, report: &Report, shard: &str) {
        let result = match (report.has_findings(), report.is_incomplete()) {
            (true, _) => "findings",
            (false, true) => "incomplete",
            (false, false) => "clean",
        };
        let shard = shard.to_owned();
        let counter = self
            .audits
            .get_or_create_owned(&ResultLabels { shard, result });
        counter.inc();
    }
}

/// Audits what this process sweeps.
pub(crate) struct Background {
    pub(crate) desk: Arc<SweeperDesk>,
    pub(crate) metrics: AuditMetrics,
    pub(crate) section: AuditSection,
    pub(crate) connect_timeout: Duration,
    pub(crate) random: StdRng,
}

impl Background {
    /// Audits until `stop`. What it reads it only reads, so it may end anywhere.
    pub(crate) async fn run(self, stop: CancellationToken) {
        if self.section.enabled {
            stop.run_until_cancelled(self.go_on()).await;
        }
    }

    async fn go_on(mut self) {
        // When each shard that is swept here is due; the slots go with the first of all.
        let mut due: HashMap<String, Instant> = HashMap::new();
        loop {
            sleep(POLL.min(self.interval())).await;
            let (shards, held) = self.desk.held();
            due.retain(|name, _| {
                let is_held = held.contains(name);
                if !is_held {
                    self.metrics.forget(name, OF_SHARDS);
                }
                is_held
            });
            let first = shards.first();
            if first.is_none_or(|first| !held.contains(&first.name)) {
                self.metrics.forget("", OF_SLOTS);
            }
            for name in held {
                let first = self.interval().min(FIRST_AFTER_MAX);
                let spread = first.mul_f64(self.random.random_range(0.5..1.0));
                due.entry(name).or_insert_with(|| Instant::now() + spread);
            }
            let next = due.iter().min_by_key(|(_, at)| **at);
            let Some((name, _)) = next.filter(|(_, at)| **at <= Instant::now()) else {
                continue;
            };
            let name = name.clone();
            self.audit(&shards, &name).await;
            due.insert(name, Instant::now() + self.interval());
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(self.section.interval_s)
    }

    async fn audit(&mut self, shards: &[ShardConfig], name: &str) {
        let opened = servers(shards, None, self.connect_timeout, &mut self.random);
        if opened.first().is_some_and(|first| first.name == name) {
            self.audit_slots(&opened).await;
        }
        let Some(shard) = opened.iter().find(|shard| shard.name == name) else {
            return;
        };
        let settings = Settings {
            rate_max: self.section.rows_per_s_max as f64,
            lag_max: Duration::from_millis(self.section.lag_ms_max),
            only: None,
        };
        let report = audit_shard(shard, &settings, &mut |_, _, _| {}).await;
        let strays = report.strays.iter().map(|stray| stray.rows).sum();
        let differences = report.replicas.iter().map(|other| other.differences).sum();
        let compared = report.replicas.iter();
        let is_whole = report.unreached.is_none();
        let all_compared = is_whole && compared.clone().all(|other| other.unfinished.is_none());
        for (kind, count, is_whole) in [
            (STRAY_ROWS, strays, is_whole),
            (REPLICA_ROWS, differences, all_compared),
        ] {
            match is_whole {
                true => self.metrics.found(name, kind, count),
                false => self.metrics.found_at_least(name, kind, count),
            }
        }
        let rows = report.replicas.iter().map(|other| other.rows).sum();
        let shard = name.to_owned();
        let counter = self
            .metrics
            .rows
            .get_or_create_owned(&ShardLabels { shard });
        counter.inc_by(rows);
        self.tell(name, Ownership::default(), vec![report]);
    }

    async fn audit_slots(&self, shards: &[ShardServers]) {
        let slots = audit_slots(shards).await;
        let contested = slots.contested.len() as u64;
        if slots.unasked.is_empty() {
            let unowned = slots.unowned.len() as u64;
            self.metrics.found("", UNOWNED_SLOTS, unowned);
            self.metrics.found("", CONTESTED_SLOTS, contested);
        } else {
            self.metrics.found_at_least("", CONTESTED_SLOTS, contested);
        }
        self.tell("", slots, Vec::new());
    }

    fn tell(&self, shard: &str, slots: Ownership, shards: Vec<ShardReport>) {
        let report = Report { slots, shards };
        self.metrics.ended(&report, shard);
        for finding in report.lines() {
            match report.has_findings() {
                true => tracing::error!(finding, "audit"),
                false => tracing::warn!(finding, "audit"),
            }
        }
        if !report.has_findings() && !report.is_incomplete() {
            tracing::info!(shard, "audit found nothing");
        }
    }
}
