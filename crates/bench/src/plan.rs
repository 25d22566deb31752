//! What is measured: the command line, and the cells that it makes.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use freehold_tests::Engine;
use serde::Serialize;

use crate::{
    connections::ConnectionsArgs, data::DataSet, shards::ShardsArgs, targets::Target,
    workload::Workload,
};

/// Bytes of values that a data set may have: large values come in fewer rows.
const DATA_SET_BYTES_MAX: u64 = 512 << 20;

/// Rows of the data set with tags.
const TAGGED_ROWS_MAX: u64 = 100_000;

/// Measures what callers get through Freehold and without it.
#[derive(Debug, Parser)]
#[command(name = "freehold-bench", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs every target on the same rows, in turns, and writes a report.
    Compare(Compare),
    /// Measures what many shards cost a router, over storage that answers at once.
    Shards(ShardsArgs),
    /// Measures what many open connections cost a router.
    Connections(ConnectionsArgs),
}

/// What `compare` can be told.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Folder for report.md, report.json and the charts; made if it is not there.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Which database server.
    #[arg(long, value_enum, default_value = "mariadb")]
    server: ServerKind,
    /// Which ways to the data; what is compared is compared with `direct`.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Target::ALL)]
    targets: Vec<Target>,
    /// What callers do. `get` and `put` are measured with every number of callers and every size.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Workload::value_variants().to_vec())]
    workloads: Vec<Workload>,
    /// Callers that each have one request outstanding. Workloads other than `get` and `put` have
    /// 256 of them, or the most that are named here.
    #[arg(long, value_delimiter = ',', default_values = ["1", "16", "64", "256", "1024"])]
    callers: Vec<usize>,
    /// Bytes of each value. Workloads other than `get` and `put`, and other numbers of callers,
    /// have the first.
    #[arg(long, value_delimiter = ',', default_values = ["100", "1024", "65536"])]
    value_bytes: Vec<usize>,
    /// Rows that are loaded first; fewer where values are large, 512 MiB of each size at most.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    rows: u64,
    /// Seconds that each target is measured for, each time.
    #[arg(long, default_value = "5", value_parser = parse_seconds)]
    seconds: Duration,
    /// How often each is measured; medians are what counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// The databases' buffer pool, in MiB.
    #[arg(long, default_value_t = 2048)]
    buffer_pool_mib: u32,
    /// TOML for the router's config, such as `lanes.writes = 8`.
    #[arg(long, default_value = "")]
    router_config: String,
    /// Streams of the Rust client, and connections of pipelined Redis.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Slows a target down on purpose, to see that it shows: `client:500` is 500 microseconds per
    /// operation.
    #[arg(long, value_parser = parse_slow)]
    slow: Option<(Target, Duration)>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ServerKind {
    Mariadb,
    Mysql,
}

/// One workload under one load. Every target is measured in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct Cell {
    pub(crate) workload: Workload,
    pub(crate) callers: usize,
    #[serde(flatten)]
    pub(crate) data: DataSet,
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) engine: Engine,
    pub(crate) targets: Vec<Target>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) rows: u64,
    pub(crate) duration: Duration,
    pub(crate) repetitions: u32,
    pub(crate) buffer_pool_mib: u32,
    pub(crate) router_config: String,
    pub(crate) streams: usize,
    pub(crate) slow: Option<(Target, Duration)>,
}

impl Plan {
    /// Rows of a data set.
    pub(crate) fn rows_of(&self, data: DataSet) -> u64 {
        let fitting = DATA_SET_BYTES_MAX / data.value_bytes.max(1) as u64;
        let rows = self.rows.min(fitting).max(1_000);
        if data.tagged {
            rows.min(TAGGED_ROWS_MAX)
        } else {
            rows
        }
    }

    /// Those that the cells need.
    pub(crate) fn data_sets(&self) -> Vec<DataSet> {
        let mut sets: Vec<DataSet> = self.cells.iter().map(|cell| cell.data).collect();
        sets.sort_unstable();
        sets.dedup();
        sets
    }
}

impl Compare {
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            engine: match self.server {
                ServerKind::Mariadb => Engine::MariaDb,
                ServerKind::Mysql => Engine::MySql,
            },
            targets: self.targets.clone(),
            cells: self.cells(),
            rows: self.rows,
            duration: self.seconds,
            repetitions: self.repetitions,
            buffer_pool_mib: self.buffer_pool_mib,
            router_config: self.router_config.clone(),
            streams: self.streams.max(1),
            slow: self.slow,
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let most = self.callers.iter().copied().max().unwrap_or(1);
        let usual = if self.callers.contains(&256) {
            256
        } else {
            most
        };
        let Some(first) = self.value_bytes.first().copied() else {
            return Vec::new();
        };
        let mut cells = Vec::new();
        for workload in self.workloads.iter().copied() {
            let cell = |callers, value_bytes| Cell {
                workload,
                callers,
                data: DataSet {
                    value_bytes,
                    tagged: workload.scans(),
                },
            };
            if workload.is_swept() {
                cells.extend(self.callers.iter().map(|callers| cell(*callers, first)));
                let others = self.value_bytes.iter().skip(1);
                cells.extend(others.map(|bytes| cell(usual, *bytes)));
            } else {
                cells.push(cell(usual, first));
            }
        }
        cells
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let long_enough = seconds.filter(|seconds| *seconds >= Duration::from_millis(100));
    long_enough.ok_or_else(|| format!("'{text}' is not a number of seconds from 0.1 on"))
}

fn parse_slow(text: &str) -> Result<(Target, Duration), String> {
    let wrong = || format!("'{text}' is not TARGET:MICROSECONDS, such as client:500");
    let (target, us) = text.split_once(':').ok_or_else(wrong)?;
    let target = Target::from_str(target, false)?;
    let us = us.parse().map_err(|_| wrong())?;
    Ok((target, Duration::from_micros(us)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(more: &[&str]) -> Plan {
        let words = ["freehold-bench", "compare", "--out", "x"];
        match Arguments::parse_from(words.iter().chain(more)).command {
            Command::Compare(compare) => compare.plan(),
            _ => unreachable!("the words say compare"),
        }
    }

    #[test]
    fn get_and_put_are_swept_and_the_others_measured_once() {
        let plan = plan(&["--workloads", "get,ycsb-e", "--callers", "1,256,1024"]);
        let cells: Vec<_> = plan
            .cells
            .iter()
            .map(|cell| (cell.workload, cell.callers, cell.data.value_bytes))
            .collect();
        assert_eq!(
            cells,
            [
                (Workload::Get, 1, 100),
                (Workload::Get, 256, 100),
                (Workload::Get, 1024, 100),
                (Workload::Get, 256, 1024),
                (Workload::Get, 256, 65536),
                (Workload::YcsbE, 256, 100),
            ]
        );
        assert_eq!(plan.data_sets().len(), 4);
    }

    #[test]
    fn large_values_come_in_fewer_rows() {
        let plan = plan(&[]);
        let rows = |value_bytes, tagged| {
            plan.rows_of(DataSet {
                value_bytes,
                tagged,
            })
        };
        assert_eq!(rows(100, false), 1_000_000);
        assert_eq!(rows(65_536, false), 8_192);
        assert_eq!(rows(100, true), 100_000);
    }

    #[test]
    fn a_slowdown_names_a_target_and_a_time() {
        let slow = plan(&["--slow", "client:500"]).slow;
        assert_eq!(slow, Some((Target::Client, Duration::from_micros(500))));
        assert!(parse_slow("nobody:5").is_err());
        assert!(parse_slow("client").is_err());
    }
}
