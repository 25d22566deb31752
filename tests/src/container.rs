//! A MySQL of `deploy/compose.yaml` instead of one of this machine (`tests/run --docker`).

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::certificates::Certificates;
use crate::deploy;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::options::ServerOptions;
use crate::template;

/// Whether servers of this engine run in containers.
pub(crate) fn wanted(engine: Engine) -> bool {
    engine == Engine::MySql && env::var_os("FREEHOLD_TEST_CONTAINERS").is_some()
}

/// Runs in the foreground for as long as the server does. The data lie in `folder`, so that the
/// next container of the same server finds them.
pub(crate) fn command(
    options: &ServerOptions,
    port: u16,
    certificates: &Certificates,
    folder: &Path,
) -> Result<Command> {
    let script = folder.join("admin.sql");
    // Replicas are made by copying: what every server makes for itself must not be copied.
    let recipe = format!(
        "SET sql_log_bin = OFF;\n{}",
        template::recipe(options.engine)
    );
    fs::write(&script, recipe).map_err(Error::io(&script))?;

    let mut command = Command::new("docker");
    command.args(["compose", "--project-name", "freehold-tests"]);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/host.yaml");
    for file in [deploy::folder().join("compose.yaml"), here] {
        command.arg("--file").arg(file);
    }
    command.args([
        "run",
        "--rm",
        "--no-deps",
        "--no-TTY",
        "--name",
        &name(port),
    ]);
    let mounts = [
        (folder.join("data"), "/var/lib/mysql"),
        (script, "/docker-entrypoint-initdb.d/admin.sql"),
        (certificates.ca.clone(), "/tls/ca.pem"),
        (certificates.certificate.clone(), "/tls/server.pem"),
        (certificates.key.clone(), "/tls/server-key.pem"),
    ];
    for (outside, inside) in mounts {
        command
            .arg("--volume")
            .arg(format!("{}:{inside}", outside.display()));
    }
    if let Some(zone) = &options.time_zone {
        command.args(["--env", &format!("TZ={zone}")]);
    }
    command.args(["db-a", "--bind-address=127.0.0.1"]);
    command.args(["--ssl-ca=/tls/ca.pem", "--ssl-cert=/tls/server.pem"]);
    command.args([
        "--ssl-key=/tls/server-key.pem".to_owned(),
        format!("--port={port}"),
    ]);
    command.arg(format!(
        "--server-id={}",
        options.server_id.unwrap_or(port.into())
    ));
    // A read-only server could not be set up: `Server` closes it when it answers.
    let closing = |option: &String| {
        option.starts_with("--read-only") || option.starts_with("--super-read-only")
    };
    let line = options.command_line().into_iter();
    command.args(line.filter(|option| !closing(option)));
    Ok(command)
}

/// What the container on this port is called.
pub(crate) fn name(port: u16) -> String {
    format!("freehold-test-{port}")
}

/// `docker VERB NAME`, such as `pause` or `kill`.
pub(crate) fn docker(arguments: &[&str]) -> Result<()> {
    let output = Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io("docker"))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Process {
        program: format!("docker {}", arguments.join(" ")),
        message,
    })
}
