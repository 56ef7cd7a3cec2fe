//! What operators see.
//!
//! | endpoint | what | role |
//! |---|---|---|
//! | `POST /admin/cache/purge` | purges: `{"tags": […]}`, `{"pattern": "customer:*"}`, `{"url": …}`, `{"route": …}`, `{"all": true}` | purge |
//! | `POST /admin/cache/erase` | the same, and deletes the octets at once, everywhere | purge |
//! | `GET /admin/cache/jobs` | purges by patterns that are looked for in the background, the newest first | read |
//! | `GET`, `HEAD` `/admin/cache/entries?url=…` | looks at, tests for one stored response | read |
//! | `DELETE /admin/cache/entries?url=…` | deletes it | purge |
//! | `PUT /admin/cache/entries?url=…` | sets it | all |
//! | `GET /admin/cache/explain?url=…` | what a request would come to, and why | read |
//! | `GET /admin/cache/purges` | the latest purges, the newest first; `?n=100` for so many | read |
//! | `GET /admin/cache/stats` | hits, misses, tiers, routes and the state of Redis, as JSON | |
//! | `GET /metrics` | all counters, in Prometheus' text format | |
//! | `GET /healthz` | 200 while the process lives | |
//! | `GET /readyz` | 200 while it wants traffic: Redis being down does not make it unready, draining does | |
//!
//! They are served on a listener of their own and, where the configuration says so, on the proxy's port too; there, all but
//! the last two need a token. What changes something, or shows what is stored for a customer, needs the token of a caller with the role
//! everywhere, or, where none is set, to come from this machine. A request of the method `PURGE` on the proxy's port, which purges its
//! own target, needs a token too, unless the configuration says otherwise. Web pages may ask for none of them but the last two (`guard`).

mod asked;
mod audit;
mod auth;
mod entries;
mod explain;
mod guard;
mod pages;
mod purge;
mod reply;
mod report;
mod sentence;

pub use auth::{LOOPBACK, Role, Token};

use crate::flow::{Answer, AnswerKnown, Body, Client, Proxy};
use crate::tasks::Tasks;
use audit::Refusals;
use auth::{Caller, Keyring, Refusal};
use bytes::Bytes;
use entries::Entry;
use explain::Question;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use pages::Page;
use purge::Purge;
use reply::{bad_request, internal, json, not_allowed, refuse, text, with_type};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What operators reach, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The address of the admin listener; `None` for no such listener.
    pub listen: Option<SocketAddr>,
    /// Who may do what. Without any, callers on this very machine may do everything on the admin listener, and no others anything.
    pub tokens: Vec<Token>,
    /// Serves the same paths on the main port, to callers that show a token.
    pub on_proxy_port: bool,
    /// Takes the method `PURGE` on the main port from this machine where there is no token.
    pub purge_without_token: bool,
    /// Names under which the admin listener may be asked, beside IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Origins of web pages that may ask.
    pub origins: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9090))),
            tokens: Vec::new(),
            on_proxy_port: false,
            purge_without_token: false,
            hosts: Vec::new(),
            origins: Vec::new(),
        }
    }
}

/// The endpoints of the admin listener.
pub struct Admin {
    proxy: Arc<Proxy>,
    tasks: Tasks,
    keyring: Keyring,
    refusals: Refusals,
    options: Options,
}

/// The endpoints on the proxy's own port, before everything else.
pub struct Front {
    proxy: Arc<Proxy>,
    admin: Arc<Admin>,
}

