//! What commands print: tables and words for people, or JSON for programs.
//!
//! Answers go to standard output, everything about them to standard error. [`bytes`] shows keys and
//! values, [`human`] numbers and times, [`table`] rows.

pub(crate) mod bytes;
pub(crate) mod human;
pub(crate) mod table;

use std::io::{self, Write as _};

use console::Style;
use serde_json::Value;

use crate::exit::Failure;

/// Where a command's answers go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a program reads it.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Fails where a program reads it and a flag wants something else than JSON. (The flags of one
    /// command do not see those in front of it.)
    pub(crate) fn refuse_json_with(self, is_given: bool, flag: &str) -> Result<(), Failure> {
        match self.json && is_given {
            true => Err(Failure::Usage(format!(
                "--json and {flag}: give one of them"
            ))),
            false => Ok(()),
        }
    }

    /// One line for people.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// One JSON object on a line.
    pub(crate) fn json(self, value: &Value) -> Result<(), Failure> {
        self.line(&value.to_string())
    }

    /// Bytes as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => Failure::OutputClosed,
                _ => Failure::io("cannot write to standard output", error),
            })
    }

    /// Why something was not done.
    pub(crate) fn error(self, text: &str) {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        self.note(&format!(
            "{} {first}",
            Style::new().for_stderr().red().bold().apply_to("error:")
        ));
        lines.for_each(|line| self.note(line));
    }

    /// Something about the answer that is not part of it.
    #[allow(clippy::unused_self, reason = "every way to print stands on Output")]
    pub(crate) fn note(self, text: &str) {
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// One JSON object on a line of standard error.
    pub(crate) fn error_json(self, value: &Value) {
        self.note(&value.to_string());
    }
}

/// For what matters less.
pub(crate) fn dim(text: &str) -> String {
    Style::new().dim().apply_to(text).to_string()
}

/// For headings.
pub(crate) fn bold(text: &str) -> String {
    Style::new().bold().apply_to(text).to_string()
}
