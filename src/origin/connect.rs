//! Connections to the origin: TCP, TLS, Unix sockets.

use super::lines::Lines;
#[cfg(feature = "tls")]
use super::tls;
use super::{Address, Options};
use http::Uri;
use http::uri::Authority;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
#[cfg(feature = "tls")]
use tokio_rustls::client::TlsStream;
use tower_service::Service;

/// Connects to one address of the configuration, whatever a request's URI says.
#[derive(Clone)]
pub(super) struct Connector {
    target: Arc<Target>,
    limit: Duration,
}

struct Target {
    address: Address,
    /// HTTP/2 without having agreed on it.
    speaks_http2_unasked: bool,
    #[cfg(feature = "tls")]
    tls: Option<tls::Client>,
    /// Connections made so far.
    made: AtomicUsize,
    /// With which of the IP addresses of a name the next connection begins.
    turn: AtomicUsize,
}

/// A connection to the origin.
pub(super) struct OriginStream {
    io: Box<dyn Io>,
    past: Past,
    lines: Lines,
}

/// What a connection has been through, so that one that died idle is told from one that died of its request.
#[derive(Clone)]
pub(super) struct Past(Arc<Events>);

struct Events {
    /// How many connections had been made before it.
    number: usize,
    is_h2: bool,
    reads: AtomicUsize,
    /// How many reads there had been at the latest write.
    reads_at_write: AtomicUsize,
    /// Nothing that comes over it is believed any more.
    is_forsaken: AtomicBool,
}

/// What a connection reads and writes with.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// Whether octets have come that nobody has read.
    fn has_unread(&self) -> bool;
}

impl Io for TcpStream {
    fn has_unread(&self) -> bool {
        has_unread(SockRef::from(self))
    }
}

impl Io for UnixStream {
    fn has_unread(&self) -> bool {
        has_unread(SockRef::from(self))
    }
}

#[cfg(feature = "tls")]
impl Io for TlsStream<TcpStream> {
    /// What has come may be a ticket for the next session.
    fn has_unread(&self) -> bool {
        false
    }
}

fn has_unread(socket: SockRef<'_>) -> bool {
    matches!(socket.peek(&mut [MaybeUninit::uninit()]), Ok(1..))
}

impl Connector {
    pub(super) fn new(address: &Address, options: &Options) -> io::Result<Connector> {
        let target = Target {
            address: address.clone(),
            speaks_http2_unasked: options.http2 && !matches!(address, Address::Https(_)),
            #[cfg(feature = "tls")]
            tls: match address {
                Address::Https(authority) => Some(tls::Client::new(authority.host(), options)?),
                _ => None,
            },
            made: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
        };
        Ok(Connector { target: Arc::new(target), limit: options.connect_timeout })
    }

    /// Whether HTTP/2 is spoken without having been agreed on, as it is with https.
    pub(super) fn speaks_http2_unasked(&self) -> bool {
        self.target.speaks_http2_unasked
    }

    /// How many connections were made so far.
    pub(super) fn made(&self) -> usize {
        self.target.made.load(Ordering::Relaxed)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<OriginStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (target, limit) = (self.target.clone(), self.limit);
        Box::pin(async move {
            match tokio::time::timeout(limit, target.connect(limit)).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
            }
        })
    }
}

impl Target {
    async fn connect(&self, limit: Duration) -> io::Result<OriginStream> {
        match &self.address {
            Address::Unix(path) => Ok(self.connected(unix(path).await?, self.speaks_http2_unasked)),
            Address::Http(authority) => self.connect_to_name(authority, 80, limit).await,
            Address::Https(authority) => self.connect_to_name(authority, 443, limit).await,
        }
    }

    /// A name may stand for several IP addresses: one after the other is tried, each with its share of the time that is left,
    /// so that one that swallows packets leaves some for the others.
    async fn connect_to_name(&self, authority: &Authority, default_port: u16, limit: Duration) -> io::Result<OriginStream> {
        let until = Instant::now() + limit;
        // An authority writes an IPv6 address in brackets; the resolver does not.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(default_port);
        // Asked anew for each connection: what a name stands for changes while the process runs.
        let mut found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        if found.len() > 1 {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % found.len();
            found.rotate_left(first);
        }
        self.connect_to_any(&found, until).await
    }

    async fn connect_to_any(&self, found: &[SocketAddr], until: Instant) -> io::Result<OriginStream> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
        for (index, ip) in found.iter().enumerate() {
            let share = until.saturating_duration_since(Instant::now()) / (found.len() - index) as u32;
            match tokio::time::timeout(share, self.connect_to(*ip)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = io::Error::from(io::ErrorKind::TimedOut),
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, ip: SocketAddr) -> io::Result<OriginStream> {
        let tcp = TcpStream::connect(ip).await?;
        tcp.set_nodelay(true)?;
        match &self.address {
            #[cfg(feature = "tls")]
            Address::Https(_) => {
                let client = self.tls.as_ref().expect("made together with the https address");
                let (stream, is_h2) = client.connect(tcp).await?;
                Ok(self.connected(stream, is_h2))
            }
            #[cfg(not(feature = "tls"))]
            Address::Https(_) => Err(io::Error::other("this build has no TLS")),
            _ => Ok(self.connected(tcp, self.speaks_http2_unasked)),
        }
    }

    fn connected(&self, io: impl Io + 'static, is_h2: bool) -> OriginStream {
        let events = Events {
            number: self.made.fetch_add(1, Ordering::Relaxed),
            is_h2,
            reads: AtomicUsize::new(0),
            reads_at_write: AtomicUsize::new(0),
            is_forsaken: AtomicBool::new(false),
        };
        OriginStream { io: Box::new(io), past: Past(Arc::new(events)), lines: Lines::default() }
    }
}

async fn unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}

