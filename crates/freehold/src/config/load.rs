//! Reading the file and the environment.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use config::{Environment, File, FileFormat};

use super::{
    Config,
    problem::{ConfigError, Problem, without_credentials},
};

/// What every variable of the config begins with; the parts after it are separated by `__` too.
const PREFIX: &str = "FREEHOLD";

/// The variables of this process that speak of the config.
pub(crate) fn environment() -> HashMap<String, String> {
    let begins = format!("{PREFIX}__");
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.to_uppercase().starts_with(&begins))
        .collect()
}

/// Reads the file, if there is one, and the variables over it.
pub(crate) fn load(
    file: Option<&Path>,
    environment: HashMap<String, String>,
) -> Result<Config, ConfigError> {
    let source = name_of(file);
    let mut variables: Vec<String> = environment.keys().cloned().collect();
    variables.sort();
    let mut builder = config::Config::builder();
    if let Some(file) = file {
        builder = builder.add_source(File::from_str(&read(file)?, FileFormat::Toml));
    }
    builder
        .add_source(
            Environment::with_prefix(PREFIX)
                .prefix_separator("__")
                .separator("__")
                .source(Some(environment)),
        )
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| {
            let mut words = without_credentials(error.to_string().trim_end());
            // The parser knows the key but not always which of the two sources it came from.
            if !variables.is_empty() {
                words = format!("{words} (read besides: {})", variables.join(", "));
            }
            ConfigError {
                source,
                problems: vec![Problem::new("", words)],
            }
        })
}

/// What a config is called in errors.
pub(crate) fn name_of(file: Option<&Path>) -> String {
    file.map_or_else(
        || "environment".to_owned(),
        |file| file.display().to_string(),
    )
}

fn read(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|error| ConfigError {
        source: PathBuf::from(file).display().to_string(),
        problems: vec![Problem::new("", format!("cannot be read: {error}"))],
    })
}
