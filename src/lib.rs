//! A caching reverse proxy that runs as a sidecar before an HTTP backend.
//!
//! The floors, from the bottom: [`semantics`]; [`rules`], [`clock`], [`stats`], [`tasks`]; [`store`], [`origin`]; [`flow`];
//! [`server`], [`admin`]; [`config`]; [`cli`]. A module uses those on lower floors alone; here they are put together.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod flow;
pub mod origin;
pub mod rules;
pub mod semantics;
pub mod server;
pub mod stats;
pub mod store;
pub mod tasks;

use admin::{Admin, Front};
use clock::Clock;
use config::Config;
use flow::Proxy;
use origin::Origin;
use rules::{RuleSet, Secret};
use server::Listener;
use stats::Stats;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tasks::Tasks;

/// A running sidecar.
pub struct Sidecar {
    /// Where it answers requests.
    pub address: SocketAddr,
    /// Where operators look, if anywhere.
    pub admin_address: Option<SocketAddr>,
    proxy: Arc<Proxy>,
    tasks: Tasks,
    drain_wait: Duration,
    drain_timeout: Duration,
}

/// Why a sidecar cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {purpose}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What it is for.
        purpose: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The origin cannot be prepared for: its certificate authorities, say.
    #[error("cannot prepare connections to the origin: {0}")]
    Origin(io::Error),
}

impl Sidecar {
    /// Starts a sidecar within the present runtime.
    pub async fn start(config: Config, clock: Clock) -> Result<Sidecar, StartError> {
        let Config { server, origin, cache, store, admin, log, routes } = config;
        let client_idle_timeout = server.body_idle_timeout;
        let cache = flow::Options { client_idle_timeout, access_log: log.access, ..cache };
        let listen = |options: server::Options, purpose| {
            let address = options.listen;
            Listener::bind(options).map_err(|source| StartError::Listen { address, purpose, source })
        };
        let (drain_wait, drain_timeout) = (server.drain_wait, server.drain_timeout);
        let listener = listen(server.clone(), "requests")?;
        let admin_listener = match admin.listen {
            Some(address) => Some(listen(server::Options { listen: address, ..server }, "operators")?),
            None => None,
        };

        let tasks = Tasks::default();
        let stats = Arc::new(Stats::new(routes.iter().map(|route| route.name.as_str())));
        let rules = RuleSet::new(routes).expect("the configuration was checked for conflicts");
        let secret = cache.secret.as_deref().map_or_else(Secret::random, Secret::from_passphrase);
        let store = Store::open(store, stats.clone(), tasks.clone(), clock.clone());
        let origin = Origin::new(origin, stats.clone()).map_err(StartError::Origin)?;
        let proxy = Proxy::new(rules.with_secret(secret), store, origin, stats.clone(), tasks.clone(), clock, cache);

        let endpoints = Admin::new(proxy.clone(), tasks.clone(), &admin);
        let front = Front::new(proxy.clone(), endpoints.clone(), admin.on_proxy_port);
        let unbound =
            |purpose| move |source| StartError::Listen { address: SocketAddr::from(([0, 0, 0, 0], 0)), purpose, source };
        let address = listener.address().map_err(unbound("requests"))?;
        tokio::spawn(listener.serve(front, stats.clone(), tasks.clone()));
        let mut admin_address = None;
        if let Some(listener) = admin_listener {
            admin_address = Some(listener.address().map_err(unbound("operators"))?);
            // It answers while the proxy drains: `/readyz` then says why it takes no more.
            tokio::spawn(listener.serve(endpoints, stats, tasks.to_the_last()));
        }
        Ok(Sidecar { address, admin_address, proxy, tasks, drain_wait, drain_timeout })
    }

    /// What answers the requests.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// Pieces of work under way: connections, fetches, writes to Redis.
    pub fn work_under_way(&self) -> usize {
        self.tasks.under_way()
    }

    /// Ends: becomes unready, waits for load balancers to notice, takes no more connections, lets what is in flight end.
    /// Says whether all of it ended in time.
    pub async fn drain(&self) -> bool {
        self.tasks.leave();
        tokio::time::sleep(self.drain_wait).await;
        let all_ended = self.tasks.drain(self.drain_timeout).await;
        self.proxy.store().leave().await;
        all_ended
    }
}
