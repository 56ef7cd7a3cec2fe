//! What operators see.
//!
//! | endpoint | what |
//! |---|---|
//! | `POST /admin/cache/purge` | purges: `{"tags": […]}`, `{"pattern": "customer:*"}`, `{"url": …}`, `{"route": …}`, `{"all": true}` |
//! | `POST /admin/cache/erase` | the same, and deletes the octets at once, everywhere |
//! | `GET /admin/cache/jobs` | purges by patterns that are looked for in the background, the newest first |
//! | `GET`, `HEAD`, `PUT`, `DELETE /admin/cache/entries?url=…` | looks at, tests for, sets, deletes one stored response |
//! | `GET /admin/cache/purges` | the latest purges, the newest first; `?n=100` for so many |
//! | `GET /admin/cache/stats` | hits, misses, tiers, routes and the state of Redis, as JSON |
//! | `GET /metrics` | all counters, in Prometheus' text format |
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 while it wants traffic: Redis being down does not make it unready, draining does |
//!
//! They are served on a listener of their own and, where the configuration says so, on the proxy's port too; there, all but
//! the last two need the token. What changes something needs the token everywhere, or, where none is set, to come from this machine.
//! The same holds for a request of the method `PURGE` on the proxy's port, which purges its own target.
//! Web pages may ask for none of them but the last two (`guard`).

mod auth;
mod entries;
mod guard;
mod purge;
mod report;

use crate::flow::{Answer, Body, Client, Proxy};
use crate::tasks::Tasks;
use auth::Caller;
use bytes::Bytes;
use entries::Entry;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use purge::Purge;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What operators reach, and where.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// The address of the admin listener; `None` for no such listener.
    pub listen: Option<SocketAddr>,
    /// What a caller shows as `Authorization: Bearer …`.
    pub token: Option<String>,
    /// Serves the same paths on the main port, to callers that show the token.
    pub on_proxy_port: bool,
    /// Names under which the admin listener may be asked, beside IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Origins of web pages that may ask.
    pub origins: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9090))),
            token: None,
            on_proxy_port: false,
            hosts: Vec::new(),
            origins: Vec::new(),
        }
    }
}

/// The endpoints of the admin listener.
pub struct Admin {
    proxy: Arc<Proxy>,
    tasks: Tasks,
    token: Option<String>,
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// The endpoints on the proxy's own port, before everything else.
pub struct Front {
    proxy: Arc<Proxy>,
    admin: Arc<Admin>,
    /// Not the method `PURGE` alone, but all paths.
    has_paths: bool,
}

impl Admin {
    /// Endpoints that show the state of `proxy`.
    pub fn new(proxy: Arc<Proxy>, tasks: Tasks, options: &Options) -> Arc<Admin> {
        let Options { token, hosts, origins, .. } = options.clone();
        Arc::new(Admin { proxy, tasks, token, hosts, origins })
    }

