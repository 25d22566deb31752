//! The real router: `freehold serve` on ports of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::cli::{self, Answer};
use crate::clock;
use crate::error::{Error, Result};
use crate::port::Port;
use crate::process::{Process, Signal};
use crate::server::Server;
use crate::sql::Login;

const READY_WITHIN: Duration = Duration::from_secs(60);

/// One `[[shards]]` of the config.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Its name.
    pub name: String,
    /// The master's DSN.
    pub master: String,
    /// The replicas' DSNs.
    pub replicas: Vec<String>,
}

impl Shard {
    /// A shard on these servers, reached with all rights.
    pub fn new(name: &str, master: &Server, replicas: &[&Server]) -> Self {
        let login = Login::admin();
        Self {
            name: name.to_owned(),
            master: master.dsn(&login),
            replicas: replicas.iter().map(|replica| replica.dsn(&login)).collect(),
        }
    }
}

/// A router with a folder, a config file and ports of its own. `Drop` kills it.
#[derive(Debug)]
pub struct Router {
    listen: Port,
    admin: Port,
    config: Option<PathBuf>,
    environment: Vec<(String, String)>,
    process: Option<Process>,
    // Last: the process ends before its files go.
    folder: TempDir,
}

impl Router {
    /// Writes a config file for these shards, without starting anything: for `init` and other
    /// commands that take `--config`. `more` is TOML that comes before the shards, such as
    /// `[limits]\n...`. Without shards there is no config file, and `serve` is on its own.
    pub fn configure(shards: &[Shard], more: &str) -> Result<Self> {
        let mut folder = tempfile::Builder::new()
            .prefix("freehold-router-")
            .tempdir()
            .map_err(Error::io(std::env::temp_dir()))?;
        folder.disable_cleanup(std::env::var_os("FREEHOLD_TEST_KEEP").is_some());
        let (listen, admin) = (Port::claim()?, Port::claim()?);
        let mut router = Self {
            listen,
            admin,
            config: None,
            environment: Vec::new(),
            process: None,
            folder,
        };
        // The environment wins over the file, and serves where there is no file.
        for (name, port) in [("LISTEN", &router.listen), ("ADMIN", &router.admin)] {
            let variable = format!("FREEHOLD__SERVER__{name}");
            router
                .environment
                .push((variable, port.address().to_string()));
        }
        if !shards.is_empty() {
            let path = router.folder.path().join("freehold.toml");
            fs::write(&path, more.to_owned() + &shards_toml(shards)).map_err(Error::io(&path))?;
            router.config = Some(path);
        }
        Ok(router)
    }

    /// `freehold init` for these shards, then `freehold serve`; waits until every shard is served.
    pub async fn init_and_serve(shards: &[Shard], more: &str) -> Result<Self> {
        let mut router = Self::configure(shards, more)?;
        router.init().await?.success()?;
        router.serve().await?;
        Ok(router)
    }

    /// `freehold serve` with no config: SQLite shards in the router's own folder.
    pub async fn embedded() -> Result<Self> {
        let mut router = Self::configure(&[], "")?;
        router.serve().await?;
        Ok(router)
    }

    /// `freehold init --config FILE`.
    pub async fn init(&self) -> Result<Answer> {
        self.with_config(&["init"]).await
    }

    /// Starts the router, again after it was ended, and waits until it serves every shard.
    pub async fn serve(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_for_health("every shard up", |status, health| {
            status == 200 && !health.contains("\"up\":false")
        })
        .await
    }

