//! One real database server, from its first start to its last.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::certificates::Certificates;
use crate::clock;
use crate::container;
use crate::deploy;
use crate::disk::Disk;
use crate::engine::{Engine, Program};
use crate::error::{Error, Result};
use crate::options::ServerOptions;
use crate::port::Port;
use crate::process::{Process, Signal};
use crate::sql::{Login, Sql};
use crate::template;

/// A first start takes about a second; the limit is for a machine that does much else besides.
const READY_WITHIN: Duration = Duration::from_secs(120);
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// A server with a data folder, port and certificates of its own. `Drop` kills it and removes
/// its folder (set `FREEHOLD_TEST_KEEP` to keep it).
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    /// Absent if it runs in a container.
    program: Option<Program>,
    port: Port,
    certificates: Certificates,
    process: Option<Process>,
    // The process ends before its disk goes, and that before the folder under it.
    disk: Option<Disk>,
    folder: TempDir,
}

impl Server {
    /// Starts a server and waits until it answers.
    pub async fn start(options: ServerOptions) -> Result<Self> {
        let mut folder = tempfile::Builder::new()
            .prefix(&format!("freehold-{}-", options.engine))
            .tempdir()
            .map_err(Error::io(std::env::temp_dir()))?;
        folder.disable_cleanup(std::env::var_os("FREEHOLD_TEST_KEEP").is_some());
        let mount = |mib_max| Disk::mount(folder.path(), mib_max);
        let disk = options.disk_mib_max.map(mount).transpose()?;
        let certificates = Certificates::write(folder.path())?;
        let temporary = folder.path().join("tmp");
        std::fs::create_dir(&temporary).map_err(Error::io(&temporary))?;
        let contained = container::wanted(options.engine);
        let program = if contained {
            None
        } else {
            let program = options.engine.program()?;
            fill(options.engine, &program, folder.path().join("data")).await?;
            Some(program)
        };
        let mut server = Self {
            options,
            program,
            port: Port::claim()?,
            certificates,
            process: None,
            disk,
            folder,
        };
        server.start_again().await?;
        if contained {
            // The image's own set-up of a new server is no replica's business.
            let mut sql = server.connect().await?;
            sql.run("RESET BINARY LOGS AND GTIDS").await?;
        }
        Ok(server)
    }

    /// Starts a server of this engine with the usual options.
    pub async fn of(engine: Engine) -> Result<Self> {
        Self::start(ServerOptions::new(engine)).await
    }

