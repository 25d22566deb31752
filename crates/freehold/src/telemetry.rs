//! Logs: one line per event on standard error, as text or JSON. No event carries a key, a value or
//! a password; types that hold one do not show it.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::LogSection;

const FILTER: &str = "info";

/// Starts logging for the rest of the process.
pub(crate) fn start(log: &LogSection) {
    // The config's check has read the filter before.
    let filter = EnvFilter::new(log.filter.as_deref().unwrap_or(FILTER));
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    if log.format.is_json() {
        lines.json().flatten_event(true).init();
    } else {
        let colour = io::stderr().is_terminal() && console::colors_enabled_stderr();
        lines.with_ansi(colour).with_target(false).init();
    }
}
