//! Which database servers there are, and where their programs lie.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};

/// A kind of database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// MariaDB 10.11: `mariadbd` of this machine, or `FREEHOLD_TEST_MARIADBD`; its clients likewise.
    MariaDb,
    /// MySQL 9.7: from a folder that holds another Debian's files, see [`Engine::program`].
    MySql,
}

impl Engine {
    /// Both, for tests that run on each.
    pub const ALL: [Self; 2] = [Self::MariaDb, Self::MySql];

    /// The folder in `deploy/` that is written for this engine.
    pub fn folder(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
        }
    }

    /// The server program, and what it must be told to find its own files.
    ///
    /// MySQL lives in a folder with its own C library (`FREEHOLD_TEST_MYSQLD_ROOT`, or what
    /// `tests/run` puts into the cache), because current Debian releases carry MariaDB alone. It
    /// is started through that folder's own dynamic loader: no chroot, no mounts, no root.
    pub fn program(self) -> Result<Program> {
        match self {
            Self::MariaDb => mariadb(),
            Self::MySql => mysql("sbin/mysqld"),
        }
    }

    /// The program that writes tables as SQL.
    pub fn dump_program(self) -> Result<Program> {
        match self {
            Self::MariaDb => mariadb_client("mariadb-dump"),
            Self::MySql => mysql("bin/mysqldump"),
        }
    }

    /// The program that runs the SQL that it reads.
    pub fn shell_program(self) -> Result<Program> {
        match self {
            Self::MariaDb => mariadb_client("mariadb"),
            Self::MySql => mysql("bin/mysql"),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

/// How to call a program.
#[derive(Debug, Clone)]
pub struct Program {
    /// What to execute, with the loader in front where one is needed.
    words: Vec<PathBuf>,
    /// Options of a server that belong behind the defaults file.
    pub(crate) options: Vec<String>,
    /// The folder that holds `bin` and `share`.
    pub(crate) base: PathBuf,
}

impl Program {
    /// A command without options yet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        command
    }

    /// What it says its version is.
    pub fn version(&self) -> Result<String> {
        let name = self.words[self.words.len() - 1].display().to_string();
        let output = self
            .command()
            .arg("--version")
            .output()
            .map_err(Error::io(&self.words[0]))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Process {
                program: name,
                message,
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Where things are kept that are dear to make: MySQL's files, initialised data folders.
pub(crate) fn cache() -> Result<PathBuf> {
    let folder = env::var_os("FREEHOLD_TEST_CACHE").map(PathBuf::from);
    let shared = || {
        env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .map(|folder| folder.join("freehold"))
    };
    folder.or_else(shared).ok_or_else(|| Error::Missing {
        what: "a cache folder".to_owned(),
        remedy: "set FREEHOLD_TEST_CACHE or HOME".to_owned(),
    })
}

fn mariadb() -> Result<Program> {
    let named = env::var_os("FREEHOLD_TEST_MARIADBD").map(PathBuf::from);
    let found = || in_path("mariadbd");
    let program = named.or_else(found).ok_or_else(|| Error::Missing {
        what: "mariadbd".to_owned(),
        remedy: "run tests/run install, or name it in FREEHOLD_TEST_MARIADBD".to_owned(),
    })?;
    let base = program
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new("/usr"))
        .to_owned();
    Ok(Program {
        words: vec![program],
        options: Vec::new(),
        base,
    })
}

/// A client of this machine, or one beside the server that was named.
fn mariadb_client(name: &str) -> Result<Program> {
    let named = env::var_os("FREEHOLD_TEST_MARIADBD").map(PathBuf::from);
    let beside = named.and_then(|server| Some(server.ancestors().nth(2)?.join("bin").join(name)));
    let program = beside
        .filter(|file| file.is_file())
        .or_else(|| in_path(name));
    Ok(Program {
        words: vec![program.ok_or_else(|| Error::Missing {
            what: name.to_owned(),
            remedy: "run tests/run install".to_owned(),
        })?],
        options: Vec::new(),
        base: PathBuf::from("/usr"),
    })
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A program by its place in `usr`.
fn mysql(place: &str) -> Result<Program> {
    let root = match env::var_os("FREEHOLD_TEST_MYSQLD_ROOT") {
        Some(root) => PathBuf::from(root),
        None => cache()?.join("mysql"),
    };
    let base = root.join("usr");
    let program = base.join(place);
    if !program.is_file() {
        return Err(Error::Missing {
            what: program.display().to_string(),
            remedy: format!(
                "run tests/run install, or name the folder that holds usr/{place} in \
                 FREEHOLD_TEST_MYSQLD_ROOT"
            ),
        });
    }
    if root == Path::new("/") {
        return Ok(Program {
            words: vec![program],
            options: Vec::new(),
            base,
        });
    }
    let machine = format!("{}-linux-gnu", env::consts::ARCH);
    let loader = match env::consts::ARCH {
        "aarch64" => root.join("usr/lib/ld-linux-aarch64.so.1"),
        _ => root.join("usr/lib64/ld-linux-x86-64.so.2"),
    };
    let libraries = base.join("lib").join(machine);
    let options = [
        ("basedir", base.clone()),
        ("plugin-dir", base.join("lib/mysql/plugin")),
        ("lc-messages-dir", base.join("share/mysql")),
        ("character-sets-dir", base.join("share/mysql/charsets")),
    ];
    Ok(Program {
        words: vec![loader, "--library-path".into(), libraries, program],
        options: options
            .iter()
            .map(|(name, path)| format!("--{name}={}", path.display()))
            .collect(),
        base,
    })
}

/// Makes the modules `mariadb` and `mysql` with one test per named function, which takes the engine.
/// For suites on tokio: `#[macro_use(on_servers)] extern crate freehold_tests;` at their root. With
/// `mariadb, MariaDb:` or `mysql, MySql:` in front it is one of them.
#[macro_export]
macro_rules! on_servers {
    ($module:ident, $engine:ident: $($name:ident),+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
                    super::$name($crate::Engine::$engine).await
                }
            )+
        }
    };
    ($($name:ident),+ $(,)?) => {
        $crate::on_servers!(mariadb, MariaDb: $($name),+);
        $crate::on_servers!(mysql, MySql: $($name),+);
    };
}
