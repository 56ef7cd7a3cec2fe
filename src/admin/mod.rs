//! What operators see.
//!
//! | endpoint | what |
//! |---|---|
//! | `GET /admin/cache/stats` | hits, misses, tiers, routes and the state of Redis, as JSON |
//! | `GET /metrics` | all counters, in Prometheus' text format |
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 while it wants traffic: Redis being down does not make it unready, draining does |
//!
//! They are served on a listener of their own and, where the configuration says so, on the proxy's port too; there, all but
//! the last two need the token.

mod auth;
mod report;

use crate::flow::{Answer, Body, Client, Proxy};
use crate::tasks::Tasks;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;

/// What operators reach, and where.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// The address of the admin listener; `None` for no such listener.
    pub listen: Option<SocketAddr>,
    /// What a caller shows as `Authorization: Bearer …`.
    pub token: Option<String>,
    /// Serves the same paths on the main port, to callers that show the token.
    pub on_proxy_port: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9090))), token: None, on_proxy_port: false }
    }
}

/// The endpoints of the admin listener.
pub struct Admin {
    proxy: Arc<Proxy>,
    tasks: Tasks,
    token: Option<String>,
}

/// The endpoints on the proxy's own port, before everything else.
pub struct Front {
    proxy: Arc<Proxy>,
    admin: Option<Arc<Admin>>,
}

impl Admin {
    /// Endpoints that show the state of `proxy`.
    pub fn new(proxy: Arc<Proxy>, tasks: Tasks, options: &Options) -> Arc<Admin> {
        Arc::new(Admin { proxy, tasks, token: options.token.clone() })
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Body> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let path = request.uri().path();
        if !is_read && is_ours(path) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            STATS => json(report::stats(&self.proxy).to_string()),
            METRICS => {
                report::set_gauges(&self.proxy);
                with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.proxy.stats().render())
            }
            HEALTHZ => text(StatusCode::OK, "ok\n"),
            READYZ if self.tasks.is_ready() => text(StatusCode::OK, "ready\n"),
            READYZ => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            _ => text(StatusCode::NOT_FOUND, "there are /admin/cache/stats, /metrics, /healthz and /readyz\n"),
        }
    }
}

impl Answer for Admin {
    async fn answer(self: Arc<Admin>, request: Request<Incoming>, _: Client) -> Response<Body> {
        self.respond(&request)
    }
}

impl Front {
    /// The proxy, and before it the endpoints of `admin`, if there are to be any on this port.
    pub fn new(proxy: Arc<Proxy>, admin: Option<Arc<Admin>>) -> Arc<Front> {
        Arc::new(Front { proxy, admin })
    }
}

impl Answer for Front {
    async fn answer(self: Arc<Front>, request: Request<Incoming>, client: Client) -> Response<Body> {
        let Some(admin) = self.admin.as_ref().filter(|_| is_ours(request.uri().path())) else {
            return self.proxy.serve(request, client).await;
        };
        let is_open = matches!(request.uri().path(), HEALTHZ | READYZ);
        if is_open || auth::shows_token(request.headers(), admin.token.as_deref()) {
            return admin.respond(&request);
        }
        let mut response = text(StatusCode::UNAUTHORIZED, "the token is needed here\n");
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    }
}

fn is_ours(path: &str) -> bool {
    matches!(path, STATS | METRICS | HEALTHZ | READYZ)
}

fn json(body: String) -> Response<Body> {
    with_type(StatusCode::OK, "application/json", body)
}

fn text(status: StatusCode, body: &'static str) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", body.to_owned())
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const STATS: &str = "/admin/cache/stats";
const METRICS: &str = "/metrics";
const HEALTHZ: &str = "/healthz";
const READYZ: &str = "/readyz";
