//! One connection, from its first octet to its end.

use super::Options;
use super::interim::WithInterim;
use super::stream::{ClientStream, HeadTimer, Protocol};
use crate::flow::{Answer, Body, Client, Outbox, Turn};
use crate::tasks::Tasks;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tracing::debug;

/// Serves a connection until it ends, and gives back what is `held` for it then, or until `tasks` closes and what is under way has ended.
pub(super) async fn serve<A: Answer>(
    (tcp, peer): (TcpStream, SocketAddr),
    held: impl Send + 'static,
    answer: Arc<A>,
    options: &Options,
    tasks: &Tasks,
) {
    let _ = tcp.set_nodelay(true);
    let detecting = ClientStream::detect(tcp, options.body_idle_timeout, held);
    let detected = tokio::select! {
        biased;
        detected = tokio::time::timeout(options.header_read_timeout, detecting) => detected,
        // A connection on which nothing was asked yet has nothing that could be cut.
        () = tasks.closing() => return,
    };
    let Ok(Ok((stream, protocol))) = detected else {
        return;
    };
    let reads = stream.reads();
    let address = peer.ip().to_canonical();
    let outbox = Arc::new(Outbox::default());
    let written_from = outbox.clone();
    let requests = Arc::new(AtomicU64::new(0));
    let counted = requests.clone();
    let fields_max = options.header_fields_max;
    let service = service_fn(move |request: Request<Incoming>| {
        counted.fetch_add(1, Ordering::Relaxed);
        let (answer, outbox) = (answer.clone(), outbox.clone());
        async move {
            // hyper counts the fields of HTTP/1.1 alone.
            if request.headers().len() > fields_max {
                let mut refused = Response::new(Body::empty());
                *refused.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                return Ok(refused);
            }
            // RFC 9110 §15.2: HTTP/1.0 knows no interim responses. hyper writes HTTP/2 in frames that only it can make.
            let turn = (request.version() == Version::HTTP_11).then(|| outbox.begin());
            let client = Client { address, interim: turn.as_ref().map(Turn::interim) };
            let answered = pin!(answer.answer(request, client));
            Ok::<_, Infallible>(match turn {
                Some(turn) => turn.answer(answered).await,
                None => answered.await,
            })
        }
    });
    let ended = match protocol {
        Protocol::Http1 => {
            let timer = HeadTimer { reads, idle: options.keep_alive_timeout, head: options.header_read_timeout };
            let connection = http1::Builder::new()
                .timer(timer)
                .header_read_timeout(options.header_read_timeout)
                .max_headers(options.header_fields_max)
                .max_header_size(options.header_bytes_max)
                .max_buf_size(options.header_bytes_max.max(HTTP1_BUFFER_BYTES))
                .serve_connection(TokioIo::new(WithInterim::new(stream, written_from)), service)
                .with_upgrades();
            until_closed(pin!(connection), |connection| connection.graceful_shutdown(), tasks.closing()).await
        }
        Protocol::Http2 => {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(HTTP2_STREAMS_MAX)
                .max_header_list_size(u32::try_from(options.header_bytes_max).unwrap_or(u32::MAX))
                .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
                // A client that vanished without a word is found out by a ping that it does not answer.
                .keep_alive_interval(HTTP2_PING_EVERY)
                .keep_alive_timeout(options.header_read_timeout)
                .serve_connection(TokioIo::new(stream), service);
            let ending = async {
                tokio::select! {
                    () = tasks.closing() => {}
                    () = idle(&requests, options.keep_alive_timeout) => {}
                }
            };
            until_closed(pin!(connection), |connection| connection.graceful_shutdown(), ending).await
        }
    };
    if let Err(error) = ended {
        debug!(%error, client = %peer, "client_connection_broken");
    }
}

/// Drives a connection to its end; from `ending` on, it takes no new requests.
async fn until_closed<C: Future>(
    mut connection: Pin<&mut C>,
    shut_down: fn(Pin<&mut C>),
    ending: impl Future<Output = ()>,
) -> C::Output {
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = ending => {}
    }
    shut_down(connection.as_mut());
    connection.await
}

/// Ends when no request has come for so long. The requests that are under way then go on to their end.
async fn idle(requests: &AtomicU64, limit: Duration) {
    loop {
        let before = requests.load(Ordering::Relaxed);
        tokio::time::sleep(limit).await;
        if requests.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

/// hyper's read buffer grows to this size for bodies.
const HTTP1_BUFFER_BYTES: usize = 64 << 10;

/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 256;

/// What is buffered for one HTTP/2 stream towards a slow client.
const HTTP2_SEND_BUFFER_BYTES: usize = 256 << 10;

/// How often an HTTP/2 client is asked whether it is still there.
const HTTP2_PING_EVERY: Duration = Duration::from_secs(30);
