//! Following the config file while the router runs.
//!
//! The file is read once a second: what stands there twice in the same way is taken, so that one
//! which is being written is not taken half. That also sees a name that leads elsewhere from one
//! moment to the next, as Kubernetes has its mounted files do. SIGHUP has it taken at once. A file is
//! followed whole or refused whole; what is refused is shown until it is mended.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use freehold_core::ShardIdentity;
use freehold_router::{Obstacle, Roster, ShardSpec};
use freehold_storage::{Refusal, Server, StorageError, moves::MoveRecord};
use futures::{StreamExt as _, stream};
use rand::rngs::StdRng;
use serde_json::Value;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{follow_moves, make_room, spec, sweep},
    cluster::servers::servers,
    config::{self, Config, ConfigError, Problem, ShardConfig},
    exit::Failure,
    movers::MoverDesk,
    sweepers::SweeperDesk,
};

/// How often the file is read.
const POLL: Duration = Duration::from_secs(1);

/// Servers that are looked at together before a file is followed.
const SERVERS_AT_ONCE: usize = 16;

/// What follows the file.
pub(crate) struct Parts {
    pub(crate) roster: Arc<Roster>,
    pub(crate) sweepers: Arc<SweeperDesk>,
    pub(crate) movers: Arc<MoverDesk>,
    pub(crate) random: StdRng,
}

/// Follows one file.
pub(crate) struct Reloader {
    file: PathBuf,
    parts: Parts,
    hangup: Signal,
    /// What is in use.
    config: Config,
    shards: Vec<ShardConfig>,
    /// What was read when the file was taken last, or why it could not be; absent before.
    taken: Option<Read>,
    /// What was read last.
    seen: Option<Read>,
}

/// The file's text, or why it cannot be read.
type Read = Result<String, ConfigError>;

impl Reloader {
    /// Begins with what is in use. From here on SIGHUP does not end the process.
    pub(crate) fn new(
        file: &Path,
        config: Config,
        shards: Vec<ShardConfig>,
        parts: Parts,
    ) -> Result<Self, Failure> {
        let hangup = signal(SignalKind::hangup())
            .map_err(|error| Failure::io("cannot wait for signals", error))?;
        Ok(Self {
            file: file.to_owned(),
            parts,
            hangup,
            config,
            shards,
            taken: None,
            seen: None,
        })
    }

    /// Follows the file until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let at_once = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(()) = self.hangup.recv() => true,
                _ = ticks.tick() => false,
            };
            let now = config::read(&self.file);
            let stands = self.seen.replace(now.clone()).as_ref() == Some(&now);
            if at_once || (stands && self.taken.as_ref() != Some(&now)) {
                self.taken = Some(now.clone());
                self.take(now, at_once, &stop).await;
            }
        }
    }

    async fn take(&mut self, text: Read, asked: bool, stop: &CancellationToken) {
        let taken = match text {
            Ok(text) => self.follow(&text, stop).await,
            Err(error) => Err(error),
        };
        let reloads = &self.parts.roster.calls().reloads;
        match taken {
            Ok(changes) if changes.is_empty() => {
                reloads.settle();
                if asked {
                    tracing::info!("the config file changes nothing");
                }
            }
            Ok(changes) => {
                reloads.follow();
                for change in changes {
                    tracing::info!(change, "config followed");
                }
            }
            Err(error) => {
                let hint = "the config before stays in use; mend the file, or send SIGHUP to have \
                            it tried again";
                tracing::error!(%error, hint, "config refused");
                reloads.refuse(error.to_string());
            }
        }
    }

    /// What it changed, in words.
    async fn follow(
        &mut self,
        text: &str,
        stop: &CancellationToken,
    ) -> Result<Vec<String>, ConfigError> {
        let source = config::name_of(Some(&self.file));
        let next = config::parse(source.clone(), Some(text), config::environment())?;
        let shards = config::check(&next, &source, false)?;
        let refuse = |problems: Vec<Problem>| match problems.is_empty() {
            true => Ok(()),
            false => Err(ConfigError {
                source: source.clone(),
                problems,
            }),
        };
        refuse(fixed(&self.config, &next))?;
        let connect_timeout = Duration::from_millis(next.lanes.connect_timeout_ms);
        let opened = servers(&shards, None, connect_timeout, &mut self.parts.random);
        let specs: Vec<ShardSpec> = opened.into_iter().map(spec).collect();
        let cluster_id = self.parts.roster.calls().shards.cluster_id();
        let strangers = strangers(self.newcomers(&shards, &specs), cluster_id);
        // Nothing has changed yet: who shuts down need not wait for servers that do not answer.
        let Some(strangers) = stop.run_until_cancelled(strangers).await else {
            return Ok(Vec::new());
        };
        refuse(strangers)?;
        let needed = self.needed_by_moves(&shards);
        let Some(needed) = stop.run_until_cancelled(needed).await else {
            return Ok(Vec::new());
        };
        refuse(needed)?;
        make_room(&next, &shards);
        let followed = self.parts.roster.follow(specs);
        let mut changes = match followed {
            Ok(changes) => changes.0,
            Err(obstacles) => {
                let problems = obstacles.into_iter();
                return refuse(
                    problems
                        .map(|obstacle| problem(obstacle, &shards))
                        .collect(),
                )
                .map(|()| Vec::new());
            }
        };
        if next.sweeper != self.config.sweeper {
            changes.push("[sweeper] changed".to_owned());
        }
        if next.mover != self.config.mover {
            changes.push("[mover] changed".to_owned());
        }
        follow_moves(&self.parts.movers, &next, &shards, &mut self.parts.random);
        sweep(&self.parts.sweepers, &next, &shards, &mut self.parts.random).await;
        (self.config, self.shards) = (next, shards);
        Ok(changes)
    }

    /// Why shards that are no more in the file have to stay: nobody could end their moves without them.
    async fn needed_by_moves(&self, shards: &[ShardConfig]) -> Vec<Problem> {
        let stays = |name: &str| shards.iter().any(|shard| shard.name == name);
        let names = self.shards.iter().map(|shard| shard.name.as_str());
        let gone: Vec<&str> = names.filter(|name| !stays(name)).collect();
        if gone.is_empty() {
            return Vec::new();
        }
        let open = self.parts.movers.open_move_of(&gone).await;
        let problem = |record: MoveRecord| {
            let (id, source, target) = (record.id, record.source, record.target);
            let words = format!(
                "move {id:016x} from '{source}' to '{target}' is open, and none of the two can be taken \
                 out: wait for its end, or resume or cancel it first (freehold moves)"
            );
            Problem::new("shards".to_owned(), words)
        };
        open.map(problem).into_iter().collect()
    }

    /// The servers that are opened in a way that is new, each with its key and its shard's name.
    fn newcomers(
        &self,
        shards: &[ShardConfig],
        specs: &[ShardSpec],
    ) -> Vec<(String, String, Server)> {
        let known = self.shards.iter().flat_map(|shard| {
            let servers = std::iter::once(&shard.master).chain(&shard.replicas);
            servers.map(|dsn| (&shard.name, dsn))
        });
        let mut newcomers = Vec::new();
        for (index, (shard, spec)) in shards.iter().zip(specs).enumerate() {
            let dsns = std::iter::once(&shard.master).chain(&shard.replicas);
            for (place, (dsn, server)) in dsns.zip(&spec.servers).enumerate() {
                let key = match place.checked_sub(1) {
                    None => format!("shards[{index}].master"),
                    Some(replica) => format!("shards[{index}].replicas[{replica}]"),
                };
                if !known.clone().any(|before| before == (&shard.name, dsn)) {
                    newcomers.push((key, shard.name.clone(), server.clone()));
                }
            }
        }
        newcomers
    }
}

