//! One file per command: its arguments, its help, and what it does.

pub(crate) mod adopt;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod del;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod expire;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod migrate;
pub(crate) mod move_slots;
pub(crate) mod moves;
mod moving;
pub(crate) mod persist;
pub(crate) mod put;
pub(crate) mod rebalance;
pub(crate) mod scan;
pub(crate) mod serve;
pub(crate) mod shards;
pub(crate) mod sweep;
pub(crate) mod ttl;

use std::time::Duration;

use freehold_mover::MoverSettings;
use rand::{
    SeedableRng as _,
    rngs::{StdRng, SysRng},
};

use crate::{
    app::mover_settings,
    args::{AccountArgs, Args, Command, ConfigArgs},
    cluster::{
        findings::Wanted,
        servers::{Account, ShardServers, servers},
    },
    config::{self, Config, ShardConfig},
    embedded::{self, FolderLock},
    exit::{Exit, Failure},
    output::Output,
};

/// Does what was typed.
pub(crate) async fn run(args: Args, output: Output) -> Result<Exit, Failure> {
    match args.command {
        Command::Serve(args) => serve::run(args, output).await,
        Command::Init(args) => init::run(args, output).await,
        Command::Migrate(args) => migrate::run(args, output).await,
        Command::Put(args) => put::run(args, output).await,
        Command::Get(args) => get::run(args, output).await,
        Command::Del(args) => del::run(args, output).await,
        Command::Ttl(args) => ttl::run(args, output).await,
        Command::Expire(args) => expire::run(args, output).await,
        Command::Persist(args) => persist::run(args, output).await,
        Command::Scan(args) => scan::run(args, output).await,
        Command::Import(args) => import::run(args, output).await,
        Command::Export(args) => export::run(args, output).await,
        Command::Explain(args) => explain::run(args, output).await,
        Command::Shards(args) => shards::run(args, output).await,
        Command::Adopt(args) => adopt::run(args, output).await,
        Command::Move(args) => move_slots::run(args, output).await,
        Command::Rebalance(args) => rebalance::run(args, output).await,
        Command::Drain(args) => drain::run(args, output).await,
        Command::Moves(args) => moves::run(args, output).await,
        Command::Audit(args) => audit::run(args, output).await,
        Command::Doctor(args) => doctor::run(args, output).await,
        Command::Sweep(args) => sweep::run(args, output).await,
        Command::Bench(args) => bench::run(args, output).await,
        Command::Completions(args) => completions::run(args, output),
    }
}

/// The servers of a config, for the commands that work on them directly.
struct Site {
    shards: Vec<ShardServers>,
    /// The same servers as the sweeper opens them; none if this config does not sweep.
    swept: Vec<ShardServers>,
    /// The same servers as the mover opens them.
    moved: Vec<ShardServers>,
    /// Whether this config has routers go on with moves.
    moves: bool,
    /// How this config moves.
    mover_settings: MoverSettings,
    wanted: Wanted,
    /// Of embedded shards, if they are to be changed.
    lock: Option<FolderLock>,
}

/// Reads and checks the config, and prepares its servers without connecting. `changes` takes the
/// folder of embedded shards.
fn open_site(
    args: &ConfigArgs,
    account: Option<&AccountArgs>,
    routers: u64,
    changes: bool,
    random: &mut StdRng,
) -> Result<Site, Failure> {
    let (config, shards) = read_config(args)?;
    let lock = match args.config {
        None if changes => Some(FolderLock::take(&args.data)?),
        _ => None,
    };
    let account = account.and_then(Account::of_args);
    let connect_timeout = Duration::from_millis(config.lanes.connect_timeout_ms);
    let sweeper = Account::of_sweeper(&config.sweeper);
    let swept = match config.sweeper.enabled {
        true => servers(&shards, sweeper.as_ref(), connect_timeout, random),
        false => Vec::new(),
    };
    let mover = Account::of_mover(&config.mover);
    Ok(Site {
        swept,
        moved: servers(&shards, mover.as_ref(), connect_timeout, random),
        moves: config.mover.enabled,
        mover_settings: mover_settings(&config.mover),
        shards: servers(&shards, account.as_ref(), connect_timeout, random),
        wanted: Wanted {
            value_bytes_max: config.server.value_bytes_max,
            routers,
            read_connections: config.lanes.reads,
            write_connections: config.lanes.writes,
            scan_connections: config.lanes.scans,
            own_account: account.is_none(),
            replica_lag_max: Duration::from_millis(config.sweeper.replica_lag_ms_max),
        },
        lock,
    })
}

/// The config and its shards, or without a file the embedded ones.
fn read_config(args: &ConfigArgs) -> Result<(Config, Vec<ShardConfig>), Failure> {
    let file = args.config.as_deref();
    let config = config::load(file, config::environment())?;
    let source = config::name_of(file);
    let shards = config::check(&config, &source, file.is_none())?;
    Ok(match file {
        Some(_) => (config, shards),
        None => (config, embedded::shards(&args.data)),
    })
}

/// The one source of randomness: everything else is seeded from it.
fn random() -> Result<StdRng, Failure> {
    StdRng::try_from_rng(&mut SysRng)
        .map_err(|error| Failure::Serve(format!("no random numbers from the system: {error}")))
}