impl Admin {
    /// Endpoints that show the state of `proxy`.
    pub fn new(proxy: Arc<Proxy>, tasks: Tasks, options: &Options) -> Arc<Admin> {
        let keyring = Keyring::new(&options.tokens);
        // What is left of them is what can be compared.
        let options = Options { tokens: Vec::new(), ..options.clone() };
        Arc::new(Admin { proxy, tasks, keyring, refusals: Refusals::default(), options })
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
        let caller = match needed(path, method).map(|role| self.keyring.admit(&parts.headers, &client, role)) {
            None => None,
            Some(Ok(caller)) => Some(caller),
            Some(Err(refusal)) => return self.refuse(&parts.method, path, client.address, refusal),
        };
        match (path, caller) {
            (STATS, _) => json(StatusCode::OK, &report::stats(&self.proxy).await),
            (METRICS, _) => {
                report::set_gauges(&self.proxy);
                with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.proxy.stats().render())
            }
            (HEALTHZ, _) => text(StatusCode::OK, "ok\n"),
            (READYZ, _) if self.tasks.is_ready() => text(StatusCode::OK, "ready\n"),
            (READYZ, _) => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            (EXPLAIN, Some(_)) => match Question::read(parts.uri.query().unwrap_or_default()) {
                Ok(question) => json(StatusCode::OK, &question.answer(&self.proxy).await),
                Err(why) => bad_request(why),
            },
            (PURGES, Some(_)) => self.purges(parts.uri.query().unwrap_or_default()).await,
            (JOBS, Some(_)) => json(StatusCode::OK, &purge::jobs(self.proxy.store())),
            (ENTRIES, Some(caller)) => self.entries(&parts, body, &caller).await,
            (PURGE | ERASE, Some(caller)) => match self.order(&parts.headers, body).await {
                Err(refused) => refused,
                Ok(order) if path == ERASE => self.erase(Purge::read(&order, self.proxy.rules()), &caller).await,
                Ok(order) => self.purge(Purge::read(&order, self.proxy.rules()), &caller).await,
            },
            _ => text(StatusCode::NOT_FOUND, NOT_FOUND),
        }
    }

    /// Answers a request of the method `PURGE`.
    async fn purge_target(&self, request: &Request<Incoming>, client: Client) -> Response<Body> {
        let may_come = !self.keyring.is_empty() || self.options.purge_without_token;
        let caller = match guard::is_of_a_foreign_page(request.headers(), &self.options.origins) {
            true => Err((StatusCode::FORBIDDEN, Cow::Borrowed(FOREIGN_PAGE))),
            // Behind a proxy on the same machine, everybody comes from this machine.
            false if !may_come => Err((StatusCode::FORBIDDEN, Cow::Borrowed(NO_TOKEN))),
            false => self.keyring.admit(request.headers(), &client, Role::Purge),
        };
        match caller {
            Err(refusal) => self.refuse(request.method(), request.uri().path(), client.address, refusal),
            Ok(caller) => self.purge(Purge::of_url(request.uri(), false, self.proxy.rules()), &caller).await,
        }
    }

    /// What is to be done, in JSON. A form that a web page sends has another type, and no page can send this one unasked.
    async fn order(&self, fields: &HeaderMap, body: Incoming) -> Result<Bytes, Response<Body>> {
        let is_json = |value: &HeaderValue| {
            let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
            kind.trim().eq_ignore_ascii_case("application/json")
        };
        if !fields.get_all(CONTENT_TYPE).iter().all(is_json) {
            return Err(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, NOT_JSON));
        }
        self.whole(body, BODY_BYTES_MAX).await.map_err(bad_request)
    }

    /// A request's body, if it is not too large and comes soon: all of it in a time in which others may be silent.
    async fn whole(&self, body: Incoming, bytes_max: usize) -> Result<Bytes, String> {
        let read = Limited::new(body, bytes_max).collect();
        match tokio::time::timeout(BODY_TIMEOUT.min(self.proxy.options().client_idle_timeout), read).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(format!("the body cannot be read: {error}")),
            Err(_) => Err("the body did not come".to_owned()),
        }
    }

    async fn purge(&self, purge: Result<Purge, String>, caller: &Caller) -> Response<Body> {
        match purge {
            Err(why) => bad_request(why),
            Ok(purge) => {
                let (proxy, caller) = (self.proxy.clone(), caller.clone());
                let carried_out = self.tasks.finish(async move { purge.carry_out(&proxy, &caller).await }).await;
                carried_out.map_or_else(internal, |(status, report)| json(status, &report))
            }
        }
    }

    async fn erase(&self, purge: Result<Purge, String>, caller: &Caller) -> Response<Body> {
        match purge.and_then(Purge::into_erase) {
            Err(why) => bad_request(why),
            Ok(purge) => {
                let erasing = purge::erase(purge, self.proxy.clone(), caller.clone());
                let erased = self.tasks.finish(erasing).await;
                erased.map_or_else(internal, |(status, report)| json(status, &report))
            }
        }
    }

    async fn entries(&self, parts: &Parts, body: Incoming, caller: &Caller) -> Response<Body> {
        let entry = match Entry::read(parts.uri.query().unwrap_or_default()) {
            Ok(entry) => entry,
            Err(why) => return bad_request(why),
        };
        let answer = match parts.method {
            Method::DELETE => return self.purge(entry.purge(&self.proxy), caller).await,
            Method::PUT => match self.whole(body, self.proxy.options().body_bytes_max).await {
                Ok(body) => {
                    let (proxy, fields, caller) = (self.proxy.clone(), parts.headers.clone(), caller.clone());
                    match self.tasks.finish(async move { entry.set(&fields, body, &proxy, &caller).await }).await {
                        Some(answer) => answer,
                        None => return internal(),
                    }
                }
                Err(why) => return bad_request(why),
            },
            _ => entry.look(&self.proxy).await,
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
            _ => return bad_request("write ?n=100, or nothing"),
        };
        let records = self.proxy.store().purges(number).await;
        // Each was JSON when it was noted; whoever else writes to Redis may have put there anything.
        let records: Vec<Value> = records.iter().filter_map(|record| serde_json::from_str(record).ok()).collect();
        json(StatusCode::OK, &json!({ "purges": records }))
    }

    fn refuse(&self, method: &Method, path: &str, from: IpAddr, refusal: Refusal) -> Response<Body> {
        self.proxy.stats().admin_refused.inc();
        self.refusals.note(method, path, from, &refusal);
        refuse(refusal)
    }
}

