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
use arc_swap::ArcSwap;
use clock::Clock;
use config::Config;
use flow::Proxy;
use origin::Origin;
use rules::{RuleSet, Secret, Verifier};
use server::{Acceptor, Listener, Terms, TlsError, TlsFiles};
use stats::Stats;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use store::Store;
use tasks::Tasks;
use tracing::warn;

/// A running sidecar.
pub struct Sidecar {
    /// Where it answers requests.
    pub address: SocketAddr,
    /// Where operators look, if anywhere.
    pub admin_address: Option<SocketAddr>,
    lasting: Lasting,
    /// What answers requests; a reload puts another one in its place.
    front: Arc<ArcSwap<Front>>,
    admin: Arc<ArcSwap<Admin>>,
    /// How the listeners treat their clients: those for requests and for operators.
    terms: (Terms, Option<Terms>),
    /// What is in force.
    config: Mutex<Config>,
}

/// Sockets that listen already. They belong to whoever started the process, so that connections wait in them from one process to the
/// next.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The one for requests.
    pub requests: Option<std::net::TcpListener>,
    /// The one for operators.
    pub operators: Option<std::net::TcpListener>,
}

/// What goes on under another configuration.
struct Lasting {
    store: Arc<Store>,
    stats: Arc<Stats>,
    tasks: Tasks,
    clock: Clock,
    /// Keys the hash of credentials where the configuration names no secret.
    secret: Secret,
}

/// Why a sidecar cannot start, or not go on under another configuration.
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
    /// A certificate or key of a listener is of no use.
    #[error("{section} {source}")]
    Tls {
        /// The section of the configuration.
        section: &'static str,
        /// The file, and what is wrong with it.
        source: TlsError,
    },
    /// The origin cannot be prepared for: its certificate authorities, say.
    #[error("[origin]: cannot prepare connections to the origin: {0}")]
    Origin(io::Error),
    /// A certificate or key for Redis is of no use; says which, and why.
    #[error("{0}")]
    Redis(String),
    /// The keys of tokens cannot be read.
    #[error("cannot read the keys of [identity] jwks_file: {0}")]
    Keys(io::Error),
}

impl Sidecar {
    /// Starts a sidecar within the present runtime.
    pub async fn start(config: Config, clock: Clock) -> Result<Sidecar, StartError> {
        Sidecar::start_on(Sockets::default(), config, clock).await
    }

    /// Starts a sidecar that takes these sockets, instead of binding its own.
    pub async fn start_on(sockets: Sockets, mut config: Config, clock: Clock) -> Result<Sidecar, StartError> {
        fit(&mut config);
        let (acceptor, admin_acceptor) = acceptors(&config)?;
        let listener = listen(sockets.requests, config.server.clone(), acceptor, "requests")?;
        let admin_listener = match config.admin.listen {
            Some(address) => {
                let options = config.server.for_operators(address, config.admin_tls.clone());
                Some(listen(sockets.operators, options, admin_acceptor, "operators")?)
            }
            None => None,
        };
        let (tasks, stats) = (Tasks::default(), Arc::new(Stats::new()));
        config.store.check_files().map_err(StartError::Redis)?;
        let store = Store::open(config.store.clone(), stats.clone(), tasks.clone(), clock.clone());
        let origin = Origin::new(config.origin.clone(), stats.clone()).map_err(StartError::Origin)?;
        let lasting = Lasting { store, stats, tasks, clock, secret: Secret::random() };

        let (front, admin) = lasting.answering(&config, Arc::new(origin))?;
        let (front, admin) = (Arc::new(ArcSwap::new(front)), Arc::new(ArcSwap::new(admin)));
        let (tasks, stats) = (&lasting.tasks, &lasting.stats);
        let address = bound(&listener, "requests")?;
        let mut terms = (listener.terms(), None);
        tasks.spawn_accepting(listener.serve(front.clone(), stats.clone(), tasks.clone()));
        let mut admin_address = None;
        if let Some(listener) = admin_listener {
            admin_address = Some(bound(&listener, "operators")?);
            terms.1 = Some(listener.terms());
            // It answers while the proxy drains: `/readyz` then says why it takes no more.
            tokio::spawn(listener.serve(admin.clone(), stats.clone(), tasks.to_the_last()));
        }
        Ok(Sidecar { address, admin_address, lasting, front, admin, terms, config: Mutex::new(config) })
    }

