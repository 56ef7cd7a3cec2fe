//! An origin that answers as the test says, when the test says.

use super::{Relay, soon};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sidecache::origin::Address;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// The origin; clones are the same one.
#[derive(Clone)]
pub struct Origin {
    pub address: Address,
    script: Arc<Script>,
    _listening: Option<Arc<Listening>>,
}

struct Listening(AbortHandle);

#[derive(Default)]
struct Script {
    replies: Mutex<HashMap<String, Lines>>,
    seen: Mutex<Vec<Seen>>,
    arrivals: watch::Sender<usize>,
}

/// The replies of one path: each is given once, the last one for ever.
#[derive(Default)]
struct Lines {
    coming: VecDeque<Reply>,
    present: Option<Reply>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// The path and query, octet for octet.
    pub target: String,
    pub version: http::Version,
    pub fields: HeaderMap,
}

/// What the origin says.
#[derive(Clone)]
pub struct Reply {
    status: StatusCode,
    fields: HeaderMap,
    content: Content,
    gate: Option<Gate>,
}

#[derive(Clone)]
enum Content {
    Whole(Bytes),
    /// What the test sends, while it sends it.
    Sent(Arc<Mutex<Option<SentBody>>>),
    /// The request's own body, while it comes.
    Echo,
    /// All fields of the request.
    Reflected,
}

/// A door before which the origin's replies wait.
#[derive(Clone)]
pub struct Gate(watch::Sender<bool>);

/// The test's end of a body that it sends piece by piece. Dropping it ends the body.
pub struct Sending(mpsc::UnboundedSender<Sent>);

type Sent = Result<Frame<Bytes>, io::Error>;

type OriginBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

impl Origin {
    /// Speaks HTTP/1 over TCP.
    pub async fn start() -> Origin {
        let (listener, authority) = tcp().await;
        Origin::listen(Address::Http(authority.parse().unwrap()), Protocol::Http1, Listener::Tcp(listener))
    }

    /// Speaks HTTP/2 over TCP, and nothing else.
    pub async fn http2() -> Origin {
        let (listener, authority) = tcp().await;
        Origin::listen(Address::Http(authority.parse().unwrap()), Protocol::Http2, Listener::Tcp(listener))
    }

    /// Speaks HTTP/1 over a Unix socket.
    pub fn unix(path: &Path) -> Origin {
        let listener = UnixListener::bind(path).unwrap();
        Origin::listen(Address::Unix(path.to_owned()), Protocol::Http1, Listener::Unix(listener))
    }

    /// Speaks HTTP/1 over TLS, as `localhost`.
    pub async fn tls(acceptor: TlsAcceptor) -> Origin {
        let (listener, authority) = tcp().await;
        let authority = authority.replace("127.0.0.1", "localhost");
        Origin::listen(Address::Https(authority.parse().unwrap()), Protocol::Http1, Listener::Tls(listener, acceptor))
    }

    fn listen(address: Address, protocol: Protocol, listener: Listener) -> Origin {
        let script = Arc::new(Script::default());
        let play = script.clone();
        let listening = tokio::spawn(async move {
            loop {
                let Ok(stream) = listener.accept().await else { continue };
                tokio::spawn(converse(stream, protocol, play.clone()));
            }
        });
        Origin { address, script, _listening: Some(Arc::new(Listening(listening.abort_handle()))) }
    }

    /// The same origin, reached through a relay.
    pub async fn through_relay(&self) -> (Origin, Relay) {
        let Address::Http(authority) = &self.address else { panic!("the origin is on a socket of its own kind") };
        let relay = Relay::to(authority.as_str().parse().unwrap()).await;
        let address = Address::Http(relay.address.to_string().parse().unwrap());
        (Origin { address, ..self.clone() }, relay)
    }

    /// An address at which somebody else answers, or nobody.
    pub fn elsewhere(address: &Address) -> Origin {
        Origin { address: address.clone(), script: Arc::default(), _listening: None }
    }

    /// Adds a reply to the script of a path: each is given once, the last one for ever.
    pub fn reply(&self, path: &str, reply: impl Into<Reply>) {
        let mut replies = self.script.replies.lock().unwrap();
        replies.entry(path.to_owned()).or_default().coming.push_back(reply.into());
    }

    /// From now on a path has this, whatever the script said.
    pub fn has(&self, path: &str, reply: impl Into<Reply>) {
        let mut replies = self.script.replies.lock().unwrap();
        replies.insert(path.to_owned(), Lines { coming: VecDeque::from([reply.into()]), present: None });
    }

    /// How many requests came for a path.
    pub fn count(&self, path: &str) -> usize {
        self.seen(path).len()
    }

