//! `serve`: run the proxy until it is told to stop.

use super::log;
use crate::Sidecar;
use crate::clock::Clock;
use crate::config::Config;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread::available_parallelism;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// Runs the proxy.
pub(super) fn run(config: Config) -> ExitCode {
    log::start(&config.log);
    match runtime(config.server.workers) {
        Ok(runtime) => runtime.block_on(serve(config)),
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

async fn serve(config: Config) -> ExitCode {
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt)] = signals else {
        error!("signals_unavailable");
        return ExitCode::FAILURE;
    };
    let origin = config.origin.address.to_string();
    let (enabled, routes) = (config.cache.enabled, config.routes.len());
    let sidecar = match Sidecar::start(config, Clock::system()).await {
        Ok(sidecar) => sidecar,
        Err(error) => {
            error!(%error, "start_failed");
            return ExitCode::FAILURE;
        }
    };
    let admin = sidecar.admin_address.map(|address| address.to_string());
    info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %sidecar.address,
        admin = admin.as_deref().unwrap_or("off"),
        origin,
        routes,
        enabled,
        "started"
    );
    stopped(&mut terminate, &mut interrupt).await;
    info!("draining");
    tokio::select! {
        all_ended = sidecar.drain() => {
            if all_ended {
                info!("stopped");
                return ExitCode::SUCCESS;
            }
            // Something in flight was cut, which whoever started us may want to know.
            warn!(left = sidecar.work_under_way(), "stopped_with_work_left");
            ExitCode::FAILURE
        }
        () = stopped(&mut terminate, &mut interrupt) => {
            warn!(left = sidecar.work_under_way(), "stopped_at_once");
            ExitCode::FAILURE
        }
    }
}

async fn stopped(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