    async fn respond(&self, request: Request<Incoming>, client: Client) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let Some(allowed) = methods(path) else {
            return text(StatusCode::NOT_FOUND, NOT_FOUND);
        };
        // RFC 9110 §9.3.2: what can be got has a head.
        let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
        if !allowed.contains(method) {
            return not_allowed(allowed);
        }
        match path {
            STATS => json(StatusCode::OK, &report::stats(&self.proxy).await),
            METRICS => {
                report::set_gauges(&self.proxy);
                with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.proxy.stats().render())
            }
            HEALTHZ => text(StatusCode::OK, "ok\n"),
            READYZ if self.tasks.is_ready() => text(StatusCode::OK, "ready\n"),
            READYZ => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            ENTRIES => self.entries(&parts, body, client).await,
            PURGES => self.purges(parts.uri.query().unwrap_or_default()).await,
            JOBS => json(StatusCode::OK, &purge::jobs(self.proxy.store())),
            PURGE | ERASE => match auth::may_change(&parts.headers, client, self.token.as_deref()) {
                Err(refused) => refuse(refused),
                Ok(caller) => match whole(body, BODY_BYTES_MAX).await {
                    Err(why) => json(StatusCode::BAD_REQUEST, &json!({ "error": why })),
                    Ok(order) if path == ERASE => self.erase(Purge::read(&order, self.proxy.rules()), &caller).await,
                    Ok(order) => self.purge(Purge::read(&order, self.proxy.rules()), &caller).await,
                },
            },
            _ => text(StatusCode::NOT_FOUND, NOT_FOUND),
        }
    }

    /// Answers a request of the method `PURGE`.
    async fn purge_target(&self, request: &Request<Incoming>, client: Client) -> Response<Body> {
        if guard::is_of_a_foreign_page(request.headers(), &self.origins) {
            return refuse(FOREIGN_PAGE);
        }
        match auth::may_change(request.headers(), client, self.token.as_deref()) {
            Err(refused) => refuse(refused),
            Ok(caller) => self.purge(Purge::of_url(request.uri(), false, self.proxy.rules()), &caller).await,
        }
    }

    async fn purge(&self, purge: Result<Purge, String>, caller: &Caller) -> Response<Body> {
        match purge {
            Err(why) => json(StatusCode::BAD_REQUEST, &json!({ "error": why })),
            Ok(purge) => {
                let (proxy, caller) = (self.proxy.clone(), caller.clone());
                let carried_out = self.tasks.finish(async move { purge.carry_out(&proxy, &caller).await }).await;
                carried_out.map_or_else(internal, |(status, report)| json(status, &report))
            }
        }
    }

    async fn erase(&self, purge: Result<Purge, String>, caller: &Caller) -> Response<Body> {
        match purge.and_then(Purge::into_erase) {
            Err(why) => json(StatusCode::BAD_REQUEST, &json!({ "error": why })),
            Ok(purge) => {
                let erasing = purge::erase(purge, self.proxy.clone(), caller.clone());
                let erased = self.tasks.finish(erasing).await;
                erased.map_or_else(internal, |(status, report)| json(status, &report))
            }
        }
    }

    async fn entries(&self, parts: &Parts, body: Incoming, client: Client) -> Response<Body> {
        let bad_request = |why: String| json(StatusCode::BAD_REQUEST, &json!({ "error": why }));
        let entry = match Entry::read(parts.uri.query().unwrap_or_default()) {
            Ok(entry) => entry,
            Err(why) => return bad_request(why),
        };
        let is_change = matches!(parts.method, Method::PUT | Method::DELETE);
        let caller = match auth::may_change(&parts.headers, client, self.token.as_deref()) {
            Ok(caller) => Some(caller),
            // Who looks at the statistics may know that something is stored, but not what.
            Err(refused) if is_change || entry.wants_body => return refuse(refused),
            Err(_) => None,
        };
        let answer = match (&parts.method, caller) {
            (&Method::DELETE, Some(caller)) => return self.purge(entry.purge(&self.proxy), &caller).await,
            (&Method::PUT, Some(caller)) => match whole(body, self.proxy.options().body_bytes_max).await {
                Ok(body) => {
                    let (proxy, fields) = (self.proxy.clone(), parts.headers.clone());
                    match self.tasks.finish(async move { entry.set(&fields, body, &proxy, &caller).await }).await {
                        Some(answer) => answer,
                        None => return internal(),
                    }
                }
                Err(why) => return bad_request(why),
            },
            (_, caller) => entry.look(&self.proxy, caller.is_some()).await,
        };
        match answer {
            entries::Answer::Json(status, value) => json(status, &value),
            entries::Answer::Body(content_type, octets) => {
                let mut response = with_type(StatusCode::OK, "application/octet-stream", octets);
                if let Some(content_type) = content_type {
                    response.headers_mut().insert(CONTENT_TYPE, content_type);
                }
                response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
                response
            }
        }
    }

    async fn purges(&self, query: &str) -> Response<Body> {
        let number = match query.strip_prefix("n=").map(str::parse) {
            None if query.is_empty() => PURGES_SHOWN,
            Some(Ok(number)) => number,
            _ => return json(StatusCode::BAD_REQUEST, &json!({ "error": "write ?n=100, or nothing" })),
        };
        let records = self.proxy.store().purges(number).await;
        // Each was JSON when it was noted; whoever else writes to Redis may have put there anything.
        let records: Vec<Value> = records.iter().filter_map(|record| serde_json::from_str(record).ok()).collect();
        json(StatusCode::OK, &json!({ "purges": records }))
    }
}

impl Answer for Admin {
    async fn answer(self: Arc<Admin>, request: Request<Incoming>, client: Client) -> Response<Body> {
        let (target, fields) = (request.uri(), request.headers());
        match request.uri().path() {
            // They say nothing that anybody must not know, and are asked for under names that nobody foresees.
            HEALTHZ | READYZ => self.respond(request, client).await,
            _ if !guard::is_for_us(target, fields, &self.hosts) => refuse(WRONG_HOST),
            _ if guard::is_of_a_foreign_page(fields, &self.origins) => refuse(FOREIGN_PAGE),
            _ => self.respond(request, client).await,
        }
    }
}

