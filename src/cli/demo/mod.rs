//! `demo`: the main job in one command: a slow backend, the sidecar before it, a measured load.
//!
//! | file | what |
//! |---|---|
//! | `origin`, `customers` | the backend, and what it knows |
//! | `workload`, `random` | which requests are sent, how fast, and what became of them |
//! | `report` | the table |

mod customers;
mod origin;
mod random;
mod report;
mod workload;

use super::{check, log, serve};
use crate::Sidecar;
use crate::StartError;
use crate::clock::Clock;
use crate::config::{self, Config, LogFormat, LogOptions, Problems, Sources, octets};
use crate::store;
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use origin::{Endpoint, Origin};
use report::Report;
use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{Signal, SignalKind, signal};
use workload::Load;

/// How the demo runs.
#[derive(clap::Args)]
pub(super) struct Args {
    /// End after the table, instead of staying up for you to try.
    #[arg(long)]
    once: bool,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("the runtime cannot start: {0}")]
    Runtime(io::Error),
    #[error("signals cannot be waited for: {0}")]
    Signals(io::Error),
    #[error("the demo's backend cannot listen on loopback: {0}")]
    Origin(io::Error),
    #[error("{0}")]
    Config(Problems),
    #[error("{0}")]
    Start(#[from] StartError),
}

/// The sidecars, and what they store in.
struct Replicas {
    sidecars: Vec<Sidecar>,
    config: Config,
}

/// Ctrl-C, or what a container's runtime sends instead.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

