//! What one server shall be like.

use crate::engine::Engine;

/// How much a server does before it calls a commit done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Log and binlog reach the operating system at each commit: `kill -9` of the server loses
    /// nothing, a power cut may. Several times faster; for tests that ask about anything else.
    Relaxed,
    /// Log and binlog are synced to disk at each commit, as `deploy/` has it.
    Synced,
}

/// What MySQL sets aside and fills at each start and no test looks at: half of its 530 MB of memory,
/// and a third of what a start costs.
const SMALL: [&str; 14] = [
    "--innodb-log-buffer-size=8M",
    "--performance-schema-digests-size=0",
    "--performance-schema-error-size=0",
    "--performance-schema-events-stages-history-long-size=0",
    "--performance-schema-events-statements-history-long-size=0",
    "--performance-schema-events-transactions-history-long-size=0",
    "--performance-schema-events-waits-history-long-size=0",
    "--performance-schema-max-cond-classes=0",
    "--performance-schema-max-file-classes=0",
    "--performance-schema-max-memory-classes=0",
    "--performance-schema-max-mutex-classes=0",
    "--performance-schema-max-rwlock-classes=0",
    "--performance-schema-max-stage-classes=0",
    "--performance-schema-max-statement-classes=0",
];

/// The settings of a server to start. Everything not named here is as `deploy/*/my.cnf` says:
/// row-based binlog with GTIDs, TLS offered, InnoDB.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Which server.
    pub engine: Engine,
    /// What a commit waits for.
    pub durability: Durability,
    /// Unique among the servers that replicate to each other; the port's number if absent.
    pub server_id: Option<u32>,
    /// Refuse writes of clients, as a replica should.
    pub read_only: bool,
    /// The zone of the system the server runs in, such as `Europe/Berlin`.
    pub time_zone: Option<String>,
    /// The default `sql_mode` of its sessions.
    pub sql_mode: Option<String>,
    /// The size of a disk of its own, in MiB; the machine's if absent. Only root can have one.
    pub disk_mib_max: Option<u32>,
    /// Whether it has a clock of its own, which [`Server::set_clock`](crate::Server::set_clock) sets.
    pub own_clock: bool,
    /// More options for the server's command line, such as `--max-connections=5`. They come
    /// last, so they win.
    pub arguments: Vec<String>,
}

impl ServerOptions {
    /// A writable server with [`Durability::Relaxed`].
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            durability: Durability::Relaxed,
            server_id: None,
            read_only: false,
            time_zone: None,
            sql_mode: None,
            disk_mib_max: None,
            own_clock: false,
            arguments: Vec::new(),
        }
    }

    /// Sync to disk at each commit.
    #[must_use]
    pub fn synced(mut self) -> Self {
        self.durability = Durability::Synced;
        self
    }

    /// With this `server_id`.
    #[must_use]
    pub fn server_id(mut self, server_id: u32) -> Self {
        self.server_id = Some(server_id);
        self
    }

    /// Read-only, as a replica.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// In this time zone, by its name in `/usr/share/zoneinfo`.
    #[must_use]
    pub fn time_zone(mut self, name: &str) -> Self {
        self.time_zone = Some(name.to_owned());
        self
    }

    /// With this default `sql_mode`.
    #[must_use]
    pub fn sql_mode(mut self, mode: &str) -> Self {
        self.sql_mode = Some(mode.to_owned());
        self
    }

    /// With one more option on the server's command line.
    #[must_use]
    pub fn argument(mut self, option: &str) -> Self {
        self.arguments.push(option.to_owned());
        self
    }

    /// The options above as the engine spells them.
    pub(crate) fn command_line(&self) -> Vec<String> {
        let mut line = Vec::new();
        if self.durability == Durability::Relaxed {
            line.push("--innodb-flush-log-at-trx-commit=2".to_owned());
            line.push("--sync-binlog=0".to_owned());
            // Nor do data files, at whose making a start would wait for the disk.
            line.push("--innodb-flush-method=nosync".to_owned());
        }
        if self.read_only {
            line.push("--read-only=ON".to_owned());
            if self.engine == Engine::MySql {
                line.push("--super-read-only=ON".to_owned());
            }
        }
        if self.engine == Engine::MySql {
            // What needs a folder or a port of its own and no test uses.
            line.push("--mysqlx=OFF".to_owned());
            line.push("--secure-file-priv=NULL".to_owned());
            line.extend(SMALL.iter().map(ToString::to_string));
        }
        line.extend(
            self.sql_mode
                .iter()
                .map(|mode| format!("--sql-mode={mode}")),
        );
        line.extend(self.arguments.iter().cloned());
        line
    }
}
