//! The service behind us: connections to it, their limits, and what can go wrong with them.
//!
//! | file | what |
//! |---|---|
//! | `address` | where it is: one address, or several of the same service |
//! | `site` | one of its addresses: the connections to it, and a request sent there once |
//! | `choice`, `health` | which address a request goes to; which ones are left alone for a while. Pure |
//! | `retries` | how many requests may be sent once more. Pure, but for an atomic |
//! | `connect`, `tls` | TCP, TLS and Unix sockets; whom to trust, and what to show |
//! | `head` | response heads that can be read in two ways |
//! | `body` | bodies in both directions, with their idle times |
//!
//! The addresses come from the configuration alone: nothing that a client sends decides where a connection goes.

mod address;
mod body;
mod choice;
mod connect;
mod head;
mod health;
mod lines;
mod retries;
mod site;
pub mod tls;

pub use address::{Address, AddressError, Addresses};
pub use body::{BodyError, RequestBody, ResponseBody};
#[doc(hidden)]
pub use lines::believed;
pub use tls::ClientCertificate;

use crate::stats::Stats;
use health::Standing;
use http::{Method, Request, Response, Version};
use hyper_util::client::legacy;
use retries::Retries;
use site::{How, Pool, Site, Visit};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// The origin.
pub struct Origin {
    sites: Vec<Arc<Site>>,
    /// Whose turn it is among addresses with as many requests under way.
    turn: AtomicUsize,
    retries: Retries,
    options: Options,
    places: Arc<Semaphore>,
    /// Places for requests whose bodies clients send meanwhile: not all, so that slow ones keep nobody else from being answered.
    uploads: Arc<Semaphore>,
    queued: AtomicUsize,
    stats: Arc<Stats>,
}

/// Why the origin gave no response.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// No connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: Address,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Connecting took too long.
    #[error("no connection to {address} within {limit:?}")]
    ConnectTimeout {
        /// Where to.
        address: Address,
        /// The limit.
        limit: Duration,
    },
    /// The response's head did not come in time.
    #[error("no response within {limit:?}")]
    FirstByteTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The request's body was not taken in time.
    #[error("the request's body was not taken for {limit:?}")]
    UploadTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The connection ended before the response's head.
    #[error("the connection closed before a response")]
    Closed {
        /// How it ended.
        #[source]
        source: legacy::Error,
    },
    /// What came is not HTTP, or more of it than is allowed.
    #[error("the response is invalid")]
    Invalid {
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was to complete a stored part broke off, or was something else than it said.
    #[error("the rest of a stored part did not come")]
    Incomplete,
    /// The client did not send its request's body to the end.
    #[error("the client's request body ended early")]
    ClientBody {
        /// Whether it was silent for too long, rather than gone.
        is_idle: bool,
    },
    /// All places are taken, and the queue too, or no place came free in time.
    #[error("{limit} requests are under way")]
    Busy {
        /// How many are allowed.
        limit: usize,
    },
}

/// How the origin is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where it is.
    pub addresses: Addresses,
    /// Prior-knowledge HTTP/2 to an `http:` or `unix:` origin; https negotiates by itself.
    pub http2: bool,
    /// A PEM file of further certificate authorities for https.
    pub ca_file: Option<PathBuf>,
    /// What is shown to an https origin that asks for a certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// From the request's last octet to the response's head.
    pub first_byte_timeout: Duration,
    /// How long the origin may send nothing of a body, or take nothing of a request's.
    pub body_idle_timeout: Duration,
    /// How long a bridged connection (WebSocket) may be silent in both directions.
    pub tunnel_idle_timeout: Duration,
    /// Requests at once; more queue.
    pub requests_max: usize,
    /// How long a request may queue before it is answered 503.
    pub queue_timeout: Duration,
    /// Requests that may queue; more are answered 503 at once.
    pub queue_max: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Idle connections that are kept.
    pub idle_connections_max: usize,
    /// Fields in a response's head.
    pub header_fields_max: usize,
    /// Octets in a response's head.
    pub header_bytes_max: usize,
}

