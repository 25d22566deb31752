//! Redis, by its own program.

use std::{env, path::PathBuf, process::Command, time::Duration};

use freehold_tests::{Port, Process};
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{data::DataSet, error::Error};

const READY_WITHIN: Duration = Duration::from_secs(20);

/// What a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Nothing: it is in memory.
    None,
    /// Its log is synced, as a commit's is in the database.
    Always,
}

/// A running Redis with a folder of its own.
pub(crate) struct Redis {
    process: Process,
    port: Port,
    // Last: the process ends before its files go.
    _folder: TempDir,
}

impl Redis {
    pub(super) async fn start(durability: Durability) -> Result<Self, Error> {
        let program = program("redis-server", "FREEHOLD_BENCH_REDIS")?;
        let folder = folder("redis")?;
        let port = Port::claim()?;
        let mut command = Command::new(program);
        command
            .args(["--port", &port.number().to_string()])
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--protected-mode",
                "no",
            ])
            .arg("--dir")
            .arg(folder.path())
            .args(["--maxclients", "4000"]);
        if durability == Durability::Always {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
            // Rewriting the log in the middle of a round would be counted as the round's.
            command.args(["--auto-aof-rewrite-percentage", "0"]);
        }
        let process = Process::spawn(command, &folder.path().join("server.log"))?;
        let mut redis = Self {
            process,
            port,
            _folder: folder,
        };
        redis.wait_until_ready().await?;
        Ok(redis)
    }

    async fn wait_until_ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let error = match self.connect().await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if !self.process.is_running() || Instant::now() >= deadline {
                let log = self.process.log();
                let reason = format!("redis-server does not answer: {error}\n{log}");
                return Err(Error::Peer { reason });
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection, Error> {
        connect(self.port.number()).await
    }

    pub(super) async fn load(
        &self,
        data: DataSet,
        chunks: impl Iterator<Item = std::ops::Range<u64>>,
    ) -> Result<(), Error> {
        let mut connection = self.connect().await?;
        for numbers in chunks {
            let mut pipeline = redis::pipe();
            for number in numbers {
                let (key, value) = (data.key(number), data.value(number, 0));
                pipeline.set(&key[..], &value[..]).ignore();
            }
            pipeline.query_async::<()>(&mut connection).await?;
        }
        Ok(())
    }
}

/// A connection that many callers can share.
pub(crate) async fn connect(port: u16) -> Result<MultiplexedConnection, Error> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?;
    Ok(client.get_multiplexed_async_connection().await?)
}

/// A folder that goes with its server.
pub(super) fn folder(name: &str) -> Result<TempDir, Error> {
    tempfile::Builder::new()
        .prefix(&format!("freehold-bench-{name}-"))
        .tempdir()
        .map_err(|error| Error::Io {
            path: env::temp_dir(),
            error,
        })
}

/// A program from `PATH`, or the one that an environment variable names.
fn program(name: &str, variable: &str) -> Result<PathBuf, Error> {
    let named = env::var_os(variable).map(PathBuf::from);
    let found = || {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    };
    named.or_else(found).ok_or_else(|| Error::Peer {
        reason: format!("{name} is not installed: run crates/bench/install, or set {variable}"),
    })
}
