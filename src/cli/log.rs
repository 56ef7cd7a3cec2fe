//! The log: lines for people on a terminal, JSON elsewhere.

use crate::config::{LogFormat, LogOptions};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging to standard error.
pub(super) fn start(options: &LogOptions) {
    let filter = EnvFilter::try_new(&options.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let is_for_people = match options.format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match is_for_people {
        true => log.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        false => log.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}
