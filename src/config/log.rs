//! What is logged, and how it is written.

/// What is logged, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// The least level, or directives such as `info,sidecache::store=debug`.
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
    /// A line for each request.
    pub access: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, as JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { level: "info".to_owned(), format: LogFormat::Auto, access: false }
    }
}