/// What differs that a running router cannot change.
fn fixed(before: &Config, next: &Config) -> Vec<Problem> {
    let sections = |config: &Config| serde_json::to_value(config).unwrap_or_default();
    let (before, next) = (sections(before), sections(next));
    let empty = serde_json::Map::new();
    let keys = |value: &Value| value.as_object().unwrap_or(&empty).clone();
    let mut problems = Vec::new();
    for (section, next) in keys(&next) {
        if matches!(section.as_str(), "sweeper" | "mover") {
            continue;
        }
        for (key, next) in keys(&next) {
            let before = &before[&section][&key];
            if *before != next {
                let words = format!(
                    "{before} cannot become {next} while the router runs: restart it with this \
                     file, or change that back"
                );
                problems.push(Problem::new(format!("{section}.{key}"), words));
            }
        }
    }
    problems
}

/// The key of the config that an obstacle is about.
fn problem(obstacle: Obstacle, shards: &[ShardConfig]) -> Problem {
    let Obstacle { shard, words } = obstacle;
    let index = shards.iter().position(|known| known.name == shard);
    let key = index.map_or_else(|| "shards".to_owned(), |index| format!("shards[{index}]"));
    let words = match shard.as_str() {
        "" => words,
        name => format!("shard '{name}': {words}"),
    };
    Problem::new(key, words)
}

/// What is wrong with servers that answer. One that does not is no reason to refuse a file: it may
/// be started later, as at the start of a router.
async fn strangers(
    newcomers: Vec<(String, String, Server)>,
    cluster_id: Option<u64>,
) -> Vec<Problem> {
    let looks = newcomers
        .into_iter()
        .map(|(key, shard, server)| look(key, shard, server, cluster_id));
    let looked: Vec<Option<Problem>> = stream::iter(looks)
        .buffered(SERVERS_AT_ONCE)
        .collect()
        .await;
    looked.into_iter().flatten().collect()
}

async fn look(
    key: String,
    shard: String,
    server: Server,
    cluster_id: Option<u64>,
) -> Option<Problem> {
    let words = match timeout(2 * POLL, identity(&server)).await {
        Ok(Ok(identity)) => stranger(&identity, &shard, cluster_id)?,
        Ok(Err(StorageError::Refused {
            refusal: Refusal::Denied,
            message,
            ..
        })) => format!("turned down: {message}"),
        // It has no tables yet, or does not answer.
        Ok(Err(_)) | Err(_) => return None,
    };
    Some(Problem::new(key, format!("{}: {words}", server.address())))
}

async fn identity(server: &Server) -> Result<ShardIdentity, StorageError> {
    let mut connection = server.connect().await?;
    Ok(connection.claims(u64::MAX).await?.identity)
}

fn stranger(identity: &ShardIdentity, shard: &str, cluster_id: Option<u64>) -> Option<String> {
    if identity.name != shard {
        return Some(format!(
            "the server belongs to shard '{}', the file calls it '{shard}'",
            identity.name
        ));
    }
    let known = cluster_id.filter(|known| *known != identity.cluster_id)?;
    Some(format!(
        "the server belongs to cluster {:016x}, this router to {known:016x}, which never changes",
        identity.cluster_id
    ))
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