impl Answer for Admin {
    async fn answer(self: Arc<Admin>, request: Request<Incoming>, client: Client) -> Response<Body> {
        let (target, fields) = (request.uri(), request.headers());
        let refused = match target.path() {
            // They say nothing that anybody must not know, and are asked for under names that nobody foresees.
            HEALTHZ | READYZ => None,
            _ if !guard::is_for_us(target, fields, &self.options.hosts) => Some((StatusCode::MISDIRECTED_REQUEST, WRONG_HOST)),
            _ if guard::is_of_a_foreign_page(fields, &self.options.origins) => Some((StatusCode::FORBIDDEN, FOREIGN_PAGE)),
            _ => None,
        };
        let page = Page::of(fields, &self.options.origins);
        let preflight = || page.preflight(request.method(), fields, methods(target.path()).unwrap_or_default());
        let response = match refused {
            Some((status, why)) => self.refuse(request.method(), target.path(), client.address, (status, why.into())),
            None => match preflight() {
                Some(preflight) => preflight,
                None => self.respond(request, client).await,
            },
        };
        page.may_read(response)
    }
}

impl Front {
    /// The proxy, and before it the method `PURGE`, and the paths of `admin` where they are to be on this port.
    pub fn new(proxy: Arc<Proxy>, admin: Arc<Admin>) -> Arc<Front> {
        Arc::new(Front { proxy, admin })
    }

