//! The origin: it answers each target with its present version, after a moment.

use super::truth::{Target, Truth, body};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// The origin, until it is dropped.
pub struct Origin {
    pub address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Origin {
    pub async fn start(truth: Arc<Truth>) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = stream.set_nodelay(true);
                let truth = truth.clone();
                let service = service_fn(move |request| answer(truth.clone(), request));
                tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(stream), service).await });
            }
        });
        Origin { address, _accepting: AbortOnDropHandle::new(accepting) }
    }
}

async fn answer(truth: Arc<Truth>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    // The version of when it was asked, as a database would give it; the answer comes when it may be old already.
    let found = Target::of(&path).map(|target| body(&path, truth.version(target)));
    tokio::time::sleep(ANSWERS_AFTER).await;
    let mut response = Response::new(Full::new(Bytes::from(found.clone().unwrap_or_default())));
    if found.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

/// What the origin takes to answer.
pub const ANSWERS_AFTER: Duration = Duration::from_millis(2);
