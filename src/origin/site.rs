//! One of the origin's addresses: the connections to it, and a request sent there once.

use super::body::Upload;
use super::choice::Candidate;
use super::connect::{self, Connector, Past};
use super::head;
use super::health::{Health, Standing};
use super::{Address, Options, OriginError, RequestBody};
use http::header::{CONNECTION, HOST, TE, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// An address of the origin.
pub(super) struct Site {
    address: Address,
    scheme: Scheme,
    authority: Authority,
    limits: Limits,
    /// HTTP/2 may be spoken.
    http2: bool,
    connector: Connector,
    pooled: Client,
    recent: Option<Client>,
    unpooled: Client,
    /// Requests until the end of their response's body; counted where there is another address to choose.
    under_way: AtomicUsize,
    health: Mutex<Health>,
    /// Whether there is anything in `health` that a success would change, so that most requests need not look.
    is_troubled: AtomicBool,
}

/// From which connections a request may be given one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    /// Any idle one: should it be dead, the request can be sent once more.
    All,
    /// One that was idle for so short a time that the origin will not be closing it: the request cannot be sent twice.
    Recent,
    /// A new one.
    None,
}

/// A request at an address; leaves it when dropped.
pub(super) struct Visit {
    site: Arc<Site>,
    is_counted: bool,
    is_trial: bool,
}

/// How far a request got that was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Nothing of it was sent.
    Unsent,
    /// It was given a connection that had been idle, and that turned out dead.
    DiedIdle,
    /// The origin may have begun to do what it asks.
    Sent,
}

type Client = legacy::Client<Connector, RequestBody>;

struct Limits {
    connect: Duration,
    first_byte: Duration,
    body_idle: Duration,
}