    /// Starts the server on its port and data again, after it was killed or stopped.
    pub async fn start_again(&mut self) -> Result<()> {
        let log = self.path("server.log");
        self.process = Some(match &self.program {
            Some(program) => Process::spawn(self.command(program)?, &log)?,
            None => {
                let port = self.port.number();
                let folder = self.folder.path();
                let command = container::command(&self.options, port, &self.certificates, folder)?;
                Process::spawn_as(command, &log, Some(container::name(port)))?
            }
        });
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let refused = match self.connect().await {
                Ok(sql) => {
                    if self.options.own_clock {
                        clock::forget(self.pid()?);
                    }
                    return self.answers(sql).await;
                }
                Err(error) => error,
            };
            let process = self.running()?;
            if !process.is_running() {
                return Err(process.failure("ended while it started"));
            }
            if Instant::now() >= deadline {
                return Err(process.failure(format!("does not answer: {refused}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `kill -9`. Without effect on a server that is down.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Throws away the data of a server that is down: the next start is a first one.
    pub async fn lose_everything(&mut self) -> Result<()> {
        let data = self.path("data");
        let Some(program) = self.program.as_ref().filter(|_| self.process.is_none()) else {
            return Err(Error::Process {
                program: self.options.engine.to_string(),
                message: "its data cannot go while it runs, or from a container".to_owned(),
            });
        };
        std::fs::remove_dir_all(&data).map_err(Error::io(&data))?;
        fill(self.options.engine, program, data).await
    }

    /// `kill -9`, then a start on the same port and data.
    pub async fn kill_and_start_again(&mut self) -> Result<()> {
        self.kill();
        self.start_again().await
    }

    /// An orderly shutdown (SIGTERM).
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        process.signal(Signal::TERM)?;
        process.wait(STOPPED_WITHIN).await.map(drop)
    }

    /// SIGSTOP: connections stay open, nothing answers.
    pub fn freeze(&mut self) -> Result<()> {
        self.running()?.freeze()
    }

    /// SIGCONT, after [`Self::freeze`].
    pub fn thaw(&mut self) -> Result<()> {
        self.running()?.thaw()
    }

    /// Sets its own clock so many seconds ahead of the machine's; it sees that within a second.
    pub fn set_clock(&self, ahead_s: i64) -> Result<()> {
        clock::set(self.folder.path(), ahead_s)
    }

    /// Its own disk, if it has one.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Whether its process has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Connects with all rights, plain.
    pub async fn connect(&self) -> Result<Sql> {
        self.connect_as(&Login::admin()).await
    }

    /// Connects as somebody else, or encrypted.
    pub async fn connect_as(&self, login: &Login) -> Result<Sql> {
        Sql::connect(&self.port, login).await
    }

    /// The DSN of an account, as Freehold's config has it. The parts are taken as they are: keep to
    /// letters, digits and dashes.
    pub fn dsn(&self, login: &Login) -> String {
        let Login {
            user,
            password,
            database,
            ca,
        } = login;
        let database = database.as_deref().unwrap_or_default();
        let place = format!(
            "mysql://{user}:{password}@{}/{database}",
            self.port.address()
        );
        match ca {
            None => place,
            Some(ca) => format!("{place}?ssl_mode=verify_identity&ssl_ca={}", ca.display()),
        }
    }

    /// Which kind of server it is.
    pub fn engine(&self) -> Engine {
        self.options.engine
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its process id; an error if it is down.
    pub fn pid(&mut self) -> Result<u32> {
        Ok(self.running()?.pid())
    }

    /// The certificate of the authority that signed its own.
    pub fn ca_file(&self) -> &Path {
        &self.certificates.ca
    }

    /// The folder that holds its data (`data/`), certificates and log (`server.log`).
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All it wrote to its log, over all starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("server.log")).unwrap_or_default()
    }

    /// Options for the next [`Self::start_again`].
    pub fn options_mut(&mut self) -> &mut ServerOptions {
        &mut self.options
    }

    async fn answers(&self, mut sql: Sql) -> Result<()> {
        if self.program.is_none() && self.options.read_only {
            sql.run("SET GLOBAL super_read_only = ON").await?;
        }
        sql.close().await
    }

    fn running(&mut self) -> Result<&mut Process> {
        let port = self.port.number();
        self.process.as_mut().ok_or_else(|| Error::Process {
            program: format!("{} on port {port}", self.options.engine),
            message: "it is not running".to_owned(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &Program) -> Result<Command> {
        let mut command = program.command();
        let settings = deploy::file(self.options.engine, "my.cnf");
        let port = self.port.number();
        // This one must come first.
        command
            .arg(format!("--defaults-file={}", settings.display()))
            .args(&program.options)
            .args(template::as_root())
            .args([
                "--bind-address=127.0.0.1".to_owned(),
                format!("--port={port}"),
            ])
            .arg(format!(
                "--server-id={}",
                self.options.server_id.unwrap_or(port.into())
            ));
        let files = [
            ("datadir", self.path("data")),
            // A server that starts deletes the temporary tables it finds, also another one's.
            ("tmpdir", self.path("tmp")),
            ("socket", self.path("server.sock")),
            ("pid-file", self.path("server.pid")),
            ("ssl-ca", self.certificates.ca.clone()),
            ("ssl-cert", self.certificates.certificate.clone()),
            ("ssl-key", self.certificates.key.clone()),
        ];
        command.args(
            files
                .iter()
                .map(|(name, path)| format!("--{name}={}", path.display())),
        );
        command.args(self.options.command_line());
        command.env_remove("TZ");
        if self.options.own_clock {
            clock::prepare(&mut command, self.folder.path())?;
        }
        if let Some(zone) = &self.options.time_zone {
            let file = Path::new("/usr/share/zoneinfo").join(zone);
            if !file.is_file() {
                // The C library would take UTC without a word.
                return Err(Error::Missing {
                    what: file.display().to_string(),
                    remedy: "install tzdata".to_owned(),
                });
            }
            command.env("TZ", zone);
        }
        Ok(command)
    }
}

/// A data folder as after a first start.
async fn fill(engine: Engine, program: &Program, data: PathBuf) -> Result<()> {
    let program = program.clone();
    let copied = tokio::task::spawn_blocking(move || template::copy(engine, &program, &data));
    copied.await.map_err(|error| Error::Process {
        program: "copy of the data folder".to_owned(),
        message: error.to_string(),
    })?
}
