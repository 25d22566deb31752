//! What is measured.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use freehold_tests::Engine;
use serde::Serialize;

use crate::targets::Target;

/// Compares Freehold with calling the database directly, on a server that this starts.
#[derive(Debug, Parser)]
#[command(name = "freehold-bench", version)]
pub(crate) struct Arguments {
    /// Which database server.
    #[arg(long, value_enum, default_value = "mariadb")]
    server: ServerKind,
    /// Callers that each have one request outstanding.
    #[arg(long, default_value_t = 256)]
    callers: usize,
    /// Rows that are loaded first.
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Seconds that each target is measured for, each time.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    repetitions: u32,
    /// What callers do.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["get", "put"])]
    workloads: Vec<Workload>,
    /// Which ways to the data; ratios are to `direct`.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["direct", "unary", "pipeline"])]
    targets: Vec<Target>,
    /// TOML for the router's config, such as `lanes.writes = 8`.
    #[arg(long, default_value = "")]
    router_config: String,
    /// A file for all figures, as JSON.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ServerKind {
    Mariadb,
    Mysql,
}

/// What callers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// Reads a random key that is there.
    Get,
    /// Overwrites a random key.
    Put,
}

impl Workload {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
        }
    }
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) engine: Engine,
    pub(crate) callers: usize,
    pub(crate) rows: u64,
    pub(crate) value_bytes: usize,
    pub(crate) duration: Duration,
    pub(crate) repetitions: u32,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) targets: Vec<Target>,
    pub(crate) router_config: String,
}

impl Arguments {
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            engine: match self.server {
                ServerKind::Mariadb => Engine::MariaDb,
                ServerKind::Mysql => Engine::MySql,
            },
            callers: self.callers,
            rows: self.rows,
            value_bytes: self.value_bytes,
            duration: Duration::from_secs(self.seconds),
            repetitions: self.repetitions,
            workloads: self.workloads.clone(),
            targets: self.targets.clone(),
            router_config: self.router_config.clone(),
        }
    }
}