impl Site {
    pub(super) fn new(address: &Address, options: &Options) -> io::Result<Site> {
        let connector = Connector::new(address, options)?;
        let is_https = matches!(address, Address::Https(_));
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
            .http2_only(connector.speaks_http2_unasked())
            // The field is set here, from the request that came.
            .set_host(false);
        let pooled = builder.build(connector.clone());
        // Over HTTP/2 all requests share a connection, and the origin says which of them it has seen before it closes it.
        builder.pool_idle_timeout(options.idle_timeout.min(RECENT_MAX));
        let recent = (!options.http2).then(|| builder.build(connector.clone()));
        let unpooled = builder.pool_max_idle_per_host(0).build(connector.clone());
        Ok(Site {
            address: address.clone(),
            scheme: if is_https { Scheme::HTTPS } else { Scheme::HTTP },
            authority: address.authority(),
            limits: Limits {
                connect: options.connect_timeout,
                first_byte: options.first_byte_timeout,
                body_idle: options.body_idle_timeout,
            },
            http2: options.http2,
            connector,
            pooled,
            recent,
            unpooled,
            under_way: AtomicUsize::new(0),
            health: Mutex::default(),
            is_troubled: AtomicBool::new(false),
        })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn is_well(&self) -> bool {
        self.standing(Instant::now()) == Standing::Well
    }

    pub(super) fn candidate(&self, now: Instant) -> Candidate {
        Candidate { standing: self.standing(now), under_way: self.under_way.load(Ordering::Relaxed) }
    }

    fn standing(&self, now: Instant) -> Standing {
        match self.is_troubled.load(Ordering::Relaxed) {
            false => Standing::Well,
            true => self.health().standing(now),
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().expect("no panic while it is held")
    }

    fn note_success(&self) {
        if self.is_troubled.load(Ordering::Relaxed) {
            let mut health = self.health();
            self.is_troubled.store(false, Ordering::Relaxed);
            if health.succeeded() {
                info!(address = %self.address, "origin_well");
            }
        }
    }

    fn note_failure(&self, error: &OriginError, is_trial: bool) {
        let mut health = self.health();
        self.is_troubled.store(true, Ordering::Relaxed);
        if health.failed(is_trial, Instant::now()) {
            warn!(address = %self.address, %error, cause = error.causes(), "origin_unwell");
        }
    }

    fn client(&self, pool: Pool) -> &Client {
        match pool {
            Pool::All => &self.pooled,
            Pool::Recent => self.recent.as_ref().unwrap_or(&self.pooled),
            Pool::None => &self.unpooled,
        }
    }

    /// Sends a request once.
    async fn send(&self, mut parts: Parts, body: RequestBody, pool: Pool) -> Result<Response<Incoming>, (OriginError, How)> {
        self.address_to_it(&mut parts);
        // hyper takes it that a `GET` has no content where its length is not known, and would send the request without it.
        if matches!(parts.method, Method::GET | Method::HEAD) && body.size_hint().exact().is_none() {
            parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        // RFC 9110 §10.1.4: of one connection, and said to be. Where HTTP/2 may be agreed on, which knows no `Connection`, it is not.
        if parts.version == Version::HTTP_11 && self.scheme == Scheme::HTTP && parts.headers.contains_key(TE) {
            parts.headers.append(CONNECTION, HeaderValue::from_static("te"));
        }
        let upload = body.upload();
        let made = self.connector.made();
        let answer = self.client(pool).request(Request::from_parts(parts, body));
        let answered = tokio::select! {
            biased;
            answered = answer => answered,
            error = overdue(&upload, &self.limits) => return Err((error, How::Sent)),
        };
        let mut response = answered.map_err(|error| self.explain(error, &upload, made))?;
        let past = response.extensions_mut().remove::<Past>();
        // Over HTTP/2 there is no such doubt.
        let past = past.filter(|_| response.version() != Version::HTTP_2);
        match head::settle(response.headers_mut()) {
            Ok(()) => Ok(response),
            Err(fault) => {
                // What follows on the connection is in as much doubt as the response.
                if let Some(past) = past {
                    past.forsake();
                }
                Err((OriginError::Invalid { source: Box::new(fault) }, How::Sent))
            }
        }
    }

    /// Makes the target absolute, which tells the client where its connections are, and sees to `Host`.
    fn address_to_it(&self, parts: &mut Parts) {
        parts.version = if self.connector.speaks_http2_unasked() { Version::HTTP_2 } else { Version::HTTP_11 };
        let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let host = parts.headers.get(HOST).cloned();
        // In HTTP/2 the authority is the host (RFC 9113 §8.3.1); in HTTP/1.1 it only names the pool.
        let authority = match (&host, self.http2) {
            (Some(host), true) => {
                parts.headers.remove(HOST);
                Authority::from_maybe_shared(host.clone()).unwrap_or_else(|_| self.authority.clone())
            }
            _ => self.authority.clone(),
        };
        if host.is_none() && !self.http2 {
            let own = HeaderValue::from_str(self.authority.as_str()).expect("an authority is made of visible ASCII");
            parts.headers.insert(HOST, own);
        }
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(authority);
        uri.path_and_query = Some(target);
        parts.uri = Uri::from_parts(uri).expect("scheme, authority and path make a URI");
    }

    /// Says why there is no response, to a request that began after so many connections had been `made`.
    fn explain(&self, error: legacy::Error, upload: &Upload, made: usize) -> (OriginError, How) {
        if let Some(is_idle) = upload.failure() {
            return (OriginError::ClientBody { is_idle }, How::Sent);
        }
        let address = self.address.clone();
        if error.is_connect() {
            let error = match connect::is_timeout(&error) {
                true => OriginError::ConnectTimeout { address, limit: self.limits.connect },
                false => OriginError::Connect { address, source: Box::new(error) },
            };
            return (error, How::Unsent);
        }
        let past = Past::of(&error);
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<hyper::Error>());
        if cause.is_some_and(|cause| cause.is_parse() || cause.is_parse_too_large()) {
            return (OriginError::Invalid { source: Box::new(error) }, How::Sent);
        }
        let how = match past {
            // It ended before it was given the request.
            None => How::Unsent,
            Some(_) if cause.is_some_and(hyper::Error::is_canceled) => How::Unsent,
            Some(past) if past.died_idle(made) => How::DiedIdle,
            Some(_) => How::Sent,
        };
        (OriginError::Closed { source: error }, how)
    }
}

impl Visit {
    /// To an address beside which there is none: nothing needs to be counted.
    pub(super) fn to_the_only(site: &Arc<Site>) -> Visit {
        Visit { site: site.clone(), is_counted: false, is_trial: false }
    }

    /// To one of several.
    pub(super) fn to(site: &Arc<Site>) -> Visit {
        site.under_way.fetch_add(1, Ordering::Relaxed);
        Visit { site: site.clone(), is_counted: true, is_trial: false }
    }

    /// The trial of an address that is due for one; `None` if it has begun already.
    pub(super) fn as_trial(site: &Arc<Site>, now: Instant) -> Option<Visit> {
        if !site.health().begin_trial(now) {
            return None;
        }
        let mut trial = Visit::to(site);
        trial.is_trial = true;
        Some(trial)
    }

    /// To the same address once more.
    pub(super) fn again(&self) -> Visit {
        if self.is_counted { Visit::to(&self.site) } else { Visit::to_the_only(&self.site) }
    }

    pub(super) fn is_to(&self, site: &Arc<Site>) -> bool {
        Arc::ptr_eq(&self.site, site)
    }

    pub(super) fn is_to_a_well_one(&self) -> bool {
        self.site.is_well()
    }

    /// Sends the request once, and takes note of what that says of the address.
    pub(super) async fn send(
        &mut self,
        parts: Parts,
        body: RequestBody,
        pool: Pool,
    ) -> Result<Response<Incoming>, (OriginError, How)> {
        let sent = self.site.send(parts, body, pool).await;
        match &sent {
            // Whatever it answers, a 500 or nonsense, is the service's.
            Ok(_) | Err((OriginError::Invalid { .. }, _)) => {
                self.is_trial = false;
                self.site.note_success();
            }
            Err((error, how)) if is_the_addresses(error, *how) => {
                self.site.note_failure(error, std::mem::take(&mut self.is_trial));
            }
            Err(_) => {}
        }
        sent
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.is_counted {
            self.site.under_way.fetch_sub(1, Ordering::Relaxed);
        }
        if self.is_trial {
            self.site.health().end_trial();
        }
    }
}

/// Whether a failure is one of the address. A proxy before a backend that is gone takes connections, and closes them.
fn is_the_addresses(error: &OriginError, how: How) -> bool {
    match error {
        OriginError::Connect { .. }
        | OriginError::ConnectTimeout { .. }
        | OriginError::FirstByteTimeout { .. }
        | OriginError::UploadTimeout { .. } => true,
        OriginError::Closed { .. } => how != How::DiedIdle,
        _ => false,
    }
}

/// Ends when a response is overdue: counted from the request's last octet, or while its body is not being taken.
async fn overdue(upload: &Upload, limits: &Limits) -> OriginError {
    while !upload.is_done() {
        let seen = upload.frames();
        tokio::select! {
            () = upload.done() => {}
            () = tokio::time::sleep(limits.body_idle) => {
                if upload.frames() == seen && !upload.waits_for_client() {
                    return OriginError::UploadTimeout { limit: limits.body_idle };
                }
            }
        }
    }
    tokio::time::sleep(limits.first_byte).await;
    OriginError::FirstByteTimeout { limit: limits.first_byte }
}

/// For how long a connection may have been idle that is given a request which cannot be sent twice: less than the servers in use
/// keep theirs (gunicorn 2 s, uvicorn and Node 5 s).
const RECENT_MAX: Duration = Duration::from_secs(1);

/// Those of idle connections at an address: for all requests, and for those that cannot be sent twice.
pub(super) const POOLS: usize = 2;

/// How often an HTTP/2 origin is asked whether it is still there, and how long it has to say so.
const HTTP2_PING_EVERY: Duration = Duration::from_secs(10);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(5);

/// hyper's smallest buffer.
const HTTP1_BUFFER_MIN: usize = 8192;