    /// The requests that came for a path.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.script.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.path() == path).cloned().collect()
    }

    /// The request that came last for a path.
    #[track_caller]
    pub fn last(&self, path: &str) -> Seen {
        self.seen(path).pop().unwrap_or_else(|| panic!("nobody asked the origin for {path}"))
    }

    /// Waits until so many requests have come for a path.
    #[track_caller]
    pub fn arrived(&self, path: &str, number: usize) -> impl Future<Output = ()> {
        let mut arrivals = self.script.arrivals.subscribe();
        soon(&format!("request {number} for {path}"), async move {
            while self.count(path) < number {
                arrivals.changed().await.unwrap();
            }
        })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Seen {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// All values of a field, joined; `None` if it was not there.
    pub fn field(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.fields.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (!values.is_empty()).then(|| values.join(" | "))
    }
}

impl Reply {
    /// A 200 with this body.
    pub fn new(body: impl Into<Bytes>) -> Reply {
        Reply { status: StatusCode::OK, fields: HeaderMap::new(), content: Content::Whole(body.into()), gate: None }
    }

    /// A 200 whose body the test sends.
    pub fn sending() -> (Reply, Sending) {
        let (sending, body) = Sending::new();
        let content = Content::Sent(Arc::new(Mutex::new(Some(body))));
        (Reply { content, ..Reply::new("") }, sending)
    }

    /// A 200 whose body is the request's.
    pub fn echo() -> Reply {
        Reply { content: Content::Echo, ..Reply::new("") }
    }

    /// A 200 whose body is the request's fields, all of them.
    pub fn reflecting() -> Reply {
        Reply { content: Content::Reflected, ..Reply::new("") }
    }

    pub fn status(self, status: u16) -> Reply {
        Reply { status: StatusCode::from_u16(status).unwrap(), ..self }
    }

    /// Adds a field.
    pub fn with(mut self, name: &str, value: &str) -> Reply {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.fields.append(name.parse::<HeaderName>().unwrap(), value);
        self
    }

    /// Adds `Cache-Control`.
    pub fn cache(self, directives: &str) -> Reply {
        self.with("cache-control", directives)
    }

    /// Is not given before the gate is open.
    pub fn behind(self, gate: &Gate) -> Reply {
        Reply { gate: Some(gate.clone()), ..self }
    }

    async fn give(self, request: Request<Incoming>) -> Response<OriginBody> {
        if let Some(gate) = self.gate {
            gate.passed().await;
        }
        let body = match self.content {
            Content::Whole(whole) => Full::new(whole).map_err(Into::into).boxed_unsync(),
            Content::Echo => request.into_body().map_err(Into::into).boxed_unsync(),
            Content::Reflected => {
                let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}\n", value.to_str().unwrap_or("-"));
                let lines: String = request.headers().iter().map(line).collect();
                Full::new(Bytes::from(lines)).map_err(Into::into).boxed_unsync()
            }
            Content::Sent(body) => {
                let body = body.lock().unwrap().take().expect("what a test sends is sent once");
                body.map_err(Into::into).boxed_unsync()
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.fields;
        response
    }
}

impl From<String> for Reply {
    fn from(body: String) -> Reply {
        Reply::new(body)
    }
}

impl From<&'static str> for Reply {
    fn from(body: &'static str) -> Reply {
        Reply::new(body)
    }
}

impl Gate {
    pub fn closed() -> Gate {
        Gate(watch::Sender::new(false))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        let _ = self.0.subscribe().wait_for(|is_open| *is_open).await;
    }
}

impl Sending {
    /// The test's end of a body, and the body.
    pub fn new() -> (Sending, SentBody) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Sending(sender), SentBody(receiver))
    }

    pub fn send(&self, chunk: impl Into<Bytes>) {
        let _ = self.0.send(Ok(Frame::data(chunk.into())));
    }

    /// Ends the body with trailers.
    pub fn trailers(self, name: &'static str, value: &'static str) {
        let trailers = [(HeaderName::from_static(name), HeaderValue::from_static(value))].into_iter().collect();
        let _ = self.0.send(Ok(Frame::trailers(trailers)));
    }

    /// Breaks the connection in the middle of the body.
    pub fn cut(self) {
        let _ = self.0.send(Err(io::Error::other("cut by the test")));
    }

    /// Waits until the sidecar no longer wants the body.
    #[track_caller]
    pub fn unwanted(&self) -> impl Future<Output = ()> {
        soon("the end of the interest in a body", self.0.closed())
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    Tls(TcpListener, TlsAcceptor),
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

async fn tcp() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    (listener, authority)
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Io>> {
        Ok(match self {
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
            Listener::Unix(listener) => Box::new(listener.accept().await?.0),
            Listener::Tls(listener, acceptor) => Box::new(acceptor.accept(listener.accept().await?.0).await?),
        })
    }
}

async fn converse(stream: Box<dyn Io>, protocol: Protocol, script: Arc<Script>) {
    let service = service_fn(move |request| {
        let script = script.clone();
        async move { Ok::<_, Infallible>(script.answer(request).await) }
    });
    let io = TokioIo::new(stream);
    // The test's clock is not the system's, so a date is said by the test or not at all.
    let _ = match protocol {
        Protocol::Http1 => http1::Builder::new().auto_date_header(false).serve_connection(io, service).await,
        Protocol::Http2 => http2::Builder::new(TokioExecutor::new()).auto_date_header(false).serve_connection(io, service).await,
    };
}

impl Script {
    async fn answer(&self, request: Request<Incoming>) -> Response<OriginBody> {
        let seen = Seen::of(&request);
        let reply = {
            let mut replies = self.replies.lock().unwrap();
            let lines = replies.get_mut(seen.path());
            lines.and_then(|lines| {
                lines.present = lines.coming.pop_front().or(lines.present.take());
                lines.present.clone()
            })
        };
        self.seen.lock().unwrap().push(seen);
        self.arrivals.send_modify(|number| *number += 1);
        match reply {
            Some(reply) => reply.give(request).await,
            None => {
                let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }
}

impl Seen {
    fn of(request: &Request<Incoming>) -> Seen {
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        Seen {
            method: request.method().to_string(),
            target: target.to_owned(),
            version: request.version(),
            fields: request.headers().clone(),
        }
    }
}

/// A body of what a channel brings.
pub struct SentBody(mpsc::UnboundedReceiver<Sent>);

impl Body for SentBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Sent>> {
        self.0.poll_recv(cx)
    }
}