    /// The proxy.
    pub fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// Answers a request for a path of ours on the proxy's port, where everybody can ask.
    async fn admin_answers(&self, request: Request<Incoming>, client: Client) -> Response<Body> {
        let (fields, admin) = (request.headers(), &self.admin);
        let refused = match request.uri().path() {
            HEALTHZ | READYZ => None,
            _ if guard::is_of_a_foreign_page(fields, &admin.options.origins) => Some((StatusCode::FORBIDDEN, FOREIGN_PAGE)),
            _ if admin.keyring.shown(fields).is_none() => Some((StatusCode::UNAUTHORIZED, "a token is needed here\n")),
            _ => None,
        };
        let page = Page::of(fields, &admin.options.origins);
        // A browser asks before a page does, and shows nothing.
        let preflight = page.preflight(request.method(), fields, methods(request.uri().path()).unwrap_or_default());
        let response = match (preflight, refused) {
            (Some(preflight), _) => preflight,
            (None, Some((status, why))) => {
                admin.refuse(request.method(), request.uri().path(), client.address, (status, why.into()))
            }
            (None, None) => admin.respond(request, client).await,
        };
        page.may_read(response)
    }
}

impl Answer for Front {
    async fn answer(self: Arc<Front>, request: Request<Incoming>, client: Client) -> Response<Body> {
        // What is rare has its memory when it comes; an idle connection keeps that of a hit alone.
        if request.method().as_str() == "PURGE" {
            return Box::pin(self.admin.purge_target(&request, client)).await;
        }
        let path = request.uri().path();
        if !self.admin.options.on_proxy_port {
            return self.proxy.serve(request, client).await;
        }
        match methods(path) {
            Some(_) => Box::pin(self.admin_answers(request, client)).await,
            None if guard::is_nearly_ours(path) => text(StatusCode::NOT_FOUND, NOT_FOUND),
            None => self.proxy.serve(request, client).await,
        }
    }

    fn answer_known(self: &Arc<Self>, octets: &[u8], address: IpAddr, is_secure: bool, head: &mut Vec<u8>) -> AnswerKnown {
        self.proxy.answer_known(octets, address, is_secure, head)
    }
}

/// The methods of a path of ours.
fn methods(path: &str) -> Option<&'static [Method]> {
    match path {
        STATS | METRICS | HEALTHZ | READYZ | PURGES | JOBS | EXPLAIN => Some(&[Method::GET]),
        PURGE | ERASE => Some(&[Method::POST]),
        ENTRIES => Some(&[Method::GET, Method::PUT, Method::DELETE]),
        _ => None,
    }
}

/// What a caller needs for one of them. Lists of purges name customers, as what is stored does; numbers do not.
fn needed(path: &str, method: &Method) -> Option<Role> {
    match (path, method) {
        (STATS | METRICS | HEALTHZ | READYZ, _) => None,
        (PURGES | JOBS | EXPLAIN, _) | (ENTRIES, &Method::GET) => Some(Role::Read),
        (PURGE | ERASE, _) | (ENTRIES, &Method::DELETE) => Some(Role::Purge),
        _ => Some(Role::All),
    }
}

const ENTRIES: &str = "/admin/cache/entries";
const ERASE: &str = "/admin/cache/erase";
const EXPLAIN: &str = "/admin/cache/explain";
const JOBS: &str = "/admin/cache/jobs";
const PURGE: &str = "/admin/cache/purge";
const PURGES: &str = "/admin/cache/purges";
const STATS: &str = "/admin/cache/stats";
const METRICS: &str = "/metrics";
const HEALTHZ: &str = "/healthz";
const READYZ: &str = "/readyz";

const WRONG_HOST: &str = "this listener is asked by its IP address, as localhost, or by a name that stands in [admin] hosts\n";
const FOREIGN_PAGE: &str = "requests from web pages are not accepted here, but for those of [admin] origins\n";
const NO_TOKEN: &str = "PURGE is accepted here with a token: set ADMIN_TOKEN, or purge by the admin listener; \
                        [admin] purge_without_token = true takes it from this machine without one\n";
const NOT_JSON: &str = "send it as application/json (curl --json does), or without a Content-Type\n";
const NOT_FOUND: &str =
    "there are /metrics, /healthz, /readyz, and of /admin/cache: stats, entries, purge, purges, erase and jobs\n";

/// So many purges are shown, if nobody says how many.
const PURGES_SHOWN: usize = 100;

/// No request to these endpoints needs more.
const BODY_BYTES_MAX: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
