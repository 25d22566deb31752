//! What can be typed.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use clap::{Args as ClapArgs, Parser, Subcommand};
use data_encoding::BASE64;
use freehold_client::{AdminClient, Client, ClientOptions, Consistency};

use crate::{
    commands::{
        adopt::AdoptArgs, audit::AuditArgs, bench::BenchArgs, completions::CompletionsArgs,
        del::DelArgs, doctor::DoctorArgs, drain::DrainArgs, expire::ExpireArgs,
        explain::ExplainArgs, export::ExportArgs, get::GetArgs, import::ImportArgs, init::InitArgs,
        migrate::MigrateArgs, move_slots::MoveArgs, moves::MovesArgs, persist::PersistArgs,
        put::PutArgs, rebalance::RebalanceArgs, scan::ScanArgs, serve::ServeArgs,
        shards::ShardsArgs, sweep::SweepArgs, ttl::TtlArgs,
    },
    duration::parse_duration,
    exit::{CODES, Failure},
    output::bytes::Encoding,
};

const FIRST_STEPS: &str = "\
Examples:
  freehold serve                             a store in ./freehold-data, ready at once
  freehold put user:1 Ada --ttl 30s          from another terminal
  freehold get user:1
  freehold init --config freehold.toml       once, for your own MySQL or MariaDB masters
  freehold serve --config freehold.toml";

/// A distributed key-value store on the MySQL you already run.
#[derive(Debug, Parser)]
#[command(name = "freehold", version, max_term_width = 100)]
#[command(after_help = format!("{FIRST_STEPS}\n\n{CODES}"))]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub(crate) struct Args {
    /// Answer in JSON: one object, or one per line; errors go to standard error
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a router
    Serve(ServeArgs),
    /// Create the tables on every master and deal out the slots, once
    Init(InitArgs),
    /// Bring the tables to the version that this program knows
    Migrate(MigrateArgs),
    /// Store a value
    Put(PutArgs),
    /// Read a value
    Get(GetArgs),
    /// Remove a key
    Del(DelArgs),
    /// Tell how long a key has to live
    Ttl(TtlArgs),
    /// Change how long a key has to live
    Expire(ExpireArgs),
    /// Let a key live for ever
    Persist(PersistArgs),
    /// List keys and values
    Scan(ScanArgs),
    /// Store what a file of JSON lines holds
    Import(ImportArgs),
    /// Write keys and values to a file of JSON lines
    Export(ExportArgs),
    /// Show the way of one key, from its hash to its row
    Explain(ExplainArgs),
    /// Show the shards, their servers and what a router knows of them
    Shards(ShardsArgs),
    /// Let a promoted server of a shard be written to
    Adopt(AdoptArgs),
    /// Move slots to another shard while all of them are served
    Move(MoveArgs),
    /// Even the shards out, moving as few slots as it takes
    Rebalance(RebalanceArgs),
    /// Empty a shard, so that it can be taken out of the config
    Drain(DrainArgs),
    /// Show the moves of slots, and go on with them or back
    Moves(MovesArgs),
    /// Check that every slot has one owner, and replicas what their masters have
    Audit(AuditArgs),
    /// Check how each server is set, and say what mends what is not well
    Doctor(DoctorArgs),
    /// Show, pause or resume the deleting of expired rows
    Sweep(SweepArgs),
    /// Put load on a router and show what it does
    Bench(BenchArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

/// Where keys are read and written.
#[derive(Debug, ClapArgs)]
pub(crate) struct RouterArgs {
    /// The router's gRPC address, or those of several with commas in between
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "FREEHOLD_ADDR",
        default_value = "127.0.0.1:7420"
    )]
    addr: String,
    /// How long a call may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
}

impl RouterArgs {
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        // A command has one caller.
        self.connect_with(1).await
    }

    /// With so many streams.
    pub(crate) async fn connect_with(&self, streams: usize) -> Result<Client, Failure> {
        let options = ClientOptions {
            streams,
            ..options(self.timeout)
        };
        Ok(Client::connect(&self.addr, &options).await?)
    }
}

/// Where the cluster is shown and steered.
#[derive(Debug, ClapArgs)]
pub(crate) struct AdminArgs {
    /// The router's admin address
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "FREEHOLD_ADMIN",
        default_value = "127.0.0.1:7421"
    )]
    admin: String,
    /// How long a call may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
}

impl AdminArgs {
    pub(crate) async fn connect(&self) -> Result<AdminClient, Failure> {
        Ok(AdminClient::connect(&self.admin, &options(self.timeout)).await?)
    }
}

fn options(timeout: Duration) -> ClientOptions {
    let defaults = ClientOptions::default();
    ClientOptions {
        timeout,
        connect_timeout: defaults.connect_timeout.min(timeout),
        streams: 1,
        ..defaults
    }
}

/// How keys and values stand in arguments and answers.
#[derive(Debug, ClapArgs)]
pub(crate) struct BytesArgs {
    /// Keys and values are given and shown as hex digits
    #[arg(long, conflicts_with = "base64")]
    hex: bool,
    /// Keys and values are given and shown in base64
    #[arg(long)]
    base64: bool,
}

