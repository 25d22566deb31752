//! Initialised data folders, made once per engine, version and recipe, then copied.
//!
//! Initialising takes seconds, a copy a tenth of one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::{Engine, Program, cache};
use crate::error::{Error, Result};

/// The account fixtures use: all rights, from anywhere.
pub(crate) const ADMIN: &str = "admin";
/// Its password.
pub(crate) const ADMIN_PASSWORD: &str = "admin-password";
/// The database every server has.
pub(crate) const DATABASE: &str = "freehold";

/// Run while the folder is initialised, before anything is logged for replicas.
///
/// MariaDB's bootstrap knows no accounts until it is told to read them.
pub(crate) fn recipe(engine: Engine) -> String {
    let flush = match engine {
        Engine::MariaDb => "FLUSH PRIVILEGES;\n",
        Engine::MySql => "",
    };
    format!(
        "{flush}\
         CREATE USER '{ADMIN}'@'%' IDENTIFIED BY '{ADMIN_PASSWORD}';\n\
         GRANT ALL ON *.* TO '{ADMIN}'@'%' WITH GRANT OPTION;\n\
         CREATE DATABASE {DATABASE};\n"
    )
}

/// Puts a fresh data folder at `target`, which must not exist.
pub(crate) fn copy(engine: Engine, program: &Program, target: &Path) -> Result<()> {
    let template = template(engine, program)?;
    run(Command::new("cp")
        .args(["-a", "--reflink=auto", "--sparse=always"])
        .args([template.as_path(), target]))
}

fn template(engine: Engine, program: &Program) -> Result<PathBuf> {
    let recipe = recipe(engine);
    let version = program.version()?;
    if (engine == Engine::MariaDb) != version.contains("MariaDB") {
        // MariaDB takes the name mysqld too.
        return Err(Error::Missing {
            what: engine.to_string(),
            remedy: format!("name one instead of {version}"),
        });
    }
    let name = format!("{engine}-{:016x}", fingerprint(&[&version, &recipe]));
    let folder = cache()?.join("data");
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let template = folder.join(&name);

    // One process makes it, the others wait. It gets its name last: a crash leaves no half.
    let path = folder.join(format!("{name}.lock"));
    let lock = File::create(&path).map_err(Error::io(&path))?;
    lock.lock().map_err(Error::io(&path))?;
    if template.is_dir() {
        return Ok(template);
    }
    let draft = folder.join(format!("{name}.draft"));
    if draft.exists() {
        fs::remove_dir_all(&draft).map_err(Error::io(&draft))?;
    }
    let script = folder.join(format!("{name}.sql"));
    fs::write(&script, recipe).map_err(Error::io(&script))?;
    initialise(engine, program, &draft, &script)?;
    fs::rename(&draft, &template).map_err(Error::io(&template))?;
    Ok(template)
}

fn initialise(engine: Engine, program: &Program, data: &Path, script: &Path) -> Result<()> {
    let data_option = format!("--datadir={}", data.display());
    // Not where running servers have theirs.
    let temporary = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    match engine {
        Engine::MariaDb => {
            let installer = ["bin", "scripts"]
                .map(|folder| program.base.join(folder).join("mariadb-install-db"))
                .into_iter()
                .find(|file| file.is_file())
                .unwrap_or_else(|| "mariadb-install-db".into());
            run(Command::new(installer)
                .args(["--no-defaults", "--skip-test-db", "--skip-name-resolve"])
                .args([
                    "--auth-root-authentication-method=normal",
                    "--innodb-log-file-size=8M",
                ])
                .args(as_root())
                .env("TMPDIR", temporary.path())
                .arg(data_option)
                .arg(format!("--extra-file={}", script.display())))
        }
        Engine::MySql => {
            run(program
                .command()
                .arg("--no-defaults")
                .args(&program.options)
                .args(["--initialize-insecure", "--innodb-redo-log-capacity=16M"])
                .args(as_root())
                .env("TMPDIR", temporary.path())
                .arg(data_option)
                .arg(format!("--init-file={}", script.display())))?;
            // Each copy draws an identity of its own: replicas refuse a source that has theirs.
            let identity = data.join("auto.cnf");
            fs::remove_file(&identity).map_err(Error::io(&identity))
        }
    }
}

/// Both servers refuse to run as root unless told so by name.
pub(crate) fn as_root() -> Option<&'static str> {
    rustix::process::geteuid()
        .is_root()
        .then_some("--user=root")
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(Error::io(&program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::Process {
        program,
        message: String::from_utf8_lossy(&said).into_owned(),
    })
}

/// FNV-1a, 64 bits: names a folder, protects nothing.
fn fingerprint(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