/// Whether connecting failed for want of time.
pub(super) fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Past {
    /// The connection on which an error occurred; `None` if there was none.
    pub(super) fn of(error: &legacy::Error) -> Option<Past> {
        let mut extras = http::Extensions::new();
        error.connect_info()?.get_extras(&mut extras);
        extras.remove()
    }

    /// Whether it was idle when a request was given to it that began after so many connections had been `made`, and then said
    /// nothing at all: it had died, or was dying.
    pub(super) fn died_idle(&self, made: usize) -> bool {
        let Events { number, is_h2, reads, reads_at_write, .. } = &*self.0;
        let (reads, reads_at_write) = (reads.load(Ordering::Relaxed), reads_at_write.load(Ordering::Relaxed));
        let is_older = *number < made;
        // Over HTTP/2, what was read may have been for others.
        if *is_h2 { is_older } else { reads == reads_at_write && (is_older || reads > 0) }
    }

    /// Ends it for its reader, so that hyper drops it, at the latest before it sends another request over it.
    pub(super) fn forsake(&self) {
        self.0.is_forsaken.store(true, Ordering::Relaxed);
    }
}

impl Connection for OriginStream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.past.clone());
        if self.past.0.is_h2 { connected.negotiated_h2() } else { connected }
    }
}

impl OriginStream {
    /// Takes note of what is to be written. It is an error to write a request while octets are there that no request has asked for: what
    /// comes behind a response would be taken for the next one, and be given to whoever waits for that.
    fn note_write(&mut self, octets: &[u8]) -> io::Result<()> {
        let Events { reads, reads_at_write, is_h2, .. } = &*self.past.0;
        let reads = reads.load(Ordering::Relaxed);
        reads_at_write.store(reads, Ordering::Relaxed);
        if !is_h2 && self.lines.note_written(octets) && reads > 0 && self.io.has_unread() {
            self.past.forsake();
            return Err(io::Error::other("there was more than a response on the connection"));
        }
        Ok(())
    }
}

impl AsyncRead for OriginStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.past.0.is_forsaken.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.past.0.reads.fetch_add(1, Ordering::Relaxed);
        }
        let this = &mut *self;
        if let Err(believed) = this.lines.read(&buffer.filled()[before..]) {
            buffer.set_filled(before + believed);
            let room = buffer.remaining();
            buffer.put_slice(&NO_HEAD[..NO_HEAD.len().min(room)]);
            this.past.forsake();
        }
        polled
    }
}

impl AsyncWrite for OriginStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.note_write(octets)?;
        Pin::new(&mut self.io).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.note_write(pieces.first().map_or(&[], |piece| piece))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// What hyper takes for no head, wherever in one it stands.
const NO_HEAD: &[u8] = b"\r\0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    #[tokio::test]
    async fn where_connecting_to_one_ip_address_fails_the_next_is_tried() {
        let connector = Connector::new(&"http://name".parse().unwrap(), &Options::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = listener.local_addr().unwrap();
        // Nobody listens on the port of one that is closed again.
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let until = || Instant::now() + Duration::from_secs(5);
        let check = async |found: &[SocketAddr], connects: bool| {
            assert_eq!(connector.target.connect_to_any(found, until()).await.is_ok(), connects, "{found:?}");
        };
        check(&[alive], true).await;
        check(&[dead, alive], true).await;
        check(&[dead, dead, alive], true).await;
        check(&[dead], false).await;
        check(&[], false).await;
    }

    #[tokio::test]
    async fn an_ip_address_that_swallows_packets_leaves_time_for_the_next() {
        let connector = Connector::new(&"http://name".parse().unwrap(), &Options::default()).unwrap();
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(1).unwrap();
        let full_address = full.local_addr().unwrap();
        // Nobody takes these connections, and when its queue is full, the kernel takes no more.
        let mut queued = Vec::new();
        while let Ok(connected) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(full_address)).await {
            queued.push(connected.unwrap());
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let found = [full_address, listener.local_addr().unwrap()];
        let until = Instant::now() + Duration::from_secs(2);
        assert!(connector.target.connect_to_any(&found, until).await.is_ok());
        assert!(Instant::now() < until);
    }

    #[tokio::test]
    async fn no_request_is_written_while_there_is_more_than_a_response() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let connector = Connector::new(&address, &Options::default()).unwrap();
        let mut ours = connector.target.connect(Duration::from_secs(5)).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
        const RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
        let mut read = [0; RESPONSE.len()];
        for _ in 0..2 {
            ours.write_all(REQUEST).await.unwrap();
            theirs.write_all(RESPONSE).await.unwrap();
            ours.read_exact(&mut read).await.unwrap();
        }
        theirs.write_all(RESPONSE).await.unwrap();
        ours.write_all(b"content of a request that has begun").await.unwrap();
        assert!(ours.write_all(REQUEST).await.is_err());
        assert_eq!(ours.read(&mut read).await.unwrap(), 0, "nothing of it is believed");
    }
}
