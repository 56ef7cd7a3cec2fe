//! `serve`: run the proxy until it is told to stop.

use super::watch::Watch;
use super::{check, log};
use crate::Sidecar;
use crate::Sockets;
use crate::clock::Clock;
use crate::config::{self, Config, Sources};
use crate::server::descriptors;
use listenfd::ListenFd;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// Runs the proxy. On SIGHUP, and when a file has changed, the sources are read anew.
pub(super) fn run(sources: &Sources) -> ExitCode {
    descriptors::raise();
    let mut watch = Watch::new(sources.path().map(Path::to_path_buf).into_iter().collect());
    let mut sources = sources.clone();
    sources.hold_on();
    let config = match config::load(&sources) {
        Ok(config) => config,
        Err(problems) => return check::refuse(&problems),
    };
    watch.follow(files(&sources, &config));
    log::start(&config.log);
    match runtime(config.server.workers) {
        Ok(runtime) => runtime.block_on(serve(config, sources, watch)),
        Err(error) => {
            error!(%error, "runtime_failed");
            ExitCode::FAILURE
        }
    }
}

/// A runtime of so many threads; one a core that the process may use, if nobody says otherwise.
pub(super) fn runtime(workers: Option<usize>) -> std::io::Result<Runtime> {
    let workers = workers.unwrap_or_else(|| available_parallelism().map_or(1, NonZeroUsize::get));
    match workers {
        1 => Builder::new_current_thread().enable_all().build(),
        more => Builder::new_multi_thread().worker_threads(more).enable_all().build(),
    }
}

async fn serve(config: Config, mut sources: Sources, mut watch: Watch) -> ExitCode {
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = signals else {
        error!("signals_unavailable");
        return ExitCode::FAILURE;
    };
    let origin = config.origin.addresses.to_string();
    let (enabled, routes) = (config.cache.enabled, config.routes.len());
    let memory = config::octets(config.store.memory.bytes_max);
    let sockets = match inherited() {
        Ok(sockets) => sockets,
        Err(error) => {
            error!(%error, "start_failed");
            return ExitCode::FAILURE;
        }
    };
    let is_inherited = sockets.requests.is_some();
    let sidecar = match Sidecar::start_on(sockets, config, Clock::system()).await {
        Ok(sidecar) => sidecar,
        Err(error) => {
            error!(%error, "start_failed");
            return ExitCode::FAILURE;
        }
    };
    let file = sources.path().filter(|path| path.exists()).map(|path| path.display().to_string());
    let admin = sidecar.admin_address.map(|address| address.to_string());
    info!(
        version = env!("CARGO_PKG_VERSION"),
        file = file.as_deref().unwrap_or("none"),
        listen = %sidecar.address,
        admin = admin.as_deref().unwrap_or("off"),
        origin,
        routes,
        enabled,
        memory,
        is_inherited,
        "started"
    );
    let is_interrupted = loop {
        tokio::select! {
            is_interrupted = stopped(&mut terminate, &mut interrupt) => break is_interrupted,
            _ = hangup.recv() => {}
            () = watch.changed() => {}
        }
        sources.hold_on();
        reload(&sidecar, &sources, &mut watch).await;
    };
    info!("draining");
    let end = async {
        // Where somebody at a terminal stops it, there is no load balancer to wait for.
        if !is_interrupted {
            sidecar.leave().await;
        }
        sidecar.drain().await
    };
    tokio::select! {
        all_ended = end => {
            if all_ended {
                info!("stopped");
                return ExitCode::SUCCESS;
            }
            // Something in flight was cut, which whoever started us may want to know.
            warn!(left = sidecar.work_under_way(), "stopped_with_work_left");
            ExitCode::FAILURE
        }
        _ = stopped(&mut terminate, &mut interrupt) => {
            warn!(left = sidecar.work_under_way(), "stopped_at_once");
            ExitCode::FAILURE
        }
    }
}

/// Sockets that whoever started the process has given to it, as systemd does: the first is for requests, the second for operators.
fn inherited() -> io::Result<Sockets> {
    let mut given = ListenFd::from_env();
    Ok(Sockets { requests: given.take_tcp_listener(0)?, operators: given.take_tcp_listener(1)? })
}

/// Waits for a signal to stop. Says whether it was the one of somebody at a terminal.
async fn stopped(terminate: &mut Signal, interrupt: &mut Signal) -> bool {
    tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => true,
    }
}

/// The files that the configuration is read from, and those that it names.
fn files(sources: &Sources, config: &Config) -> Vec<PathBuf> {
    let files = [sources.path(), config.origin.ca_file.as_deref(), config.identity.jwks_file.as_deref()];
    let shown = config.origin.client_certificate.iter().flat_map(|shown| [Some(shown.certificate.as_path()), Some(&shown.key)]);
    let tls = [&config.server.tls, &config.admin_tls].into_iter().flatten();
    let tls = tls.flat_map(|files| [Some(files.certificate.as_path()), Some(&files.key), files.client_ca.as_deref()]);
    let tokens = config.admin.tokens.iter().map(|token| token.file.as_deref());
    files.into_iter().chain(tokens).chain(tls).chain(shown).flatten().map(Path::to_path_buf).collect()
}

/// Reads the sources anew, and goes on under what they say; or says all that is wrong with it, and goes on as before.
async fn reload(sidecar: &Sidecar, sources: &Sources, watch: &mut Watch) {
    watch.look().await;
    let read = {
        let sources = sources.clone();
        tokio::task::spawn_blocking(move || config::load(&sources)).await
    };
    let Ok(loaded) = read else { return };
    let wrong = match loaded {
        Ok(config) => {
            let (routes, enabled) = (config.routes.len(), config.cache.enabled);
            watch.follow(files(sources, &config));
            match sidecar.reload(config) {
                Ok(waiting) => {
                    sidecar.stats().reloads_done.inc();
                    match waiting.is_empty() {
                        true => info!(routes, enabled, "reloaded"),
                        false => warn!(routes, enabled, needs_restart = waiting.join(", "), "reloaded"),
                    }
                    return;
                }
                Err(error) => {
                    error!(problem = %error, "configuration_wrong");
                    1
                }
            }
        }
        Err(problems) => {
            for problem in problems.iter() {
                error!(at = problem.at, key = problem.key, problem = problem.message, "configuration_wrong");
            }
            problems.count()
        }
    };
    sidecar.stats().reloads_refused.inc();
    error!(problems = wrong, "reload_refused");
}