impl Options {
    /// Whether connections depend on what is in files, which may change under their names.
    pub fn reads_files(&self) -> bool {
        self.ca_file.is_some() || self.client_certificate.is_some()
    }

    /// How many connections there may be at once: those with a request, and idle ones.
    pub fn connections_max(&self) -> usize {
        self.requests_max.saturating_add(self.idle_connections_max.saturating_mul(self.pools()))
    }

    /// How many pools there are of idle connections.
    pub fn pools(&self) -> usize {
        self.addresses.iter().count() * site::POOLS
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            addresses: Addresses::default(),
            http2: false,
            ca_file: None,
            client_certificate: None,
            connect_timeout: Duration::from_secs(2),
            first_byte_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(60),
            tunnel_idle_timeout: Duration::from_secs(3600),
            requests_max: 256,
            queue_timeout: Duration::from_secs(5),
            queue_max: 1024,
            idle_timeout: Duration::from_secs(30),
            idle_connections_max: 64,
            header_fields_max: 200,
            header_bytes_max: 64 << 10,
        }
    }
}

impl OriginError {
    /// What lies behind it, from the nearest cause to the last.
    pub fn causes(&self) -> String {
        let mut causes = Vec::new();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        causes.join(": ")
    }
}

impl Origin {
    /// Prepares to reach the origin; connects when there is a request.
    pub fn new(options: Options, stats: Arc<Stats>) -> io::Result<Origin> {
        let sites = options.addresses.iter().map(|address| Site::new(address, &options).map(Arc::new));
        Ok(Origin {
            sites: sites.collect::<io::Result<_>>()?,
            turn: AtomicUsize::new(0),
            // All that can die at once: what is idle, or what is under way.
            retries: Retries::new(options.idle_connections_max.max(options.requests_max)),
            places: Arc::new(Semaphore::new(options.requests_max)),
            uploads: Arc::new(Semaphore::new((options.requests_max * 3 / 4).max(1))),
            queued: AtomicUsize::new(0),
            options,
            stats,
        })
    }

    /// How it is reached.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Its addresses, and whether each of them is well: one that is not is left alone for a while, if there is another.
    pub fn addresses(&self) -> impl Iterator<Item = (&Address, bool)> {
        self.sites.iter().map(|site| (site.address(), site.is_well()))
    }

    /// Sends a request and waits for the response's head.
    ///
    /// The target is in origin form; `Host` is among the fields or becomes the origin's own. A request whose body is at hand
    /// and whose pooled connection turned out dead is sent once more, on a new connection; one whose connection did not come about
    /// goes to another address, if there is one. Who hears interim responses is said in the request's extensions, where hyper
    /// looks for it ([`hyper::ext::on_informational`]).
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<ResponseBody>, OriginError> {
        let place = self.place(!request.body().is_at_hand()).await.inspect_err(|_| self.stats.origin.refused.inc())?;
        let in_flight = InFlight::new(&self.stats);
        let (parts, body) = request.into_parts();
        let may_be_repeated = is_idempotent(&parts.method) && body.is_at_hand();
        let mut retry = if may_be_repeated { self.retries.set_aside() } else { None };
        let pool = match (may_be_repeated, &retry) {
            (true, Some(_)) => Pool::All,
            (true, None) => Pool::None,
            (false, _) => Pool::Recent,
        };
        // What a second attempt needs, if there may be one.
        let kept = (retry.is_some() || self.sites.len() > 1).then(|| (parts.clone(), body.again(), body.upload()));

        let mut visit = self.visit();
        let mut sent = visit.send(parts, body, pool).await;
        if let (Err((_, how)), Some((parts, again, upload))) = (&sent, kept) {
            let next = match (how, retry.take()) {
                (How::Unsent, _) => self.visit_other(&visit).inspect(|_| self.stats.origin.rerouted.inc()),
                (How::DiedIdle, Some(retry)) => {
                    retry.spend();
                    self.stats.origin.retried.inc();
                    Some(self.visit_other(&visit).filter(Visit::is_to_a_well_one).unwrap_or_else(|| visit.again()))
                }
                _ => None,
            };
            if let (Some(next), Some(body)) = (next, again.or_else(|| upload.given_back())) {
                visit = next;
                sent = visit.send(parts, body, Pool::None).await;
            }
        }
        match sent {
            Ok(response) => {
                self.stats.origin.answered.inc();
                let idle = self.options.body_idle_timeout;
                let is_http2 = response.version() == Version::HTTP_2;
                Ok(response.map(|body| ResponseBody::new(body, is_http2, idle, (place, in_flight, visit))))
            }
            Err((error, _)) => {
                self.stats.origin.failed.inc();
                Err(error)
            }
        }
    }

