//! Python and Node with the packages of `tests/clients/`, as `tests/run install` lays them down.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::cache;
use crate::error::{Error, Result};

/// Where the clients' own files are: `tests/clients/`.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// `python` with grpcio, its compiler, health checking and reflection; runs in `tests/clients/python`.
pub fn python() -> Result<Command> {
    let mut command = Command::new(installed("python/bin/python")?);
    command.current_dir(folder().join("python"));
    Ok(command)
}

/// `node` with @grpc/grpc-js and @grpc/proto-loader; runs in `tests/clients/node`.
pub fn node() -> Result<Command> {
    let mut command = Command::new("node");
    command.env("NODE_PATH", installed("node/node_modules")?);
    command.current_dir(folder().join("node"));
    Ok(command)
}

fn installed(name: &str) -> Result<PathBuf> {
    let path = cache()?.join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(Error::Missing {
        what: path.display().to_string(),
        remedy: "run tests/run install".to_owned(),
    })
}
