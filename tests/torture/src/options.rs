//! What to run.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use freehold_tests::{Disk, Engine, Slowness, clock};

/// Breaks a cluster of two shards, with replicas, and two routers while clients use it, then
/// decides whether what they saw keeps Freehold's promises.
///
/// Exit code 0: every round is clean. 1: a violation, or a search that could not be decided.
#[derive(Debug, Clone, Parser)]
#[command(name = "torture", version)]
pub struct Options {
    /// What all random choices begin with; drawn and printed if absent.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Which database: mariadb or mysql.
    #[arg(long, default_value = "mariadb", value_parser = engine)]
    pub engine: Engine,
    /// How long to go on beginning rounds, in seconds. The audits come on top.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// How long one round asks, in seconds.
    #[arg(long, default_value_t = 20)]
    pub round_seconds: u64,
    /// Which faults to draw from; all if absent.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub faults: Vec<Kind>,
    /// Clients that have one request under way at a time, on each router.
    #[arg(long, default_value_t = 6)]
    pub unary: u32,
    /// Clients that share one Rust client of both routers.
    #[arg(long, default_value_t = 6)]
    pub pipelined: u32,
    /// How long after its deadline a request may end, in milliseconds; what this machine itself stood
    /// still meanwhile does not count.
    #[arg(long, default_value_t = 100)]
    pub late_ms_max: i64,
    /// How many of a hundred requests may end without a word of a router, while nothing is broken
    /// between the two and this machine does not stand still.
    #[arg(long, default_value_t = freehold_checker::endings::UNANSWERED_PERCENT_MAX)]
    pub unanswered_percent_max: f64,
    /// Where a failed round's history and timeline go.
    #[arg(long, default_value = "target/torture")]
    pub out: PathBuf,
    /// Keep the history of clean rounds, too.
    #[arg(long)]
    pub keep: bool,
    /// A bug to plant; the program must have been built with the feature `planted-bugs`.
    #[arg(long)]
    pub bug: Option<String>,
}

/// A family of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Routers are killed, frozen and stopped.
    Routers,
    /// Masters are killed, frozen, stopped, read-only for a while, or out of connections.
    Masters,
    /// Replicas are killed, frozen, stopped, or stand still.
    Replicas,
    /// The network between routers and databases.
    Network,
    /// The network between clients and routers.
    Clients,
    /// Slots change hands between the shards, by SQL.
    Handovers,
    /// Slots move by the command, whose process is killed, frozen and stopped.
    Moves,
    /// Disks of servers are full for a while.
    FullDisks,
    /// Disks of servers take a tenth of a second for each write.
    SlowDisks,
    /// Clocks of servers are an hour ahead, or behind, for a while.
    Clocks,
    /// Masters are replaced. Each shard has two replicas then, and a commit waits for one of them.
    Failovers,
}

impl Kind {
    /// Whether it can be done to these servers on this machine, and why not.
    ///
    /// # Errors
    /// In words, with what would help.
    pub fn is_available(self, engine: Engine) -> crate::Result<()> {
        match self {
            Self::Clocks if engine == Engine::MySql => {
                return Err("MySQL 9.7 hangs while it starts under libfaketime".into());
            }
            Self::FullDisks => Disk::is_available(),
            Self::SlowDisks => Slowness::is_available(),
            Self::Clocks => clock::library().map(drop),
            _ => Ok(()),
        }
        .map_err(crate::Error::from)
    }

    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Routers,
        Self::Masters,
        Self::Replicas,
        Self::Network,
        Self::Clients,
        Self::Handovers,
        Self::Moves,
        Self::FullDisks,
        Self::SlowDisks,
        Self::Clocks,
        Self::Failovers,
    ];
}

impl Options {
    /// Those that are to be drawn from.
    pub fn kinds(&self) -> Vec<Kind> {
        if self.faults.is_empty() {
            Kind::ALL.to_vec()
        } else {
            self.faults.clone()
        }
    }

    /// The command that repeats a run with this seed.
    pub fn command(&self, seed: u64) -> String {
        let names = self.kinds();
        let names = names.iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
        let mut command = format!(
            "cargo run -p freehold-torture -- --seed {seed} --engine {} --seconds {} \
             --round-seconds {} --faults {} --unary {} --pipelined {} --late-ms-max {} \
             --unanswered-percent-max {}",
            self.engine,
            self.seconds,
            self.round_seconds,
            names.join(","),
            self.unary,
            self.pipelined,
            self.late_ms_max,
            self.unanswered_percent_max
        );
        if let Some(bug) = &self.bug {
            command += &format!(" --bug {bug}");
        }
        command
    }
}

pub(crate) fn engine(name: &str) -> Result<Engine, String> {
    let found = Engine::ALL.into_iter().find(|one| one.to_string() == name);
    found.ok_or_else(|| format!("{name} is neither mariadb nor mysql"))
}
