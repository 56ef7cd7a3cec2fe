//! `top`: what a running sidecache does, from second to second: on a terminal a picture that is drawn anew, elsewhere lines for scripts.

use super::place::Where;
use super::remote::{Remote, Reply};
use crate::config::Sources;
use bytes::Bytes;
use http::{Method, StatusCode};
use moment::{Moment, Rates};
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

mod moment;

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Look so often: `500ms`, `5s`, or seconds.
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,

    /// Show so many intervals, one below the other, and end.
    #[arg(short, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    n: Option<u64>,

    /// Show one interval, and end.
    #[arg(long, conflicts_with = "n")]
    once: bool,

    #[command(flatten)]
    place: Where,
}

/// Shows it until somebody ends it, or for as many intervals as were asked for. Exit code 1 if it could not be asked at the start, or,
/// where the intervals are counted, at all.
pub(super) fn run(args: &Args, sources: &Sources) -> ExitCode {
    let remote = match Remote::find(&args.place, sources) {
        Ok(remote) => remote,
        Err(why) => return failed(&why),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime cannot start: {error}")),
    };
    let shown = if args.once { Some(1) } else { args.n };
    let is_live = shown.is_none() && std::io::stdout().is_terminal();
    let watching = watch(&remote, args.interval, shown, is_live);
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = watching => ended,
            () = told_to_end() => Ok(()),
        }
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => failed(&why),
    }
}

async fn watch(remote: &Remote, interval: Duration, shown: Option<u64>, is_live: bool) -> Result<(), String> {
    let mut before = look(remote).await?;
    let screen = is_live.then(Screen::enter);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut left = shown;
    while left != Some(0) {
        ticks.tick().await;
        let text = match look(remote).await {
            Ok(after) => {
                let rates = Rates::between(&before, &after);
                let text = if is_live { rates.picture(&remote.url(), interval) } else { rates.lines() };
                before = after;
                text
            }
            // It may be starting anew: who watches wants to see it come back.
            Err(why) if is_live => format!("{why}\n"),
            Err(why) => return Err(why),
        };
        let written = match &screen {
            Some(screen) => screen.draw(&text),
            None => std::io::stdout().write_all(text.as_bytes()),
        };
        // Whoever read it has gone.
        if written.is_err() {
            return Ok(());
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

async fn look(remote: &Remote) -> Result<Moment, String> {
    let Reply { status, body } = remote.asked(Method::GET, "/admin/cache/stats", "", Bytes::new()).await?;
    let text = || String::from_utf8_lossy(&body).trim_end().to_owned();
    match serde_json::from_slice::<Value>(&body) {
        Ok(stats) if status == StatusCode::OK => Ok(Moment { stats, at: Instant::now() }),
        // Whoever answers there may be anybody.
        _ => Err(format!("{status}: {}", text().replace(|sign: char| sign.is_control() && sign != '\n', " "))),
    }
}

/// A screen of its own on the terminal; what was there comes back when it ends.
struct Screen;

impl Screen {
    fn enter() -> Screen {
        let _ = write!(std::io::stdout(), "{OTHER_SCREEN}{HIDE_CURSOR}");
        Screen
    }

    /// Draws a picture over the one before, without a moment in which there is none.
    fn draw(&self, picture: &str) -> std::io::Result<()> {
        let (columns, rows) = size();
        let mut drawn = String::from(HOME);
        for line in picture.lines().take(rows.saturating_sub(1)) {
            drawn.extend(line.chars().take(columns));
            drawn.push_str(TO_END_OF_LINE);
            drawn.push('\n');
        }
        drawn.push_str(TO_END_OF_SCREEN);
        let mut out = std::io::stdout().lock();
        out.write_all(drawn.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write!(std::io::stdout(), "{SHOW_CURSOR}{FIRST_SCREEN}");
        let _ = std::io::stdout().flush();
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// Comes when the terminal, or somebody else, wants it to end.
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let parsed = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match parsed.or_else(|| humantime::parse_duration(text).ok()).filter(|interval| *interval >= INTERVAL_MIN) {
        Some(interval) => Ok(interval),
        None => Err(format!("write seconds, or a duration such as 5s, of {} ms at least", INTERVAL_MIN.as_millis())),
    }
}

fn failed(why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{why}");
    ExitCode::FAILURE
}

/// The statistics cost the one that is asked a look into Redis.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

// What terminals understand since the VT100, and xterm.
const OTHER_SCREEN: &str = "\x1b[?1049h";
const FIRST_SCREEN: &str = "\x1b[?1049l";
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
const HOME: &str = "\x1b[H";
const TO_END_OF_LINE: &str = "\x1b[K";
const TO_END_OF_SCREEN: &str = "\x1b[J";

const EXAMPLES: &str = "\
Examples:
  sidecache top                     a picture, drawn anew each second; Ctrl-C ends it
  sidecache top --interval 5s -n 12 twelve intervals of five seconds, as lines
  sidecache top --once              one interval, as lines such as route=all requests=12.0 hit_rate=91.67 …

What is no terminal is written lines to: one for all requests, and one for each route. Numbers are a second, hit_rate is percent.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_written_as_seconds_or_as_a_duration() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(interval(text).ok(), expected.map(Duration::from_millis), "{text}");
        };
        check("1", Some(1000));
        check("0.5", Some(500));
        check("500ms", Some(500));
        check("1m", Some(60_000));
        check("0", None);
        check("-1", None);
        check("soon", None);
    }
}