    /// Goes on under another configuration, and names the keys that have to wait for the next start. Every request is answered under
    /// the one that was in force when it came; after an error, nothing has changed.
    pub fn reload(&self, mut config: Config) -> Result<Vec<&'static str>, StartError> {
        let mut running = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let fixed = config::keep_fixed(&running, &mut config);
        fit(&mut config);
        // What is in a file may have changed under its name.
        let (acceptor, admin_acceptor) = acceptors(&config)?;
        // Its connections go on too, unless they are to be made otherwise.
        let origin = match config.origin == running.origin && !config.origin.reads_files() {
            true => self.proxy().origin().clone(),
            false => Arc::new(Origin::new(config.origin.clone(), self.lasting.stats.clone()).map_err(StartError::Origin)?),
        };
        let (front, admin) = self.lasting.answering(&config, origin)?;
        self.lasting.store.adopt(&config.store);
        self.terms.0.adopt(config.server.clone(), acceptor, &self.lasting.tasks);
        if let (Some(terms), Some(address)) = (&self.terms.1, config.admin.listen) {
            let options = config.server.for_operators(address, config.admin_tls.clone());
            terms.adopt(options, admin_acceptor, &self.lasting.tasks);
        }
        self.front.store(front);
        self.admin.store(admin);
        *running = config;
        Ok(fixed)
    }

    /// What answers the requests that come now.
    pub fn proxy(&self) -> Arc<Proxy> {
        self.front.load().proxy().clone()
    }

    /// What is counted.
    pub fn stats(&self) -> &Stats {
        &self.lasting.stats
    }

    /// Pieces of work under way: connections, fetches, writes to Redis.
    pub fn work_under_way(&self) -> usize {
        self.lasting.tasks.under_way()
    }

    /// Becomes unready, and goes on taking requests for as long as load balancers may need to notice. Each response says that its
    /// connection is to be used no more.
    pub async fn leave(&self) {
        let wait = self.config.lock().unwrap_or_else(PoisonError::into_inner).server.drain_wait;
        self.lasting.tasks.leave();
        tokio::time::sleep(wait).await;
    }

    /// Ends: takes no more connections, lets what is in flight end. Says whether all of it ended in time.
    pub async fn drain(&self) -> bool {
        let limit = self.config.lock().unwrap_or_else(PoisonError::into_inner).server.drain_timeout;
        let all_ended = self.lasting.tasks.drain(limit).await;
        self.lasting.store.leave().await;
        all_ended
    }
}

impl Lasting {
    /// What answers requests and operators under a configuration.
    fn answering(&self, config: &Config, origin: Arc<Origin>) -> Result<(Arc<Front>, Arc<Admin>), StartError> {
        let Lasting { store, stats, tasks, clock, secret } = self;
        let rules = RuleSet::new(config.routes.clone()).expect("the configuration was checked for conflicts");
        let secret = config.cache.secret.as_deref().map_or_else(|| secret.clone(), Secret::from_passphrase);
        let options = flow::Options {
            client_idle_timeout: config.server.body_idle_timeout,
            access_log: config.log.access,
            ..config.cache.clone()
        };
        let verifier = verifier(config, clock).map_err(StartError::Keys)?.map(Arc::new);
        let rules = rules.with_secret(secret).with_tag_fields(&config.cache.tag_fields).with_verifier(verifier);
        let proxy = Proxy::new(rules, store.clone(), origin, stats.clone(), tasks.clone(), clock.clone(), options);
        let admin = Admin::new(proxy.clone(), tasks.clone(), &config.admin);
        Ok((Front::new(proxy, admin.clone()), admin))
    }
}

/// What verifies tokens, if there are keys for them.
fn verifier(config: &Config, clock: &Clock) -> io::Result<Option<Verifier>> {
    let Some(file) = &config.identity.jwks_file else { return Ok(None) };
    let clock = clock.clone();
    let verifier = Verifier::new(&std::fs::read(file)?, config.identity.clone(), move || clock.now());
    verifier.map(Some).map_err(io::Error::other)
}

/// Keeps what may be open at once below what the process may have.
fn fit(config: &mut Config) {
    if let Some(scarce) = server::descriptors::fit(&mut config.server, &mut config.origin) {
        let server::descriptors::Scarce { limit, connections_max, requests_max } = scarce;
        warn!(limit, connections_max, requests_max, "descriptors_scarce");
    }
}

/// Reads the certificates and keys of both listeners, that of requests first.
fn acceptors(config: &Config) -> Result<(Option<Acceptor>, Option<Acceptor>), StartError> {
    Ok((acceptor(&config.server.tls, "[server.tls]")?, acceptor(&config.admin_tls, "[admin.tls]")?))
}

fn acceptor(files: &Option<TlsFiles>, section: &'static str) -> Result<Option<Acceptor>, StartError> {
    let loaded = files.as_ref().map(Acceptor::load).transpose();
    loaded.map_err(|source| StartError::Tls { section, source })
}

/// All that is wrong with the files that a configuration names: certificates, keys, authorities.
pub fn unusable_files(config: &Config) -> Vec<StartError> {
    let origin = Origin::new(config.origin.clone(), Arc::new(Stats::new())).map_err(StartError::Origin);
    let redis = config.store.check_files().map_err(StartError::Redis);
    let keys = verifier(config, &Clock::system()).map_err(StartError::Keys);
    let listeners = [acceptor(&config.server.tls, "[server.tls]"), acceptor(&config.admin_tls, "[admin.tls]")];
    let listeners = listeners.into_iter().filter_map(Result::err);
    origin.err().into_iter().chain(redis.err()).chain(listeners).chain(keys.err()).collect()
}

fn listen(
    socket: Option<std::net::TcpListener>,
    options: server::Options,
    acceptor: Option<Acceptor>,
    purpose: &'static str,
) -> Result<Listener, StartError> {
    let address = options.listen;
    let listener = match socket {
        Some(socket) => Listener::inherit(socket, options, acceptor),
        None => Listener::bind(options, acceptor),
    };
    listener.map_err(|source| StartError::Listen { address, purpose, source })
}

/// Where it listens, with the port that the system chose where the configuration says 0.
fn bound(listener: &Listener, purpose: &'static str) -> Result<SocketAddr, StartError> {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    listener.address().map_err(|source| StartError::Listen { address: nowhere, purpose, source })
}
