//! One connection, from its first octet to its end.

use super::Terms;
use super::interim::WithInterim;
use super::stream::{ClientStream, HeadTimer, Protocol};
use crate::flow::{self, Answer, Body, Client, Outbox, Turn};
use crate::tasks::Tasks;
use futures_util::FutureExt;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use socket2::SockRef;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tracing::debug;

/// Serves a connection until it ends, and gives back what is `held` for it then, or until `tasks` closes and what is under way has ended.
pub(super) async fn serve<A: Answer>(
    (tcp, peer): (TcpStream, SocketAddr),
    held: impl Send + 'static,
    answer: Arc<A>,
    terms: &Terms,
    tasks: &Tasks,
) {
    let options = terms.options.load_full();
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
    let detecting = ClientStream::detect(tcp, options.body_idle_timeout, held);
    let detected = tokio::select! {
        biased;
        detected = tokio::time::timeout(options.header_read_timeout, detecting) => detected,
        // Nothing was asked yet, but that may be on its way.
        () = tasks.closing().then(|()| tokio::time::sleep(LAST_CALL)) => return,
        () = terms.crowded.notified().then(|()| tokio::time::sleep(LAST_CALL)) => return,
    };
    let Ok(Ok((stream, protocol))) = detected else {
        return;
    };
    let reads = stream.reads();
    let address = peer.ip().to_canonical();
    let outbox = Arc::new(Outbox::default());
    let written_from = outbox.clone();
    let requests = Arc::new(AtomicU64::new(0));
    let is_last = Arc::new(AtomicBool::new(false));
    let says_so = is_last.clone();
    let counted = requests.clone();
    let fields_max = options.header_fields_max;
    let service = service_fn(move |request: Request<Incoming>| {
        counted.fetch_add(1, Ordering::Relaxed);
        let (answer, outbox, says_so) = (answer.clone(), outbox.clone(), says_so.clone());
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
            let answered = pin!(Contained { answering: answer.answer(request, client) });
            let mut response = match turn {
                Some(turn) => turn.answer(answered).await,
                None => answered.await,
            };
            // RFC 9112 §9.6: the client then sends no further request that nobody would answer.
            if says_so.load(Ordering::Relaxed) && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
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
            let ending = last_call(&is_last, tasks, &terms.crowded);
            until_closed(pin!(connection), |connection| connection.graceful_shutdown(), ending).await
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
                    () = terms.crowded.notified() => {}
                    () = idle(&requests, options.keep_alive_timeout) => {}
                }
            };
            // Larger than what an idle connection of HTTP/1.1 is to take.
            Box::pin(async { until_closed(pin!(connection), |connection| connection.graceful_shutdown(), ending).await }).await
        }
    };
    if let Err(error) = ended {
        debug!(%error, client = %peer, "client_connection_broken");
    }
}

pin_project! {
    /// Has a panic cost the request in which it happens, and nothing else of its connection. The log says where it was.
    struct Contained<F> {
        #[pin]
        answering: F,
    }
}

impl<F: Future<Output = Response<Body>>> Future for Contained<F> {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        let answering = self.project().answering;
        match catch_unwind(AssertUnwindSafe(|| answering.poll(cx))) {
            Ok(polled) => polled,
            // It is not polled again, only dropped; what requests share is whole after each step, or behind a lock that is left so.
            Err(_) => Poll::Ready(flow::internal()),
        }
    }
}

/// Drives a connection to its end; from `ending` on, it takes no new requests.
async fn until_closed<C: Future>(
    mut connection: Pin<&mut C>,
    shut_down: fn(Pin<&mut C>),
    ending: impl Future<Output = ()>,
) -> C::Output {
    tokio::select! {
        // The end first: what it says of the responses counts for those that are made from here on.
        biased;
        () = ending => {}
        ended = connection.as_mut() => return ended,
    }
    shut_down(connection.as_mut());
    connection.await
}

/// Ends when a connection of HTTP/1 is to be closed. Its responses say before that there will be no further one; and a request that
/// is on its way when that is decided is still answered.
async fn last_call(is_last: &AtomicBool, tasks: &Tasks, crowded: &Notify) {
    let closing = async {
        tasks.leaving().await;
        is_last.store(true, Ordering::Relaxed);
        tasks.closing().await;
    };
    tokio::select! {
        () = closing => {}
        () = crowded.notified() => is_last.store(true, Ordering::Relaxed),
    }
    tokio::time::sleep(LAST_CALL).await;
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

/// How long an idle connection is kept for a request that the client may have sent before it learnt that there is to be none. Longer
/// than the way to most clients; whoever waits for the process to end can wait for it.
const LAST_CALL: Duration = Duration::from_millis(500);

/// The system takes so many octets that it cannot send yet, rather than megabytes for each client that is slow.
const UNSENT_BYTES_MAX: u32 = 256 << 10;

/// hyper's read buffer grows to this size for bodies.
const HTTP1_BUFFER_BYTES: usize = 64 << 10;

/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 256;

/// What is buffered for one HTTP/2 stream towards a slow client.
const HTTP2_SEND_BUFFER_BYTES: usize = 256 << 10;

/// How often an HTTP/2 client is asked whether it is still there.
const HTTP2_PING_EVERY: Duration = Duration::from_secs(30);
