//! What a router counts. Names and labels are part of what operators build on.

use std::{sync::Arc, time::Duration};

use freehold_storage::StorageError;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};
use tonic::Code;

use crate::{
    request::{Ending, Kind},
    status,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    shard: String,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    shard: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabels {
    shard: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
    code: &'static str,
}

/// 100 µs to 13 s, each bucket twice the one before.
#[derive(Debug, Clone)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new((0..18).map(|power| 0.000_1 * f64::from(1 << power)))
    }
}

/// 1 to 128 rows.
#[derive(Debug, Clone)]
struct RowCounts;

impl MetricConstructor<Histogram> for RowCounts {
    fn new_metric(&self) -> Histogram {
        Histogram::new((0..8).map(|power| f64::from(1 << power)))
    }
}

/// All of a router's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<MethodLabels, Counter>,
    operation_seconds: Family<OperationLabels, Histogram, Seconds>,
    statement_seconds: Family<OperationLabels, Histogram, Seconds>,
    statement_rows: Family<OperationLabels, Histogram, RowCounts>,
    errors: Family<ErrorLabels, Counter>,
    turned_away: Family<ShardLabels, Counter>,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            operation_seconds: Family::new_with_constructor(Seconds),
            statement_seconds: Family::new_with_constructor(Seconds),
            statement_rows: Family::new_with_constructor(RowCounts),
            errors: Family::default(),
            turned_away: Family::default(),
        };
        registry.register(
            "requests",
            "gRPC calls that ended, by method and status code",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "operation",
            "From receiving one operation to its answer, queue included",
            Unit::Seconds,
            metrics.operation_seconds.clone(),
        );
        registry.register_with_unit(
            "statement",
            "One statement at the database, as the lane saw it",
            Unit::Seconds,
            metrics.statement_seconds.clone(),
        );
        registry.register(
            "statement_rows",
            "Rows in one statement: how well lanes batch",
            metrics.statement_rows.clone(),
        );
        registry.register(
            "errors",
            "Operations that ended without their answer, by reason",
            metrics.errors.clone(),
        );
        registry.register(
            "turned_away",
            "Operations that the fence turned away and that were routed again",
            metrics.turned_away.clone(),
        );
        metrics
    }

    /// Counts one gRPC call.
    pub fn request(&self, method: &'static str, code: Code) {
        self.requests
            .get_or_create(&MethodLabels {
                method,
                code: code_name(code),
            })
            .inc();
    }

    /// The metrics of one lane of a shard, looked up once.
    #[must_use]
    pub fn lane(&self, shard: &Arc<str>) -> LaneMetrics {
        let labels = |kind: Kind| OperationLabels {
            shard: shard.to_string(),
            operation: kind.as_str(),
        };
        let per_kind = Kind::ALL.map(|kind| KindMetrics {
            operation_seconds: self.operation_seconds.get_or_create_owned(&labels(kind)),
            statement_seconds: self.statement_seconds.get_or_create_owned(&labels(kind)),
            statement_rows: self.statement_rows.get_or_create_owned(&labels(kind)),
        });
        LaneMetrics {
            shard: shard.clone(),
            per_kind: Arc::new(per_kind),
            errors: self.errors.clone(),
            turned_away: self.turned_away.get_or_create_owned(&ShardLabels {
                shard: shard.to_string(),
            }),
        }
    }
}

#[derive(Debug)]
struct KindMetrics {
    operation_seconds: Histogram,
    statement_seconds: Histogram,
    statement_rows: Histogram,
}

/// What a lane counts.
#[derive(Debug, Clone)]
pub struct LaneMetrics {
    shard: Arc<str>,
    per_kind: Arc<[KindMetrics; Kind::ALL.len()]>,
    errors: Family<ErrorLabels, Counter>,
    turned_away: Counter,
}

impl LaneMetrics {
    /// One statement of so many rows.
    #[allow(clippy::cast_precision_loss)]
    pub fn statement(&self, kind: Kind, rows: usize, took: Duration) {
        let metrics = &self.per_kind[kind as usize];
        metrics.statement_seconds.observe(took.as_secs_f64());
        metrics.statement_rows.observe(rows as f64);
    }

    /// One operation that ended.
    pub fn ended(&self, kind: Kind, took: Duration, ending: &Ending) {
        self.per_kind[kind as usize]
            .operation_seconds
            .observe(took.as_secs_f64());
        if let Err(failure) = ending {
            self.error(status::reason(failure));
        }
    }

    /// One operation whose deadline passed.
    pub fn late(&self) {
        self.error("DEADLINE_PASSED");
    }

    /// One statement that failed.
    pub fn storage_error(&self, error: &StorageError) {
        tracing::debug!(shard = %self.shard, %error, "a statement failed");
    }

    /// Operations that the fence turned away.
    pub fn turned_away(&self, operations: usize) {
        self.turned_away.inc_by(operations as u64);
    }

    fn error(&self, reason: &'static str) {
        self.errors
            .get_or_create(&ErrorLabels {
                shard: self.shard.to_string(),
                reason,
            })
            .inc();
    }
}

/// The name of a status code as gRPC writes it.
#[must_use]
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