    /// Chooses the address for a request.
    fn visit(&self) -> Visit {
        if let [only] = &self.sites[..] {
            return Visit::to_the_only(only);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        loop {
            let now = Instant::now();
            let (chosen, standing) = choice::choose(self.sites.len(), turn, |index| self.sites[index].candidate(now));
            let site = &self.sites[chosen];
            match standing {
                Standing::Well | Standing::Unwell => return Visit::to(site),
                // Another request may have begun the trial; then this one looks again.
                Standing::Due => match Visit::as_trial(site, now) {
                    Some(trial) => return trial,
                    None => continue,
                },
            }
        }
    }

    /// Chooses another address than the one that was visited, if there is one.
    fn visit_other(&self, visited: &Visit) -> Option<Visit> {
        let first = self.sites.iter().position(|site| visited.is_to(site))?;
        let (turn, now) = (self.turn.fetch_add(1, Ordering::Relaxed), Instant::now());
        let other = choice::choose_other(self.sites.len(), turn, first, |index| self.sites[index].candidate(now))?;
        Some(Visit::to(&self.sites[other]))
    }

    /// Takes a place among the requests under way, or waits for one in a queue that has an end.
    async fn place(&self, is_upload: bool) -> Result<Place, OriginError> {
        let upload = match is_upload {
            true => Some(self.uploads.clone().try_acquire_owned()),
            false => None,
        };
        if let (None | Some(Ok(_)), Ok(place)) = (&upload, self.places.clone().try_acquire_owned()) {
            return Ok((place, upload.and_then(Result::ok)));
        }
        let busy = OriginError::Busy { limit: self.options.requests_max };
        let _queued = match self.queued.fetch_add(1, Ordering::Relaxed) {
            before if before < self.options.queue_max => Queued(&self.queued),
            _ => {
                self.queued.fetch_sub(1, Ordering::Relaxed);
                return Err(busy);
            }
        };
        let both = async {
            let upload = match upload {
                Some(Err(_)) => Some(self.uploads.clone().acquire_owned().await?),
                taken => taken.and_then(Result::ok),
            };
            Ok::<Place, AcquireError>((self.places.clone().acquire_owned().await?, upload))
        };
        match tokio::time::timeout(self.options.queue_timeout, both).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(busy),
        }
    }
}

/// A place among the requests under way; and one among those with uploads, for a request that has one.
type Place = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// RFC 9110 §9.2.2, RFC 10008 §2: sent twice, these mean the same as sent once.
fn is_idempotent(method: &Method) -> bool {
    method.as_str() == "QUERY"
        || matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

/// A request in the queue; leaves it when dropped.
struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request under way in the gauge; leaves it when dropped.
struct InFlight(prometheus::IntGauge);

impl InFlight {
    fn new(stats: &Stats) -> InFlight {
        stats.origin.in_flight.inc();
        InFlight(stats.origin.in_flight.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
