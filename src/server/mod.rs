//! Listeners: connections in, their limits, and how they end.
//!
//! | file | what |
//! |---|---|
//! | `connection` | one connection, HTTP/1.1 or HTTP/2, to its end |
//! | `descriptors` | how many descriptors there are, and for whom |
//! | `detention` | clients of HTTP/2 that were thrown out, and have to wait |
//! | `frames` | the frames of an HTTP/2 client, looked at as they pass |
//! | `http2` | the limits of HTTP/2, and requests that are malformed |
//! | `interim` | interim responses, written between the others |
//! | `loan` | a connection, taken back from hyper while it is idle |
//! | `stream` | its octets, with the limits on how long a client may dawdle |
//! | `streams` | the streams of an HTTP/2 connection, and those that nobody reads |
//! | `tls`, `wire` | certificates and keys; the octets on the wire, plain or within TLS |

mod account;
mod connection;
pub mod descriptors;
mod detention;
mod frames;
mod framing;
mod http2;
mod interim;
mod loan;
mod shortcut;
mod stream;
mod streams;
mod tls;
mod wire;

#[doc(hidden)]
pub use framing::read_in_pieces;
pub use tls::{Acceptor, TlsError, TlsFiles};

use crate::flow::Answer;
use crate::stats::Stats;
use crate::tasks::Tasks;
use arc_swap::ArcSwap;
use detention::Detention;
use prometheus::IntGauge;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};

/// How the listeners treat their clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The files of its TLS; `None` for plain text.
    pub tls: Option<TlsFiles>,
    /// Lets further processes listen at the same address, among which the system distributes connections: one that is to replace this.
    pub reuse_port: bool,
    /// Threads that serve requests; `None` is one a core that the process may use.
    pub workers: Option<usize>,
    /// From the first octet of a request's head to its last; the first head of a connection counts from its start.
    pub header_read_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub keep_alive_timeout: Duration,
    /// How long a client may send nothing of a request's body, or take nothing of a response.
    pub body_idle_timeout: Duration,
    /// Connections at once; more wait in the system's queue.
    pub connections_max: usize,
    /// Fields in a request's head.
    pub header_fields_max: usize,
    /// Octets in a request's head.
    pub header_bytes_max: usize,
    /// Requests at once on one HTTP/2 connection.
    pub http2_streams_max: usize,
    /// After SIGTERM: how long requests are still taken, unready, so that a load balancer can look elsewhere.
    pub drain_wait: Duration,
    /// After that: how long what is in flight may take.
    pub drain_timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            tls: None,
            reuse_port: false,
            workers: None,
            header_read_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            body_idle_timeout: Duration::from_secs(60),
            connections_max: 10_000,
            header_fields_max: 100,
            header_bytes_max: 64 << 10,
            http2_streams_max: 256,
            drain_wait: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Options {
    /// The same for those who look after it, at another address.
    pub fn for_operators(&self, listen: SocketAddr, tls: Option<TlsFiles>) -> Options {
        Options { listen, tls, connections_max: self.connections_max.min(descriptors::OPERATORS_MAX), ..self.clone() }
    }
}

/// A socket that listens, and does not accept yet.
pub struct Listener {
    listener: TcpListener,
    terms: Terms,
}

/// How a listener treats its clients, to be changed while it listens. Clones are handles to the same.
#[derive(Clone)]
pub struct Terms {
    options: Arc<ArcSwap<Options>>,
    acceptor: Option<Arc<ArcSwap<Acceptor>>>,
    /// One a connection.
    places: Arc<Semaphore>,
    crowd: Arc<Crowd>,
    detention: Arc<Detention>,
}

/// Asks connections to end, since others wait for their places: those that are idle first, and each after what it is doing.
#[derive(Default)]
struct Crowd {
    idle: Notify,
    busy: Notify,
    /// Connections that wait to be asked while they are idle.
    idlers: AtomicUsize,
}

impl Listener {
    /// Binds the address, so that a port in use is known at once.
    pub fn bind(options: Options, acceptor: Option<Acceptor>) -> io::Result<Listener> {
        let socket = if options.listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(options.reuse_port)?;
        socket.bind(options.listen)?;
        Ok(Listener { listener: socket.listen(BACKLOG)?, terms: Terms::new(options, acceptor) })
    }

