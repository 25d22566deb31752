//! The SQL and settings of `deploy/`, so that tests run what operators are given.

use std::fs;
use std::path::{Path, PathBuf};

use crate::engine::Engine;
use crate::error::{Error, Result};

/// A file of `deploy/` for one engine.
pub fn file(engine: Engine, name: &str) -> PathBuf {
    folder().join(engine.folder()).join(name)
}

/// The folder `deploy/` itself.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy")
}

/// The SQL of `deploy/<engine>/<name>`, with each `${NAME}` replaced by its value. A placeholder
/// without a value is an error: sent as it is, it could become somebody's password.
pub fn sql(engine: Engine, name: &str, values: &[(&str, &str)]) -> Result<String> {
    let path = file(engine, name);
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let code: String = text
        .lines()
        .filter(|line| !line.starts_with("--"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let filled = values.iter().fold(code, |code, (placeholder, value)| {
        code.replace(&format!("${{{placeholder}}}"), value)
    });
    match filled.split_once("${") {
        None => Ok(filled),
        Some((_, rest)) => Err(Error::Missing {
            what: format!(
                "{}: ${{{}}}",
                path.display(),
                rest.split('}').next().unwrap_or(rest)
            ),
            remedy: "give it a value".to_owned(),
        }),
    }
}
