//! The demo's backend: slow, and always with the same answer for the same path.

use super::customers;
use super::random::Random;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use xxhash_rust::xxh3::xxh3_64;

/// What the backend offers, and the routes of the shipped `proxy.toml` cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Customer,
    ChurnRisk,
}

/// The backend, until it is dropped.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    counts: Arc<Counts>,
    _accepting: AbortOnDropHandle<()>,
}

/// Requests that reached the backend, in the order of [`Endpoint::ALL`].
#[derive(Default)]
struct Counts([AtomicU64; 2]);

impl Endpoint {
    pub(super) const ALL: [Endpoint; 2] = [Endpoint::Customer, Endpoint::ChurnRisk];

    pub(super) fn name(self) -> &'static str {
        match self {
            Endpoint::Customer => "customer",
            Endpoint::ChurnRisk => "churn-risk",
        }
    }

    pub(super) fn path(self, id: &str) -> String {
        match self {
            Endpoint::Customer => format!("{PREFIX}{id}"),
            Endpoint::ChurnRisk => format!("{PREFIX}{id}{CHURN_RISK}"),
        }
    }

    /// The body for an id.
    pub(super) fn body(self, id: &str) -> Bytes {
        let document = match self {
            Endpoint::Customer => customers::profile(id),
            Endpoint::ChurnRisk => customers::churn_risk(id),
        };
        Bytes::from(document.to_string())
    }

    /// The endpoint and the id that a path names.
    fn of(path: &str) -> Option<(Endpoint, &str)> {
        let rest = path.strip_prefix(PREFIX)?;
        let (endpoint, id) = match rest.strip_suffix(CHURN_RISK) {
            Some(id) => (Endpoint::ChurnRisk, id),
            None => (Endpoint::Customer, rest),
        };
        let is_id = !id.is_empty() && id.len() <= 64 && id.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        is_id.then_some((endpoint, id))
    }

    /// How long the answer takes: the database for a profile, a model for a prediction.
    fn delay(self, random: &mut Random) -> Duration {
        Duration::from_micros(match self {
            Endpoint::Customer => random.within(50_000, 100_000),
            Endpoint::ChurnRisk => random.within(200_000, 300_000),
        })
    }
}

impl Origin {
    /// Starts the backend on a free port of loopback.
    pub(super) async fn start() -> io::Result<Origin> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, counts.clone())));
        Ok(Origin { address, counts, _accepting: accepting })
    }

    /// How many requests have reached an endpoint.
    pub(super) fn requests(&self, endpoint: Endpoint) -> u64 {
        self.counts.0[endpoint as usize].load(Ordering::Relaxed)
    }
}

/// The validator of a body.
pub(super) fn etag(body: &[u8]) -> String {
    format!("\"{:016x}\"", xxh3_64(body))
}

async fn accept(listener: TcpListener, counts: Arc<Counts>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, counts.clone()));
            }
            // No file descriptors left, most likely: that passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn serve(stream: TcpStream, counts: Arc<Counts>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let counts = counts.clone();
        async move { Ok::<_, Infallible>(answer(request, &counts).await) }
    });
    // A connection that breaks is the client's to report.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Answers like many an application does: with a validator, and without a word about caching.
async fn answer(request: Request<Incoming>, counts: &Counts) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, Bytes::from_static(br#"{"error":"only GET and HEAD"}"#));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let Some((endpoint, id)) = Endpoint::of(request.uri().path()) else {
        return respond(StatusCode::NOT_FOUND, Bytes::from_static(br#"{"error":"there is no such customer"}"#));
    };
    let number = counts.0[endpoint as usize].fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(endpoint.delay(&mut Random::new(number))).await;
    let body = endpoint.body(id);
    let etag = HeaderValue::from_str(&etag(&body)).expect("hexadecimal digits in quotes are a field value");
    let mut response = match request.headers().get(IF_NONE_MATCH) {
        Some(known) if *known == etag => respond(StatusCode::NOT_MODIFIED, Bytes::new()),
        _ => respond(StatusCode::OK, body),
    };
    response.headers_mut().insert(ETAG, etag);
    response
}

fn respond(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

const PREFIX: &str = "/api/mcp/customer/";
const CHURN_RISK: &str = "/churn-risk";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_an_endpoint_and_an_id() {
        let check = |path: &str, expected: Option<(Endpoint, &str)>| assert_eq!(Endpoint::of(path), expected, "{path}");
        check("/api/mcp/customer/1001", Some((Endpoint::Customer, "1001")));
        check("/api/mcp/customer/1001/churn-risk", Some((Endpoint::ChurnRisk, "1001")));
        check("/api/mcp/customer/", None);
        check("/api/mcp/customer//churn-risk", None);
        check("/api/mcp/customer/1001/orders", None);
        check("/", None);
        for endpoint in Endpoint::ALL {
            check(&endpoint.path("a-1"), Some((endpoint, "a-1")));
        }
    }

    #[test]
    fn delays_are_what_the_demo_promises() {
        for number in 0..1000 {
            let delay = |endpoint: Endpoint| endpoint.delay(&mut Random::new(number)).as_millis();
            assert!((50..100).contains(&delay(Endpoint::Customer)));
            assert!((200..300).contains(&delay(Endpoint::ChurnRisk)));
        }
    }
}
