//! One connection, from its first octet to its end.

use super::detention::{DETAINED_FOR, is_flood};
use super::frames::Frames;
use super::framing::{Framed, Switch};
use super::http2;
use super::interim::WithInterim;
use super::loan::{Lent, Loan};
use super::shortcut::{Asked, Latest, Shortcut};
use super::stream::{ClientStream, HeadTimer, OPENING_BYTES, Protocol, QUIET_AFTER};
use super::streams::{Handed, Streams};
use super::{Options, Terms};
use crate::flow::{self, Answer, Body, Client, Outbox, Turn};
use crate::stats::Stats;
use crate::tasks::Tasks;
use futures_util::{FutureExt, TryFutureExt};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tracing::debug;

/// A connection of a client.
struct Connection<'a, A> {
    answer: Arc<A>,
    peer: SocketAddr,
    /// It is within TLS.
    is_secure: bool,
    options: Arc<Options>,
    terms: &'a Terms,
    tasks: &'a Tasks,
    stats: &'a Stats,
    /// Requests that it has brought.
    requests: Arc<AtomicU64>,
    /// The next response is the last.
    is_last: Arc<AtomicBool>,
}

/// Serves a connection until it ends, and gives back what is `held` for it then, or until `tasks` closes and what is under way has ended.
pub(super) async fn serve<A: Answer>(
    (tcp, peer): (TcpStream, SocketAddr),
    held: impl Send + 'static,
    answer: Arc<A>,
    terms: &Terms,
    tasks: &Tasks,
    stats: &Stats,
) {
    let options = terms.options.load_full();
    let acceptor = terms.acceptor();
    let is_secure = acceptor.is_some();
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
    let (requests, is_last) = Default::default();
    let connection = Connection { answer, peer, is_secure, options, terms, tasks, stats, requests, is_last };
    let opening = ClientStream::open(tcp, acceptor, connection.options.body_idle_timeout, held);
    let opened = tokio::select! {
        biased;
        // The handshake, where there is one, has no more time than all of it.
        opened = tokio::time::timeout(connection.options.header_read_timeout, opening) => opened,
        // Nothing was asked yet, but that may be on its way.
        () = connection.last_call(terms.crowd.asks_idlers()) => return,
    };
    let ended = match opened {
        Ok(Ok((stream, Protocol::Http1))) => connection.http1(stream).await,
        // Larger than what an idle connection of HTTP/1.1 is to take.
        Ok(Ok((stream, Protocol::Http2))) => Box::pin(connection.http2(stream)).await,
        Ok(Err(error)) => {
            // Who connects and leaves only wants to know whether somebody is there.
            if is_secure && error.kind() != io::ErrorKind::UnexpectedEof {
                stats.tls_failed.inc();
                debug!(%error, client = %peer, "tls_failed");
            }
            return;
        }
        Err(_) => return,
    };
    if let Err(error) = ended {
        // hyper has answered it, where it could, and nobody else has seen it.
        if error.is_parse() {
            stats.bad_requests.inc();
        }
        debug!(%error, client = %peer, "client_connection_broken");
    }
}

