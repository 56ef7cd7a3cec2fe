//! What this program itself serves, in processes of their own: the origin, and bare hyper, which has all of its answers at hand.

use crate::Broken;
use crate::rounds::HOT;
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;

/// Serves for as long as the process lives, and says first where.
pub(crate) fn serve(what: &str, octets: usize) -> Result<(), Broken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    match what {
        "origin" => runtime.block_on(listen(Origin::default())),
        "bare" => runtime.block_on(listen(Bare((0..HOT).map(|id| body(octets, id).into()).collect()))),
        _ => Err(format!("there is no {what:?} to serve")),
    }
}

trait Answer: Send + Sync + 'static {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>>;
}

/// Has JSON of any size under `/json/{octets}/{id}`, and the same under `/pass/`, where it may not be stored.
#[derive(Default)]
struct Origin {
    asked: AtomicU64,
}

/// Answers with one of so many bodies, each of which lies somewhere else, as those of a cache do.
struct Bare(Vec<Bytes>);

impl Answer for Origin {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let mut segments = request.uri().path().split('/').skip(1);
        let lifetime = match segments.next() {
            Some("json") => "max-age=3600",
            Some("pass") => "no-store",
            _ => return Response::new(Full::from(self.asked.load(Ordering::Relaxed).to_string())),
        };
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut number = || segments.next().and_then(|segment| segment.parse::<u64>().ok());
        let (Some(octets), Some(id)) = (number(), number()) else {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        };
        let mut response = Response::new(Full::from(body(octets as usize, id)));
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static(lifetime));
        fields.insert(ETAG, HeaderValue::from_static(ENTITY_TAG));
        response
    }
}

impl Answer for Bare {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let id = request.uri().path().rsplit('/').next().and_then(|segment| segment.parse::<usize>().ok()).unwrap_or_default();
        let mut response = Response::new(Full::new(self.0[id % self.0.len()].clone()));
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
        fields.insert(ETAG, HeaderValue::from_static(ENTITY_TAG));
        fields.insert(AGE, HeaderValue::from_static("1"));
        fields.insert(CACHE_STATUS, HeaderValue::from_static("sidecache; hit; ttl=3599; detail=memory"));
        response
    }
}

async fn listen(answer: impl Answer) -> Result<(), Broken> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| error.to_string())?;
    println!("{}", listener.local_addr().map_err(|error| error.to_string())?);
    let answer = Arc::new(answer);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let answer = answer.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let response = answer.answer(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// A JSON document of just so many octets (50 at least), another one for each id.
pub(crate) fn body(octets: usize, id: u64) -> Vec<u8> {
    let mut body = format!("{{\"customer\":{id},\"note\":\"").into_bytes();
    while body.len() + 2 < octets {
        let piece = FILLING.len().min(octets - 2 - body.len());
        body.extend_from_slice(&FILLING[..piece]);
    }
    body.extend_from_slice(b"\"}");
    body
}

const FILLING: &[u8] = b"What is written here is of no importance to anyone, and is here for its length alone; it goes on for as long as it has to. ";

const ENTITY_TAG: &str = "\"33a64df551425fcc55e4d42a148795d9f25f89d4\"";

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
