//! What can be wrong with a config, in words that name key, value and file.

use std::fmt;

/// Why a config cannot be used. Shows no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    /// The file, or what was read instead.
    pub(crate) source: String,
    /// At least one.
    pub(crate) problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// As it is written: `shards[1].master`. Empty if it is not about one key.
    pub(crate) key: String,
    /// What is wrong and what to write instead.
    pub(crate) words: String,
}

impl Problem {
    /// What stands in the wrong place may be a DSN: neither shows the password of one.
    pub(crate) fn new(key: impl Into<String>, words: impl Into<String>) -> Self {
        Self {
            key: without_credentials(&key.into()),
            words: without_credentials(&words.into()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.words)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] => write!(f, "{}: {only}", self.source),
            all => {
                write!(f, "{}: {} problems", self.source, all.len())?;
                all.iter()
                    .try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// The text without what stands between `://` and the last `@` before the quote that ends it:
/// a value of the wrong type is quoted by the parser, and it may be a DSN.
pub(crate) fn without_credentials(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        clean.push_str(before);
        let end = after.find(['"', '\n']).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => {
                clean.push_str("...");
                &after[at..]
            }
            None => after,
        };
    }
    clean.push_str(rest);
    clean
}