impl<A: Answer> Connection<'_, A> {
    async fn http1(&self, mut stream: ClientStream) -> hyper::Result<()> {
        loop {
            match self.until_idle(stream).await? {
                Some(idle) => stream = idle,
                None => return Ok(()),
            }
            let left = self.options.keep_alive_timeout.saturating_sub(QUIET_AFTER);
            let goes_on = tokio::select! {
                biased;
                readable = tokio::time::timeout(left, stream.readable()) => matches!(readable, Ok(Ok(()))),
                () = self.last_call(self.terms.crowd.asks_idlers()) => false,
            };
            if !goes_on {
                stream.close().await;
                return Ok(());
            }
        }
    }

    /// Serves what the client asks for, until it does so no more: gives the connection then, if it is not at its end.
    async fn until_idle(&self, stream: ClientStream) -> hyper::Result<Option<ClientStream>> {
        let (loan, outbox, switch, latest) = <(Arc<Loan>, Arc<Outbox>, Arc<Switch>, Arc<Latest>)>::default();
        let Options { keep_alive_timeout: idle, header_read_timeout: head, .. } = *self.options;
        let timer = HeadTimer::new(stream.reads(), idle, head, loan.clone());
        let framed = Framed::new(Lent::new(stream, loan.clone()), switch.clone());
        let asked = Asked {
            answer: self.answer.clone(),
            address: self.peer.ip().to_canonical(),
            is_secure: self.is_secure,
            is_last: self.is_last.clone(),
        };
        let io = WithInterim::new(Shortcut::new(framed, asked, loan.clone(), latest.clone()), outbox.clone());
        {
            let connection = http1::Builder::new()
                .timer(timer)
                .header_read_timeout(self.options.header_read_timeout)
                .max_headers(self.options.header_fields_max)
                .max_header_size(self.options.header_bytes_max)
                .max_buf_size(self.options.header_bytes_max.max(HTTP1_BUFFER_BYTES))
                .serve_connection(TokioIo::new(io), self.service(outbox, switch, latest, None))
                .with_upgrades();
            let (mut connection, mut last_call) = (pin!(connection), pin!(self.last_call(self.terms.crowd.asks())));
            loop {
                tokio::select! {
                    // The end first: what it says of the responses counts for those that are made from here on.
                    biased;
                    () = last_call.as_mut() => {
                        // An idle connection ends with this at once, and hyper does not know of all that is being answered.
                        let answered = poll_fn(|cx| match connection.as_mut().poll(cx) {
                            Poll::Ready(ended) => Poll::Ready(Some(ended)),
                            Poll::Pending if loan.is_answering() => Poll::Pending,
                            Poll::Pending => Poll::Ready(None),
                        });
                        if let Some(ended) = answered.await {
                            return ended.map(|()| None);
                        }
                        connection.as_mut().graceful_shutdown();
                        return connection.await.map(|()| None);
                    }
                    () = loan.quiet.notified() => {
                        if self.is_last.load(Ordering::Relaxed) || !loan.recall() {
                            continue;
                        }
                        // An idle connection ends with this at once.
                        connection.as_mut().graceful_shutdown();
                        match connection.as_mut().now_or_never() {
                            Some(ended) => break ended?,
                            None => loan.extend(),
                        }
                    }
                    ended = connection.as_mut() => return ended.map(|()| None),
                }
            }
        }
        Ok(loan.given_back())
    }

    async fn http2(&self, stream: ClientStream) -> hyper::Result<()> {
        let (address, detention) = (self.peer.ip(), &self.terms.detention);
        if !self.while_wanted(detention.admits(address)).await {
            return Ok(());
        }
        let loan = Arc::new(Loan::to_be_given_back());
        let frames = Frames::new(Lent::new(stream, loan.clone()), OPENING_BYTES, self.options.header_read_timeout);
        let has_flooded = frames.has_flooded();
        let ended = self.until_ended(frames).await;
        if let Some(stream) = loan.given_back() {
            // Who has vanished has done nothing.
            if let Err(why) = &ended
                && !loan.is_over()
                && !why.is_timeout()
            {
                self.stats.http2_detained.inc();
                let is_flood = has_flooded.load(Ordering::Relaxed) || is_flood(why);
                let _detained = detention.detain(address, is_flood);
                self.while_wanted(tokio::time::sleep(DETAINED_FOR)).await;
            }
            self.while_wanted(stream.close()).await;
        }
        ended
    }

    /// Waits, unless the process is about to leave; `false` if somebody else needs the place.
    async fn while_wanted(&self, waiting: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = waiting => true,
            () = self.tasks.leaving() => true,
            () = self.terms.crowd.asks_idlers() => false,
        }
    }

    async fn until_ended(&self, frames: Frames<Lent>) -> hyper::Result<()> {
        let (moves, streams) = (frames.moves(), Streams::new(self.options.body_idle_timeout));
        let service = self.service(Arc::default(), Arc::default(), Arc::default(), Some(streams.live()));
        let service = service_fn(move |request| service.call(request).map_ok(|response| response.map(Handed::new)));
        let connection = http2::builder(&self.options, streams.clone()).serve_connection(TokioIo::new(frames), service);
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = self.tasks.closing() => {}
            () = self.terms.crowd.asks() => {}
            () = idle(&self.requests, self.options.keep_alive_timeout) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection => ended,
            // Its client closes windows, and answers pings for ever.
            () = streams.stuck(&moves) => Ok(()),
        }
    }

    /// Answers requests.
    fn service(
        &self,
        outbox: Arc<Outbox>,
        switch: Arc<Switch>,
        latest: Arc<Latest>,
        beside: Option<Arc<AtomicUsize>>,
    ) -> impl Answering + use<A> {
        let (answer, address, fields_max) = (self.answer.clone(), self.peer.ip().to_canonical(), self.options.header_fields_max);
        let (requests, is_last, is_secure) = (self.requests.clone(), self.is_last.clone(), self.is_secure);
        let bad_requests = self.stats.bad_requests.clone();
        service_fn(move |request: Request<Incoming>| {
            requests.fetch_add(1, Ordering::Relaxed);
            let (answer, outbox, switch, is_last) = (answer.clone(), outbox.clone(), switch.clone(), is_last.clone());
            let (beside, (octets, waited)) = (beside.clone(), latest.take());
            // hyper counts the fields of HTTP/1.1 alone.
            let refused = match request.headers().len() > fields_max {
                true => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
                false => http2::is_malformed(&request).then_some(StatusCode::BAD_REQUEST),
            };
            if refused.is_some() {
                bad_requests.inc();
            }
            async move {
                if let Some(status) = refused {
                    let mut refused = Response::new(Body::empty());
                    *refused.status_mut() = status;
                    return Ok(refused);
                }
                let asks_for_upgrade = request.headers().contains_key(UPGRADE) && request.body().is_end_stream();
                // RFC 9110 §15.2: HTTP/1.0 knows no interim responses. hyper writes HTTP/2 in frames that only it can make.
                let turn = (request.version() == Version::HTTP_11).then(|| outbox.begin());
                let client = Client { address, is_secure, interim: turn.as_ref().map(Turn::interim), octets, waited, beside };
                // In a place of its own: hyper would move it about, and a connection keep that much memory also while it is idle.
                let answered = pin!(Contained(Box::pin(answer.answer(request, client))));
                let mut response = match turn {
                    Some(turn) => turn.answer(answered).await,
                    None => answered.await,
                };
                let is_switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                // What came behind such a request was meant for the other protocol, or as the next request: nobody can tell.
                let is_in_doubt = asks_for_upgrade && !switch.answered(is_switched);
                // RFC 9112 §9.6: the client then sends no further request that nobody would answer.
                if (is_last.load(Ordering::Relaxed) || is_in_doubt) && !is_switched {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        })
    }

    /// Ends when a connection of HTTP/1 is to be closed. Its responses say before that there will be no further one; and a request that
    /// is on its way when that is decided is still answered.
    async fn last_call(&self, crowded: impl Future<Output = ()>) {
        let closing = async {
            self.tasks.leaving().await;
            self.is_last.store(true, Ordering::Relaxed);
            self.tasks.closing().await;
        };
        tokio::select! {
            () = closing => {}
            () = crowded => self.is_last.store(true, Ordering::Relaxed),
        }
        tokio::time::sleep(LAST_CALL).await;
    }
}

/// What hyper calls with each request.
trait Answering:
    Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static> + Send + 'static
{
}

impl<S> Answering for S where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static> + Send + 'static
{
}

/// Has a panic cost the request in which it happens, and nothing else of its connection. The log says where it was.
struct Contained<F>(Pin<Box<F>>);

impl<F: Future<Output = Response<Body>>> Future for Contained<F> {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(polled) => polled,
            // It is not polled again, only dropped; what requests share is whole after each step, or behind a lock that is left so.
            Err(_) => Poll::Ready(flow::internal()),
        }
    }
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