    /// Takes a socket that somebody else has bound, and may give to others as well.
    pub fn inherit(socket: std::net::TcpListener, options: Options, acceptor: Option<Acceptor>) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        Ok(Listener { listener: TcpListener::from_std(socket)?, terms: Terms::new(options, acceptor) })
    }

    /// The address, with the port that the system chose where the configuration says 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// How it treats its clients.
    pub fn terms(&self) -> Terms {
        self.terms.clone()
    }

    /// Accepts connections and lets `answer` answer their requests, until `tasks` closes.
    pub async fn serve<A: Answer>(self, answer: Arc<A>, stats: Arc<Stats>, tasks: Tasks) {
        let serve = |(stream, peer), place: Option<OwnedSemaphorePermit>| {
            let (answer, terms, closing) = (answer.clone(), self.terms.clone(), tasks.clone());
            let (held, stats) = ((Open::new(&stats), place), stats.clone());
            tasks.spawn(async move { connection::serve((stream, peer), held, answer, &terms, &closing, &stats).await });
        };
        let (mut is_failing, mut pressure) = (false, Pressure::default());
        loop {
            let accepted = tokio::select! {
                biased;
                () = tasks.closing() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok(connection) => {
                    if std::mem::take(&mut is_failing) {
                        info!("accepting_again");
                    }
                    // One that finds no place waits here, and the others behind it in the system's queue.
                    let place = tokio::select! {
                        biased;
                        place = self.terms.place(&mut pressure) => Some(place),
                        () = tasks.closing() => None,
                    };
                    serve(connection, place);
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!(%error, "accept_failed");
                    }
                    // Out of descriptors, mostly: the connection stays queued, so trying again at once would spin.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // With the socket, the system would reset the connections that it has queued. The system is asked itself: what the runtime knows of
        // the queue may be a moment old.
        let Ok(queue) = self.listener.into_std() else { return };
        loop {
            match queue.accept() {
                Ok((stream, peer)) => {
                    if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                        serve((stream, peer), None);
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    }
}

/// How many connections are asked to make room for one, the more the longer others have waited for places without a break.
struct Pressure {
    connections: usize,
    waited: Option<Instant>,
}

impl Default for Pressure {
    fn default() -> Pressure {
        Pressure { connections: 1, waited: None }
    }
}

impl Terms {
    fn new(options: Options, acceptor: Option<Acceptor>) -> Terms {
        let places = Arc::new(Semaphore::new(options.connections_max));
        let acceptor = acceptor.map(|acceptor| Arc::new(ArcSwap::from_pointee(acceptor)));
        let options = Arc::new(ArcSwap::from_pointee(options));
        Terms { acceptor, options, places, crowd: Arc::default(), detention: Arc::default() }
    }

    /// Takes a place for a connection. Where there is none, others are asked to make room.
    async fn place(&self, pressure: &mut Pressure) -> OwnedSemaphorePermit {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return place;
        }
        let since_waited = pressure.waited.map(|waited| waited.elapsed());
        pressure.connections = match since_waited.is_some_and(|since| since < CROWDED_FOR) {
            true => (pressure.connections * 2).min(ASKED_MAX),
            false => 1,
        };
        let place = loop {
            (0..pressure.connections).for_each(|_| self.crowd.ask());
            match tokio::time::timeout(ASKED_AGAIN, self.places.clone().acquire_owned()).await {
                Ok(place) => break place.expect("the semaphore is never closed"),
                Err(_) => pressure.connections = (pressure.connections * 2).min(ASKED_MAX),
            }
        };
        pressure.waited = Some(Instant::now());
        place
    }

    /// What a connection that is accepted now is to shake hands with; `None` for plain text.
    fn acceptor(&self) -> Option<Acceptor> {
        self.acceptor.as_ref().map(|acceptor| Acceptor::clone(&acceptor.load()))
    }

    /// Treats connections that are accepted from now on otherwise; plain text and TLS do not take each other's place. Where there are more than are allowed now, no further one is
    /// accepted before enough of them have ended.
    pub fn adopt(&self, options: Options, acceptor: Option<Acceptor>, tasks: &Tasks) {
        if let (Some(present), Some(acceptor)) = (&self.acceptor, acceptor) {
            present.store(Arc::new(acceptor));
        }
        let wanted = options.connections_max;
        let before = self.options.swap(Arc::new(options)).connections_max;
        self.places.add_permits(wanted.saturating_sub(before));
        if let Ok(fewer @ 1..) = u32::try_from(before.saturating_sub(wanted)) {
            let places = self.places.clone();
            tasks.spawn_until_stop(async move {
                // The semaphore is fair: whoever would take a place after this waits behind it.
                places.acquire_many(fewer).await.expect("the semaphore is never closed").forget();
            });
        }
    }
}

impl Crowd {
    fn ask(&self) {
        match self.idlers.load(Ordering::Relaxed) {
            0 => self.busy.notify_one(),
            _ => self.idle.notify_one(),
        }
    }

    /// Ends when a connection that is being used is asked to make room.
    async fn asks(&self) {
        self.busy.notified().await;
    }

    /// Ends when one that is idle is.
    async fn asks_idlers(&self) {
        let _idler = Idler::new(&self.idlers);
        self.idle.notified().await;
    }
}

/// An idle connection among those that are asked first; leaves them when dropped.
struct Idler<'a>(&'a AtomicUsize);

impl<'a> Idler<'a> {
    fn new(idlers: &'a AtomicUsize) -> Idler<'a> {
        idlers.fetch_add(1, Ordering::Relaxed);
        Idler(idlers)
    }
}

impl Drop for Idler<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection in the gauge; leaves it when dropped, also by a panic.
struct Open(IntGauge);

impl Open {
    fn new(stats: &Stats) -> Open {
        stats.client_connections.inc();
        Open(stats.client_connections.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Connections that the system queues for us.
const BACKLOG: u32 = 1024;

/// How long a connection waits for a place before further ones are asked to make room: longer than an idle one takes to leave.
const ASKED_AGAIN: Duration = Duration::from_millis(600);

/// Who has found a place so long after another had to wait is not part of the same crowd.
const CROWDED_FOR: Duration = Duration::from_secs(1);

/// No more connections than these are asked to leave for one, however great the crowd.
const ASKED_MAX: usize = 32;

/// How long to leave the listener alone after it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
