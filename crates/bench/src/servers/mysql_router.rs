//! MySQL Router, which leads connections to the database and reads every packet of them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use freehold_tests::{Port, Process};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use super::redis::folder;
use crate::error::Error;

const READY_WITHIN: Duration = Duration::from_secs(20);

/// Names the folder that holds `usr/bin/mysqlrouter`.
const ROOT: &str = "FREEHOLD_BENCH_MYSQL_ROUTER_ROOT";

/// A running MySQL Router.
pub(crate) struct MysqlRouter {
    process: Process,
    port: Port,
    // Last: the process ends before its files go.
    _folder: TempDir,
}

impl MysqlRouter {
    /// In front of the database on this port.
    pub(super) async fn start(database: u16) -> Result<Self, Error> {
        let root = root()?;
        let folder = folder("mysql-router")?;
        let port = Port::claim()?;
        let file = folder.path().join("router.conf");
        let text = config(&root, folder.path(), port.number(), database);
        fs::write(&file, text).map_err(Error::io(&file))?;
        let mut command = command(&root);
        command.arg("--config").arg(&file);
        if fs::metadata("/proc/self").is_ok_and(|me| {
            use std::os::unix::fs::MetadataExt as _;
            me.uid() == 0
        }) {
            command.arg("--user=root");
        }
        let process = Process::spawn(command, &folder.path().join("router.log"))?;
        let mut router = Self {
            process,
            port,
            _folder: folder,
        };
        router.wait_until_ready().await?;
        Ok(router)
    }

    async fn wait_until_ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WITHIN;
        while TcpStream::connect(self.port.address()).await.is_err() {
            if !self.process.is_running() || Instant::now() >= deadline {
                let log = self.process.log();
                let reason = format!("mysqlrouter does not answer:\n{log}");
                return Err(Error::Peer { reason });
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn root() -> Result<PathBuf, Error> {
    let named = env::var_os(ROOT).map(PathBuf::from);
    let cache = || {
        let cache = env::var_os("FREEHOLD_TEST_CACHE").map(PathBuf::from);
        let home = || Some(Path::new(&env::var_os("HOME")?).join(".cache/freehold"));
        Some(cache.or_else(home)?.join("mysql-router"))
    };
    named
        .or_else(cache)
        .filter(|root| root.join("usr/bin/mysqlrouter").is_file())
        .ok_or_else(|| Error::Peer {
            reason: format!(
                "mysqlrouter is not installed: run crates/bench/install, or name the folder that \
                 holds usr/bin/mysqlrouter in {ROOT} (/ if installed)"
            ),
        })
}

/// By the folder's own dynamic loader, as the tests run MySQL: it may be another Debian's.
fn command(root: &Path) -> Command {
    let program = root.join("usr/bin/mysqlrouter");
    if root == Path::new("/") {
        return Command::new(program);
    }
    let (loader, machine) = match env::consts::ARCH {
        "aarch64" => ("usr/lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu"),
        _ => ("usr/lib64/ld-linux-x86-64.so.2", "x86_64-linux-gnu"),
    };
    let libraries = [
        root.join("usr/lib").join(machine),
        root.join("usr/lib/mysql-router"),
    ];
    let libraries = libraries.map(|path| path.display().to_string()).join(":");
    let mut command = Command::new(root.join(loader));
    command.args(["--library-path", &libraries]).arg(program);
    command
}

fn config(root: &Path, folder: &Path, port: u16, database: u16) -> String {
    let (folder, root) = (folder.display(), root.display());
    format!(
        "[DEFAULT]\nlogging_folder=\nruntime_folder={folder}\ndata_folder={folder}\n\
         plugin_folder={root}/usr/lib/mysqlrouter/plugin\nmax_total_connections=4000\n\
         [logger]\nlevel=WARNING\n\
         [routing:direct]\nbind_address=127.0.0.1\nbind_port={port}\n\
         destinations=127.0.0.1:{database}\nrouting_strategy=first-available\nprotocol=classic\n\
         client_ssl_mode=DISABLED\nserver_ssl_mode=DISABLED\n"
    )
}
