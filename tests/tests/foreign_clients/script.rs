//! Runs a script of `tests/clients/` against a scene.

use std::process::Command;
use std::time::Duration;

use freehold_tests::{Error, Process, Result, clients};
use tokio::net::TcpListener;

use crate::director::direct;
use crate::scene::Scene;

/// Far above what any script takes.
const WITHIN: Duration = Duration::from_secs(300);

/// Runs modules of `tests/clients/python`.
pub(crate) async fn python(scene: &mut Scene, modules: &[&str]) -> Result<()> {
    let mut command = clients::python()?;
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-m", "unittest", "-v"])
        .args(modules);
    run(scene, command, "python").await
}

/// Runs files of `tests/clients/node`, one after the other.
pub(crate) async fn node(scene: &mut Scene, files: &[&str]) -> Result<()> {
    for file in files {
        let mut command = clients::node()?;
        command.arg("--test-reporter=spec").arg(file);
        run(scene, command, "node").await?;
    }
    Ok(())
}

/// Runs until the script ends, doing meanwhile what it asks for; fails with its output.
async fn run(scene: &mut Scene, mut command: Command, name: &str) -> Result<()> {
    let failed = |message: String| Error::Process {
        program: name.to_owned(),
        message,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.map_err(|error| failed(error.to_string()))?;
    let address = listener.local_addr();
    let address = address.map_err(|error| failed(error.to_string()))?;
    let tags = scene.tags();
    let tags: Vec<String> = tags
        .into_iter()
        .map(|(shard, tag)| format!("{shard}={tag}"))
        .collect();
    command
        .env("FREEHOLD_ADDRESS", scene.router.address().to_string())
        .env("FREEHOLD_ADMIN", scene.router.admin_address().to_string())
        .env("FREEHOLD_DIRECTOR", address.to_string())
        .env("FREEHOLD_TAGS", tags.join(","))
        .env(
            "FREEHOLD_VALUE_BYTES_MAX",
            scene.value_bytes_max.to_string(),
        );
    let log = scene.router.folder().join(format!("{name}.log"));
    let mut script = Process::spawn(command, &log)?;
    let status = tokio::select! {
        status = script.wait(WITHIN) => status?,
        broken = direct(scene, &listener) => return broken,
    };
    if status.success() {
        return Ok(());
    }
    Err(failed(script.log()))
}
