//! Reading the file and the environment.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use config::{Environment, File, FileFormat};

use super::{
    Config,
    problem::{ConfigError, Problem},
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
    let text = file.map(read).transpose()?;
    parse(name_of(file), text.as_deref(), environment)
}

/// Reads what a file holds, and the variables over it. `source` is what errors call it.
pub(crate) fn parse(
    source: String,
    text: Option<&str>,
    environment: HashMap<String, String>,
) -> Result<Config, ConfigError> {
    let mut variables: Vec<String> = environment.keys().cloned().collect();
    variables.sort();
    let mut builder = config::Config::builder();
    if let Some(text) = text {
        builder = builder.add_source(File::from_str(text, FileFormat::Toml));
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
            let Problem { key, mut words } = problem(&error);
            words.truncate(words.trim_end().len());
            // The parser knows the key but not always which of the two sources it came from.
            if !variables.is_empty() {
                words = format!("{words} (read besides: {})", variables.join(", "));
            }
            ConfigError {
                source,
                problems: vec![Problem::new(key, words)],
            }
        })
}

/// What the parser says, and of which key. A key that it does not know stands in its words alone.
fn problem(error: &config::ConfigError) -> Problem {
    let (section, words) = match error {
        config::ConfigError::At { error, key, .. } => (key.as_deref(), error.to_string()),
        config::ConfigError::Type { key, .. } => (key.as_deref(), error.to_string()),
        _ => (None, error.to_string()),
    };
    let unknown = words.strip_prefix("unknown field `");
    let unknown = unknown.and_then(|rest| rest.split_once('`'));
    let key = match (section, unknown) {
        (Some(section), Some((field, _))) => format!("{section}.{field}"),
        (None, Some((field, _))) => field.to_owned(),
        (section, None) => section.unwrap_or_default().to_owned(),
    };
    Problem::new(key, words)
}

/// What a config is called in errors.
pub(crate) fn name_of(file: Option<&Path>) -> String {
    file.map_or_else(
        || "environment".to_owned(),
        |file| file.display().to_string(),
    )
}

/// What the file holds now.
pub(crate) fn read(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|error| ConfigError {
        source: PathBuf::from(file).display().to_string(),
        problems: vec![Problem::new("", format!("cannot be read: {error}"))],
    })
}
