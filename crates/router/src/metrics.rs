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
    failure::Failure,
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
    operation: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabels {
    shard: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
    shard: String,
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
    statement_errors: Family<ErrorLabels, Counter>,
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
            statement_errors: Family::default(),
            errors: Family::default(),
            turned_away: Family::default(),
        };
        registry.register(
            "requests",
            "gRPC calls that ended, by method, the shard of their key (empty for calls on many, whose \
             items are operations) and status code",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "operation",
            "From receiving one operation (a call on one key, an item of a batch or a pipeline, a \
             stretch of a scan) to what its caller was answered, queue included",
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
            "statement_errors",
            "Statements that failed at a database, seen by a caller or not: unreachable (nothing \
             was sent), lost (no answer), refused (an error number)",
            metrics.statement_errors.clone(),
        );
        registry.register(
            "errors",
            "Operations whose callers were answered with a failure, by its reason; shard and \
             operation are empty where it got no further than its message",
            metrics.errors.clone(),
        );
        registry.register(
            "turned_away",
            "Operations that the fence turned away and that were routed again",
            metrics.turned_away.clone(),
        );
        metrics
    }

    /// Counts one gRPC call that is not of one shard.
    pub fn request(&self, method: &'static str, code: Code) {
        self.request_of(method, "", code);
    }

    /// Counts one gRPC call.
    pub fn request_of(&self, method: &'static str, shard: &str, code: Code) {
        self.requests
            .get_or_create(&MethodLabels {
                method,
                shard: shard.to_owned(),
                code: code_name(code),
            })
            .inc();
    }

    /// The metrics of a shard's lanes, looked up once.
    #[must_use]
    pub fn lane(&self, shard: &str) -> LaneMetrics {
        let per_kind = Kind::ALL.map(|kind| {
            let labels = operation_labels(shard, kind);
            StatementMetrics {
                seconds: self.statement_seconds.get_or_create_owned(&labels),
                rows: self.statement_rows.get_or_create_owned(&labels),
            }
        });
        LaneMetrics {
            shard: shard.into(),
            per_kind: Arc::new(per_kind),
            errors: self.statement_errors.clone(),
            turned_away: self.turned_away.get_or_create_owned(&ShardLabels {
                shard: shard.to_owned(),
            }),
        }
    }

    /// The metrics of a shard's operations, looked up once.
    #[must_use]
    pub fn operations(&self, shard: &str) -> Arc<OperationMetrics> {
        let seconds = |kind| {
            let labels = operation_labels(shard, kind);
            self.operation_seconds.get_or_create_owned(&labels)
        };
        Arc::new(OperationMetrics {
            shard: shard.to_owned(),
            seconds: Some(Kind::ALL.map(seconds)),
            errors: self.errors.clone(),
        })
    }

    /// The metrics of operations that no shard serves.
    #[must_use]
    pub fn unrouted(&self) -> Arc<OperationMetrics> {
        Arc::new(OperationMetrics {
            shard: String::new(),
            seconds: None,
            errors: self.errors.clone(),
        })
    }
}

fn operation_labels(shard: &str, kind: Kind) -> OperationLabels {
    OperationLabels {
        shard: shard.to_owned(),
        operation: kind.as_str(),
    }
}

/// What is counted of operations as their callers see them end, each of them once.
#[derive(Debug)]
pub struct OperationMetrics {
    shard: String,
    /// By kind; absent where there is no shard whose speed it would show.
    seconds: Option<[Histogram; Kind::ALL.len()]>,
    errors: Family<ErrorLabels, Counter>,
}

impl OperationMetrics {
    /// One operation was answered.
    pub fn ended(&self, kind: Kind, took: Duration, ending: &Ending) {
        if let Some(seconds) = &self.seconds {
            seconds[kind as usize].observe(took.as_secs_f64());
        }
        if let Err(failure) = ending {
            self.error(kind.as_str(), failure);
        }
    }

    /// Something was refused before it became an operation.
    pub fn refused(&self, failure: &Failure) {
        self.error("", failure);
    }

    fn error(&self, operation: &'static str, failure: &Failure) {
        let labels = ErrorLabels {
            shard: self.shard.clone(),
            operation,
            reason: status::reason(failure),
        };
        self.errors.get_or_create(&labels).inc();
    }
}

#[derive(Debug)]
struct StatementMetrics {
    seconds: Histogram,
    rows: Histogram,
}

/// What a lane counts.
#[derive(Debug, Clone)]
pub struct LaneMetrics {
    shard: Arc<str>,
    per_kind: Arc<[StatementMetrics; Kind::ALL.len()]>,
    errors: Family<ErrorLabels, Counter>,
    turned_away: Counter,
}

impl LaneMetrics {
    /// One statement of so many rows.
    #[allow(clippy::cast_precision_loss)]
    pub fn statement(&self, kind: Kind, rows: usize, took: Duration) {
        let metrics = &self.per_kind[kind as usize];
        metrics.seconds.observe(took.as_secs_f64());
        metrics.rows.observe(rows as f64);
    }

    /// One statement that failed, or of which a row did.
    pub fn storage_error(&self, kind: Kind, error: &StorageError) {
        tracing::debug!(shard = %self.shard, %error, "a statement failed");
        let labels = ErrorLabels {
            shard: self.shard.to_string(),
            operation: kind.as_str(),
            reason: match error {
                StorageError::Unreachable { .. } => "unreachable",
                StorageError::Lost { .. } => "lost",
                StorageError::Refused { .. } => "refused",
            },
        };
        self.errors.get_or_create(&labels).inc();
    }

    /// Operations that the fence turned away.
    pub fn turned_away(&self, operations: usize) {
        self.turned_away.inc_by(operations as u64);
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
