//! The service behind us: connections to it, their limits, and what can go wrong with them.
//!
//! | file | what |
//! |---|---|
//! | `address` | where it is |
//! | `connect` | TCP, TLS and Unix sockets |
//! | `body` | bodies in both directions, with their idle times |
//!
//! The address comes from the configuration alone: nothing that a client sends decides where a connection goes.

mod address;
mod body;
mod connect;

pub use address::{Address, AddressError};
pub use body::{BodyError, RequestBody, ResponseBody};

use crate::stats::Stats;
use body::Upload;
use connect::{Connector, Uses};
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The origin.
pub struct Origin {
    client: legacy::Client<Connector, RequestBody>,
    scheme: Scheme,
    authority: Authority,
    options: Options,
    places: Arc<Semaphore>,
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
        source: legacy::Error,
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
    pub address: Address,
    /// Prior-knowledge HTTP/2 to an `http:` or `unix:` origin; https negotiates by itself.
    pub http2: bool,
    /// A PEM file of further certificate authorities for https.
    pub ca_file: Option<PathBuf>,
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

impl Default for Options {
    fn default() -> Options {
        Options {
            address: Address::default(),
            http2: false,
            ca_file: None,
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

impl Options {
    /// Whether HTTP/2 is spoken without having been agreed on, as it is with https.
    fn speaks_http2_unasked(&self) -> bool {
        self.http2 && !matches!(self.address, Address::Https(_))
    }
}

impl Origin {
    /// Prepares to reach the origin; connects when there is a request.
    pub fn new(options: Options, stats: Arc<Stats>) -> io::Result<Origin> {
        let connector = Connector::new(&options)?;
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.idle_timeout)
            .pool_max_idle_per_host(options.idle_connections_max)
            .http1_max_headers(options.header_fields_max)
            .http1_max_buf_size(options.header_bytes_max.max(HTTP1_BUFFER_MIN))
            .http2_max_header_list_size(u32::try_from(options.header_bytes_max).unwrap_or(u32::MAX))
            .http2_adaptive_window(true)
            // A connection that died without a word is found out before a request has to wait for it.
            .http2_keep_alive_interval(HTTP2_PING_EVERY)
            .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .http2_only(options.speaks_http2_unasked())
            // The field is set here, from the request that came.
            .set_host(false);
        let is_https = matches!(options.address, Address::Https(_));
        Ok(Origin {
            client: builder.build(connector),
            scheme: if is_https { Scheme::HTTPS } else { Scheme::HTTP },
            authority: options.address.authority(),
            places: Arc::new(Semaphore::new(options.requests_max)),
            queued: AtomicUsize::new(0),
            options,
            stats,
        })
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.options.address
    }

    /// How it is reached.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Sends a request and waits for the response's head.
    ///
    /// The target is in origin form; `Host` is among the fields or becomes the origin's own. A request whose body is at hand
    /// and whose pooled connection turned out dead is sent once more. Who hears interim responses is said in the request's
    /// extensions, where hyper looks for it ([`hyper::ext::on_informational`]).
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<ResponseBody>, OriginError> {
        let place = self.place().await.inspect_err(|_| self.stats.origin.refused.inc())?;
        let in_flight = InFlight::new(&self.stats);
        let (mut parts, body) = request.into_parts();
        self.address_to_origin(&mut parts);
        let again = body.again().filter(|_| is_idempotent(&parts.method)).map(|body| (parts.clone(), body));

        let mut sent = self.send_once(parts, body).await;
        if let (Err((OriginError::Closed { .. }, true)), Some((parts, body))) = (&sent, again) {
            self.stats.origin.retried.inc();
            sent = self.send_once(parts, body).await;
        }
        match sent {
            Ok(response) => {
                self.stats.origin.answered.inc();
                let idle = self.options.body_idle_timeout;
                let is_http2 = response.version() == Version::HTTP_2;
                Ok(response.map(|body| ResponseBody::new(body, is_http2, idle, (place, in_flight))))
            }
            Err((error, _)) => {
                self.stats.origin.failed.inc();
                Err(error)
            }
        }
    }

    /// Sends a request once; an error says also whether the connection had been used before.
    async fn send_once(
        &self,
        parts: http::request::Parts,
        body: RequestBody,
    ) -> Result<Response<hyper::body::Incoming>, (OriginError, bool)> {
        let upload = body.upload();
        let answer = self.client.request(Request::from_parts(parts, body));
        let limits = (self.options.body_idle_timeout, self.options.first_byte_timeout);
        let answered = tokio::select! {
            biased;
            answered = answer => answered,
            is_sent = overdue(&upload, limits) => return Err((match is_sent {
                true => OriginError::FirstByteTimeout { limit: limits.1 },
                false => OriginError::UploadTimeout { limit: limits.0 },
            }, false)),
        };
        let mut response = answered.map_err(|error| self.explain(error, &upload))?;
        if let Some(uses) = response.extensions_mut().remove::<Uses>() {
            uses.count();
        }
        Ok(response)
    }

    /// Makes the target absolute, which tells the client where its connections are, and sees to `Host`.
    fn address_to_origin(&self, parts: &mut http::request::Parts) {
        parts.version = if self.options.speaks_http2_unasked() { Version::HTTP_2 } else { Version::HTTP_11 };
        let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let host = parts.headers.get(HOST).cloned();
        // In HTTP/2 the authority is the host (RFC 9113 §8.3.1); in HTTP/1.1 it only names the pool.
        let authority = match (&host, self.options.http2) {
            (Some(host), true) => {
                parts.headers.remove(HOST);
                Authority::from_maybe_shared(host.clone()).unwrap_or_else(|_| self.authority.clone())
            }
            _ => self.authority.clone(),
        };
        if host.is_none() && !self.options.http2 {
            let own = HeaderValue::from_str(self.authority.as_str()).expect("an authority is made of visible ASCII");
            parts.headers.insert(HOST, own);
        }
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(authority);
        uri.path_and_query = Some(target);
        parts.uri = Uri::from_parts(uri).expect("scheme, authority and path make a URI");
    }

    fn explain(&self, error: legacy::Error, upload: &Upload) -> (OriginError, bool) {
        if let Some(is_idle) = upload.failure() {
            return (OriginError::ClientBody { is_idle }, false);
        }
        let address = self.options.address.clone();
        if error.is_connect() {
            let timed_out = connect::is_timeout(&error);
            let limit = self.options.connect_timeout;
            return (
                match timed_out {
                    true => OriginError::ConnectTimeout { address, limit },
                    false => OriginError::Connect { address, source: Box::new(error) },
                },
                false,
            );
        }
        let was_used = error.connect_info().is_some_and(connect::was_used);
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<hyper::Error>());
        match cause.is_some_and(|cause| cause.is_parse() || cause.is_parse_too_large()) {
            true => (OriginError::Invalid { source: error }, was_used),
            false => (OriginError::Closed { source: error }, was_used),
        }
    }

    /// Takes a place among the requests under way, or waits for one in a queue that has an end.
    async fn place(&self) -> Result<OwnedSemaphorePermit, OriginError> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let busy = OriginError::Busy { limit: self.options.requests_max };
        let _queued = match self.queued.fetch_add(1, Ordering::Relaxed) {
            before if before < self.options.queue_max => Queued(&self.queued),
            _ => {
                self.queued.fetch_sub(1, Ordering::Relaxed);
                return Err(busy);
            }
        };
        match tokio::time::timeout(self.options.queue_timeout, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(busy),
        }
    }
}

/// Ends when a response is overdue: `true` after the whole request was sent, `false` while its body is not being taken.
async fn overdue(upload: &Upload, (body_idle, first_byte): (Duration, Duration)) -> bool {
    while !upload.is_done() {
        let seen = upload.frames();
        tokio::select! {
            () = upload.done() => {}
            () = tokio::time::sleep(body_idle) => {
                if upload.frames() == seen && !upload.waits_for_client() {
                    return false;
                }
            }
        }
    }
    tokio::time::sleep(first_byte).await;
    true
}

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

/// How often an HTTP/2 origin is asked whether it is still there, and how long it has to say so.
const HTTP2_PING_EVERY: Duration = Duration::from_secs(10);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(5);

/// hyper's smallest buffer.
const HTTP1_BUFFER_MIN: usize = 8192;
