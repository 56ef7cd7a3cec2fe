//! The log: lines for people on a terminal, JSON elsewhere. A panic is a line like any other.

use crate::config::{LogFormat, LogOptions};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use tracing::error;
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
    std::panic::set_hook(Box::new(note_panic));
}

/// Says in the log where a panic was. With `RUST_BACKTRACE=1` also how it came there.
fn note_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let why = info.payload_as_str().unwrap_or_default();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    error!(location, why, backtrace, "panicked");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::panic::{set_hook, take_hook};
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Lines;

        fn make_writer(&'a self) -> Lines {
            self.clone()
        }
    }

    #[test]
    fn a_panic_is_one_line_that_says_where_it_was() {
        let lines = Lines::default();
        let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(lines.clone()).finish();
        let before = take_hook();
        set_hook(Box::new(note_panic));
        let panicked = tracing::subscriber::with_default(log, || std::panic::catch_unwind(|| panic!("by the\ntest {}", 1)));
        set_hook(before);
        assert!(panicked.is_err());
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["why"]),
            (&"ERROR".into(), &"panicked".into(), &"by the\ntest 1".into())
        );
        assert!(line["location"].as_str().unwrap().starts_with("src/cli/log.rs:"), "{line}");
    }
}