/// Runs the demo.
pub(super) fn run(args: Args) -> ExitCode {
    log::start(&LogOptions { level: "warn".to_owned(), format: LogFormat::Human, access: false });
    let ended = serve::runtime(None).map_err(DemoError::Runtime).and_then(|runtime| runtime.block_on(demo(args)));
    match ended {
        Ok(code) => code,
        Err(DemoError::Config(problems)) => check::refuse(&problems),
        Err(error) => {
            let _ = writeln!(io::stderr(), "the demo cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: Args) -> Result<ExitCode, DemoError> {
    let mut stop = Stop::new().map_err(DemoError::Signals)?;
    let origin = Origin::start().await.map_err(DemoError::Origin)?;
    let replicas = Replicas::start(origin.address).await?;
    say(&introduction(&origin, &replicas));
    let report = tokio::select! {
        report = measure(&origin, &replicas) => report,
        () = stop.came() => {
            say("\nStopped before there was anything to show.\n");
            replicas.drain().await;
            return Ok(ExitCode::FAILURE);
        }
    };
    say(&format!("\n{}\n{}", report.table(), report.verdict()));
    if !args.once {
        say(&invitation(&origin, &replicas));
        stop.came().await;
        say("\n");
    }
    let all_ended = tokio::select! {
        all_ended = replicas.drain() => all_ended,
        // Who asks twice doesn't want to wait.
        () = stop.came() => false,
    };
    Ok(if report.is_right() && all_ended { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sends the load: a part of it straight to the origin, then all of it through the sidecar, which has nothing stored yet.
async fn measure(origin: &Origin, replicas: &Replicas) -> Report {
    let pages = Arc::new(workload::pages(CUSTOMERS));
    let calls = workload::calls(&pages, DIRECT_REQUESTS, 1);
    let load = Load { to: vec![origin.address], host: origin.address.to_string(), at_once: AT_ONCE, rate: None };
    let progress = progress("without the cache", calls.len());
    let without = workload::drive(&pages, calls, load, progress).await;

    let reached = || Endpoint::ALL.map(|endpoint| origin.requests(endpoint));
    let before = reached();
    let calls = workload::calls(&pages, REQUESTS, 2);
    let to: Vec<SocketAddr> = replicas.sidecars.iter().map(|sidecar| sidecar.address).collect();
    let load = Load { host: to[0].to_string(), to, at_once: AT_ONCE, rate: Some(RATE) };
    let progress = self::progress("with the cache", calls.len());
    let with = workload::drive(&pages, calls, load, progress).await;
    let after = reached();
    Report { without, with, forwarded: [after[0] - before[0], after[1] - before[1]], has_redis: replicas.has_redis() }
}

impl Replicas {
    /// Starts one sidecar, or two that share the Redis of `REDIS_URL`.
    async fn start(origin: SocketAddr) -> Result<Replicas, DemoError> {
        let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let redis_url = std::env::vars_os().filter(|(name, _)| name == "REDIS_URL");
        let sources = Sources::new()
            .text("proxy.toml", SHIPPED)
            .environment(redis_url)
            .set(&format!("origin.url=http://{origin}"))
            // Of its own for each run: what an earlier one stored would make this one look better than it is.
            .set(&format!("redis.prefix=sidecache-demo-{run}-{}", std::process::id()));
        let mut config = config::load(&sources).map_err(DemoError::Config)?;
        (config.server.listen, config.admin.listen) = (free(8080), Some(free(9090)));
        let first = Sidecar::start(config.clone(), Clock::system()).await?;
        if config.store.redis.is_none() {
            return Ok(Replicas { sidecars: vec![first], config });
        }
        let mut beside = config.clone();
        (beside.server.listen, beside.admin.listen) = (free(8081), Some(free(9091)));
        let second = Sidecar::start(beside, Clock::system()).await?;
        let replicas = Replicas { sidecars: vec![first, second], config };
        if replicas.redis_is_up().await {
            return Ok(replicas);
        }
        let why = replicas.sidecars[0].proxy().store().snapshot().redis.and_then(|redis| redis.last_error);
        let why = why.unwrap_or_else(|| "no answer".to_owned());
        let _ = writeln!(io::stderr(), "The Redis of REDIS_URL cannot be used ({why}); the demo goes on with memory alone.\n");
        replicas.drain().await;
        let mut config = replicas.config;
        config.store.redis = None;
        (config.server.listen, config.admin.listen) = (free(8080), Some(free(9090)));
        Ok(Replicas { sidecars: vec![Sidecar::start(config.clone(), Clock::system()).await?], config })
    }

    fn has_redis(&self) -> bool {
        self.config.store.redis.is_some()
    }

    /// Waits until all are connected to Redis, for a while. Says whether they are.
    async fn redis_is_up(&self) -> bool {
        let is_up = |sidecar: &Sidecar| sidecar.proxy().store().snapshot().redis.is_some_and(|redis| redis.is_up);
        for _ in 0..REDIS_PATIENCE.as_millis() / REDIS_INTERVAL.as_millis() {
            if self.sidecars.iter().all(is_up) {
                return true;
            }
            tokio::time::sleep(REDIS_INTERVAL).await;
        }
        false
    }

    /// Ends them. Says whether all work ended in time.
    async fn drain(&self) -> bool {
        let mut all_ended = true;
        for sidecar in &self.sidecars {
            all_ended &= sidecar.drain().await;
        }
        all_ended
    }
}

impl Stop {
    fn new() -> io::Result<Stop> {
        Ok(Stop { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Says what is running.
fn introduction(origin: &Origin, replicas: &Replicas) -> String {
    let mut text =
        "\nsidecache demo: a slow backend, and the sidecar before it with the routes of the shipped proxy.toml\n\n".to_owned();
    let mut line = |what: &str, value: String| text.push_str(&format!("  {what:<10} {value}\n"));
    let address = |address: SocketAddr| format!("http://{address:<17}");
    line("backend", format!("{}  profiles take 50-100 ms, churn predictions 200-300 ms", address(origin.address)));
    for sidecar in &replicas.sidecars {
        let admin = sidecar.admin_address.map_or(String::new(), |admin| format!("  statistics on http://{admin}"));
        line("sidecar", format!("{}{admin}", address(sidecar.address)));
    }
    let store = &replicas.config.store;
    let memory = octets(store.memory.bytes_max);
    match &store.redis {
        None => line("stores in", format!("memory, up to {memory}; set REDIS_URL to see Redis shared by two sidecars")),
        Some(redis) => {
            let place = store::display_redis_url(&redis.url);
            line("stores in", format!("memory, up to {memory} each, and Redis at {place}, which both share"));
            line("", format!("under keys of this run alone ({}:…), which expire by themselves", redis.prefix));
        }
    }
    text.push_str(&format!(
        "\n{CUSTOMERS} customers, some asked for far more often than others (Zipf), {AT_ONCE} connections, at most {RATE} requests/s\n\n"
    ));
    text
}

/// Says what there is to try.
fn invitation(origin: &Origin, replicas: &Replicas) -> String {
    let Some(sidecar) = replicas.sidecars.first() else {
        return String::new();
    };
    let id = workload::id(0);
    let (path, etag) = (Endpoint::Customer.path(&id), origin::etag(&Endpoint::Customer.body(&id)));
    let new = Endpoint::ChurnRisk.path("4711");
    let (proxy, backend) = (format!("http://{}", sidecar.address), format!("http://{}", origin.address));
    let mut lines = vec![
        ("a hit; Cache-Status and Age say so", format!("curl -i {proxy}{path}")),
        ("a miss, and a hit when repeated", format!("curl -i {proxy}{new}")),
        ("the same without the cache", format!("curl -i {backend}{new}")),
        ("only if it changed: 304, no body", format!("curl -i -H 'If-None-Match: {etag}' {proxy}{path}")),
    ];
    if let Some(admin) = sidecar.admin_address {
        lines.push(("statistics", format!("curl http://{admin}/admin/cache/stats")));
        lines.push(("metrics, as Prometheus reads them", format!("curl http://{admin}/metrics")));
    }
    let lines: String = lines.iter().map(|(what, command)| format!("  # {what}\n  {command}\n")).collect();
    format!("\nAll of it stays up until Ctrl-C. Try:\n\n{lines}")
}

/// A bar on a terminal, a line elsewhere.
fn progress(what: &'static str, requests: usize) -> ProgressBar {
    if !io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "{what}: {requests} requests ...");
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("  {msg:<18} {bar:32.green} {human_pos:>6} of {human_len} requests, {elapsed}")
        .expect("the template is well-formed");
    let bar = ProgressBar::new(requests as u64).with_style(style.progress_chars("━╸─")).with_finish(ProgressFinish::Abandon);
    bar.set_message(what);
    // It is drawn by a thread of its own, so that drawing is not measured.
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// The port on loopback, if it is free; else any.
fn free(port: u16) -> SocketAddr {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(wanted) {
        Ok(_) => wanted,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

fn say(text: &str) {
    // Who closed the pipe has seen what they wanted.
    let _ = io::stdout().write_all(text.as_bytes());
}

/// What is shown is what ships.
const SHIPPED: &str = include_str!("../../../proxy.toml");

const CUSTOMERS: usize = 300;

/// A sample: without the cache, every request costs the origin's time.
const DIRECT_REQUESTS: usize = 900;
const REQUESTS: usize = 18_000;

/// Enough that hits go on while others wait for the origin.
const AT_ONCE: usize = 32;

/// What leaves two shared cores, which client, sidecar and origin have together, mostly idle: latency is measured, not
/// how long the queue for the processor is.
const RATE: u32 = 1500;

/// Two attempts to connect.
const REDIS_PATIENCE: Duration = Duration::from_secs(3);
const REDIS_INTERVAL: Duration = Duration::from_millis(20);