impl BytesArgs {
    pub(crate) fn encoding(&self) -> Encoding {
        match (self.hex, self.base64) {
            (true, _) => Encoding::Hex,
            (_, true) => Encoding::Base64,
            _ => Encoding::Text,
        }
    }

    pub(crate) fn decode(&self, argument: &std::ffi::OsStr) -> Result<Bytes, Failure> {
        self.encoding()
            .decode(argument)
            .map(Bytes::from)
            .map_err(Failure::Usage)
    }
}

/// How fresh a read must be.
#[derive(Debug, ClapArgs)]
pub(crate) struct ReadArgs {
    /// strong, eventual, bounded:TIME (bounded:500ms) or session:TOKEN
    #[arg(long, value_name = "LEVEL", default_value = "strong", value_parser = parse_consistency)]
    pub(crate) consistency: Consistency,
}

/// Where the servers are.
#[derive(Debug, ClapArgs)]
pub(crate) struct ConfigArgs {
    /// The config file; without one, four embedded SQLite shards
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub(crate) config: Option<PathBuf>,
    /// The folder of the embedded shards
    #[arg(long, value_name = "DIR", default_value = "freehold-data")]
    pub(crate) data: PathBuf,
}

/// Another account than the config's, for tables and settings.
#[derive(Debug, ClapArgs)]
pub(crate) struct AccountArgs {
    /// Use this account instead of the one in each DSN
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// A file whose first line is that account's password
    #[arg(
        long,
        value_name = "FILE",
        requires = "user",
        conflicts_with = "password_env"
    )]
    pub(crate) password_file: Option<PathBuf>,
    /// The environment variable that holds that account's password
    #[arg(long, value_name = "NAME", requires = "user")]
    pub(crate) password_env: Option<String>,
}

/// Who steers moves: a router, or this command by itself.
#[derive(Debug, ClapArgs)]
pub(crate) struct SteerArgs {
    /// Ask the servers of this config file, and do the work here, instead of asking a router
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    config: Option<PathBuf>,
    /// The same with the folder of embedded shards
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) account: AccountArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

impl SteerArgs {
    /// Where the servers are, if this command is to do the work.
    pub(crate) fn by_itself(&self) -> Result<Option<ConfigArgs>, Failure> {
        match (&self.config, &self.data, &self.account.user) {
            (None, None, Some(_)) => Err(Failure::Usage(
                "--user goes with --config: a router moves with the account of its own [mover]"
                    .to_owned(),
            )),
            (None, None, None) => Ok(None),
            (config, data, _) => Ok(Some(ConfigArgs {
                config: config.clone(),
                data: data.clone().unwrap_or_default(),
            })),
        }
    }
}

fn parse_consistency(text: &str) -> Result<Consistency, String> {
    match text.split_once(':') {
        None if text == "strong" => Ok(Consistency::Strong),
        None if text == "eventual" => Ok(Consistency::Eventual),
        Some(("bounded", max)) => parse_duration(max).map(Consistency::BoundedStaleness),
        Some(("session", token)) => BASE64
            .decode(token.as_bytes())
            .map(|token| Consistency::Session(token.into()))
            .map_err(|error| format!("the token is not base64: {error}")),
        _ => Err("use strong, eventual, bounded:500ms or session:TOKEN".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_fit_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_in_its_help() {
        let mut all = Args::command();
        all.build();
        for command in all.get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            assert!(
                help.contains("Examples:"),
                "{} has none",
                command.get_name()
            );
        }
    }

    #[test]
    fn every_command_line_of_the_readme_and_of_the_help_can_be_typed() {
        let mut lines: Vec<String> = include_str!("../../../README.md")
            .lines()
            .map(|line| line.replace("cargo run --release -- ", "freehold "))
            .collect();
        for command in Args::command().get_subcommands() {
            let help = command.get_after_help().unwrap().to_string();
            lines.extend(help.lines().map(|line| line.trim().to_owned()));
        }
        lines.extend(FIRST_STEPS.lines().map(|line| line.trim().to_owned()));
        // What a shell takes away, and what stands beside a command to explain it.
        let typed = lines
            .iter()
            .filter(|line| line.starts_with("freehold "))
            .map(|line| {
                let end = ["  ", " #", " > ", " < ", " | ", " || "].map(|end| line.find(end));
                let end = end.into_iter().flatten().min().unwrap_or(line.len());
                line[..end].replace('\'', "")
            });
        let typed: Vec<String> = typed.collect();
        assert!(typed.len() > 40, "{typed:?}");
        for line in typed {
            let parsed = Args::try_parse_from(line.split(' '));
            assert!(
                parsed.is_ok() || line.ends_with("--help"),
                "{line}: {parsed:?}"
            );
        }
    }

    #[test]
    fn consistency_levels_are_words_with_a_parameter() {
        assert_eq!(parse_consistency("strong"), Ok(Consistency::Strong));
        assert_eq!(
            parse_consistency("bounded:500ms"),
            Ok(Consistency::BoundedStaleness(Duration::from_millis(500)))
        );
        let token = Consistency::Session(Bytes::from_static(b"abc"));
        assert_eq!(parse_consistency("session:YWJj"), Ok(token));
        for bad in ["", "weak", "bounded", "bounded:5", "session:%"] {
            assert!(parse_consistency(bad).is_err(), "{bad}");
        }
    }
}