impl Front {
    /// The proxy, and before it the method `PURGE`, and the paths of `admin` where they are to be on this port.
    pub fn new(proxy: Arc<Proxy>, admin: Arc<Admin>, has_paths: bool) -> Arc<Front> {
        Arc::new(Front { proxy, admin, has_paths })
    }

    /// The proxy.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }
}

impl Answer for Front {
    async fn answer(self: Arc<Front>, request: Request<Incoming>, client: Client) -> Response<Body> {
        // What is rare has its memory when it comes; an idle connection keeps that of a hit alone.
        if request.method().as_str() == "PURGE" {
            return Box::pin(self.admin.purge_target(&request, client)).await;
        }
        let path = request.uri().path();
        if !self.has_paths {
            return self.proxy.serve(request, client).await;
        }
        match methods(path) {
            Some(_) => Box::pin(self.admin_answers(request, client)).await,
            None if guard::is_nearly_ours(path) => text(StatusCode::NOT_FOUND, NOT_FOUND),
            None => self.proxy.serve(request, client).await,
        }
    }
}

impl Front {
    /// Answers a request for a path of ours on the proxy's port, where everybody can ask.
    async fn admin_answers(&self, request: Request<Incoming>, client: Client) -> Response<Body> {
        let fields = request.headers();
        match request.uri().path() {
            HEALTHZ | READYZ => self.admin.respond(request, client).await,
            _ if guard::is_of_a_foreign_page(fields, &self.admin.origins) => refuse(FOREIGN_PAGE),
            _ if !auth::shows_token(fields, self.admin.token.as_deref()) => {
                refuse((StatusCode::UNAUTHORIZED, "the token is needed here\n"))
            }
            _ => self.admin.respond(request, client).await,
        }
    }
}

/// The methods of a path of ours.
fn methods(path: &str) -> Option<&'static [Method]> {
    match path {
        STATS | METRICS | HEALTHZ | READYZ | PURGES | JOBS => Some(&[Method::GET]),
        PURGE | ERASE => Some(&[Method::POST]),
        ENTRIES => Some(&[Method::GET, Method::PUT, Method::DELETE]),
        _ => None,
    }
}

/// A request's body, if it is not too large and comes soon.
async fn whole(body: Incoming, bytes_max: usize) -> Result<Bytes, String> {
    let read = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(format!("the body cannot be read: {error}")),
        Err(_) => Err("the body did not come".to_owned()),
    }
}

fn not_allowed(allowed: &[Method]) -> Response<Body> {
    let allowed: Vec<&str> = allowed
        .iter()
        .flat_map(|method| match *method {
            Method::GET => vec!["GET", "HEAD"],
            _ => vec![method.as_str()],
        })
        .collect();
    let allowed = allowed.join(", ");
    let mut response = with_type(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", format!("only {allowed}\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_str(&allowed).expect("names of methods are visible ASCII"));
    response
}

/// The answer when we ourselves have failed; the log says why.
fn internal() -> Response<Body> {
    text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
}

fn refuse((status, why): (StatusCode, &'static str)) -> Response<Body> {
    let mut response = text(status, why);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn json(status: StatusCode, value: &Value) -> Response<Body> {
    with_type(status, "application/json", format!("{value}\n"))
}

fn text(status: StatusCode, body: &'static str) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", body.to_owned())
}

fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const ENTRIES: &str = "/admin/cache/entries";
const ERASE: &str = "/admin/cache/erase";
const JOBS: &str = "/admin/cache/jobs";
const PURGE: &str = "/admin/cache/purge";
const PURGES: &str = "/admin/cache/purges";
const STATS: &str = "/admin/cache/stats";
const METRICS: &str = "/metrics";
const HEALTHZ: &str = "/healthz";
const READYZ: &str = "/readyz";

const WRONG_HOST: (StatusCode, &str) = (
    StatusCode::MISDIRECTED_REQUEST,
    "this listener is asked by its IP address, as localhost, or by a name that stands in [admin] hosts\n",
);
const FOREIGN_PAGE: (StatusCode, &str) =
    (StatusCode::FORBIDDEN, "requests from web pages are not accepted here, but for those of [admin] origins\n");

const NOT_FOUND: &str =
    "there are /metrics, /healthz, /readyz, and of /admin/cache: stats, entries, purge, purges, erase and jobs\n";

/// So many purges are shown, if nobody says how many.
const PURGES_SHOWN: usize = 100;

/// No request to these endpoints needs more.
const BODY_BYTES_MAX: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