    /// Starts the router and waits for nothing.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = cli::command(self.folder.path())?;
        command.arg("serve").envs(self.environment.iter().cloned());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        self.process = Some(Process::spawn(command, &self.log_file("router"))?);
        Ok(())
    }

    /// Waits until `/healthz` answers as `wanted` (HTTP status, JSON text) says: with a shard down
    /// [`Self::launch`] and this instead of [`Self::serve`].
    pub async fn wait_for_health(
        &mut self,
        what: &str,
        wanted: impl Fn(u16, &str) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let seen = self.http_get("/healthz").await;
            if seen
                .as_ref()
                .is_ok_and(|(status, health)| wanted(*status, health))
            {
                return Ok(());
            }
            let process = self.running()?;
            if !process.is_running() {
                return Err(process.failure(format!("ended before {what}")));
            }
            if Instant::now() >= deadline {
                return Err(process.failure(format!("not {what}, but {seen:?}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Gets a page of the admin listener, such as `/metrics`: its status and its text.
    pub async fn http_get(&self, path: &str) -> Result<(u16, String)> {
        let address = self.admin.address();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let exchange = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut text = Vec::new();
            stream.read_to_end(&mut text).await?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        let text = exchange
            .await
            .map_err(Error::io(format!("http://{address}{path}")))?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Ok((status.unwrap_or(0), body.to_owned()))
    }

    /// A command that reads or writes keys: `router.cli(&["put", "k", "v"])`.
    pub async fn cli(&self, arguments: &[&str]) -> Result<Answer> {
        self.run(arguments, "--addr", &self.address().to_string())
            .await
    }

    /// A command that shows or steers the cluster: `router.admin_cli(&["shards"])`.
    pub async fn admin_cli(&self, arguments: &[&str]) -> Result<Answer> {
        self.run(arguments, "--admin", &self.admin_address().to_string())
            .await
    }

    /// A command that takes `--config`: `router.with_config(&["doctor"])`.
    pub async fn with_config(&self, arguments: &[&str]) -> Result<Answer> {
        self.run(
            arguments,
            "--config",
            &self.config_file().display().to_string(),
        )
        .await
    }

    /// Starts a command that takes `--config`, and waits for nothing. What it says goes behind what
    /// others said to the log of this name.
    pub fn begin(&self, arguments: &[&str], log: &str) -> Result<Process> {
        let file = self.config_file().display().to_string();
        self.begin_with(arguments, "--config", &file, log)
    }

    /// The same with a command that asks this router.
    pub fn begin_admin(&self, arguments: &[&str], log: &str) -> Result<Process> {
        let address = self.admin_address().to_string();
        self.begin_with(arguments, "--admin", &address, log)
    }

    fn begin_with(
        &self,
        arguments: &[&str],
        option: &str,
        value: &str,
        log: &str,
    ) -> Result<Process> {
        let mut command = cli::command(self.folder.path())?;
        command.args(arguments).args([option, value]);
        command.envs(self.environment.iter().cloned());
        Process::spawn(command, &self.log_file(log))
    }

    /// Sets an environment variable for commands and the next start, such as
    /// `FREEHOLD__LANES__READS`.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Puts the wall clock of commands and of the next start so many seconds ahead.
    pub fn put_clock_ahead(&mut self, seconds: i64) -> Result<()> {
        for (name, value) in clock::ahead(seconds)? {
            self.set_environment(name, &value);
        }
        Ok(())
    }

    /// The address of the gRPC listener.
    pub fn address(&self) -> SocketAddr {
        self.listen.address()
    }

    /// The address of the admin listener.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Where the config file is, or would be.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("freehold.toml")
    }

    /// The folder the router runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All it wrote to stdout and stderr, over all starts.
    pub fn log(&self) -> String {
        self.log_of("router")
    }

    /// All that commands wrote to a log of theirs.
    pub fn log_of(&self, log: &str) -> String {
        fs::read_to_string(self.log_file(log)).unwrap_or_default()
    }

    fn log_file(&self, log: &str) -> PathBuf {
        self.folder.path().join(format!("{log}.log"))
    }

    /// Its process id; an error if it is down.
    pub fn pid(&mut self) -> Result<u32> {
        Ok(self.running()?.pid())
    }

    /// SIGSTOP: connections stay open, nothing answers.
    pub fn freeze(&mut self) -> Result<()> {
        self.running()?.freeze()
    }

    /// SIGCONT, after [`Self::freeze`].
    pub fn thaw(&mut self) -> Result<()> {
        self.running()?.thaw()
    }

    /// Sends a signal, such as `TERM` to drain.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.running()?.signal(signal)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Waits until it has ended by itself.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = self.running()?.wait(limit).await?;
        self.process = None;
        Ok(status)
    }

    /// SIGTERM, then waits for the drain to end.
    pub async fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit).await
    }

    async fn run(&self, arguments: &[&str], option: &str, value: &str) -> Result<Answer> {
        let arguments = arguments.iter().copied().chain([option, value]);
        let arguments: Vec<String> = arguments.map(str::to_owned).collect();
        cli::run(
            self.folder.path(),
            &self.environment,
            arguments,
            Stdio::null(),
        )
        .await
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().ok_or_else(|| Error::Process {
            program: "freehold serve".to_owned(),
            message: "it is not running".to_owned(),
        })
    }
}

/// The `[[shards]]` of a config file.
pub fn shards_toml(shards: &[Shard]) -> String {
    let mut text = String::new();
    for Shard {
        name,
        master,
        replicas,
    } in shards
    {
        // A DSN holds nothing that TOML escapes otherwise than Rust does.
        text += &format!("\n[[shards]]\nname = {name:?}\nmaster = {master:?}\n");
        text += &format!("replicas = {replicas:?}\n");
    }
    text
}
