//! A network between the sidecar and Redis, or between the sidecar and its origin, that can be broken.

use super::{eventually, millis};
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A relay to an address; a change of its phase ends, freezes or slows down the connections that it has.
pub struct Relay {
    pub address: SocketAddr,
    phase: watch::Sender<Phase>,
    taken: Arc<AtomicUsize>,
    listening: AbortHandle,
}

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// They go through.
    Relay,
    /// They are closed at once.
    Refuse,
    /// They are ended with a reset, those that there are and those that come.
    Reset,
    /// They are ended, and nobody listens: the system refuses those that come.
    Absent,
    /// They are taken, and nothing is heard of them while this lasts; then what was sent comes late.
    BlackHole,
    /// They are taken, and nothing is heard of them ever again, as after a partition that both ends have missed.
    HalfOpen,
    /// They are answered with what is no Redis.
    Garbage,
    /// Everything takes longer, in each direction.
    Slow { there: Duration, back: Duration },
    /// Replies come one octet at a time.
    Drip,
    /// Each connection ends in the middle of a reply, after about so many octets of them.
    Cut { after: usize },
}

impl Relay {
    pub async fn to(target: SocketAddr) -> Relay {
        // It only keeps the port while nobody listens on it.
        let keeper = socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = keeper.local_addr().unwrap().as_socket().unwrap();
        let phase = watch::Sender::new(Phase::Relay);
        let mut listener = Some(listen(address));
        let (phases, mut present) = (phase.clone(), phase.subscribe());
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = taken.clone();
        let listening = tokio::spawn(async move {
            let _keeper = keeper;
            loop {
                match *present.borrow_and_update() {
                    Phase::Absent => listener = None,
                    _ => drop(listener.get_or_insert_with(|| listen(address))),
                }
                tokio::select! {
                    accepted = accept(listener.as_ref()) => {
                        counted.fetch_add(1, Ordering::Relaxed);
                        tokio::spawn(through(accepted, target, phases.subscribe()));
                    }
                    _ = present.changed() => {}
                }
            }
        });
        Relay { address, phase, taken, listening: listening.abort_handle() }
    }

    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// How many connections were taken until now.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Ends all connections, and has nobody listen any more: new ones are refused.
    pub async fn leave(&self) {
        self.enter(Phase::Absent);
        eventually("connections are refused", async || TcpStream::connect(self.address).await.is_err()).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Phase {
    /// Whether octets go on to the other side.
    fn passes(self) -> bool {
        matches!(self, Phase::Relay | Phase::Slow { .. } | Phase::Drip | Phase::Cut { .. })
    }

    fn delay(self, way: Way) -> Duration {
        match (self, way) {
            (Phase::Slow { there, .. }, Way::There) => there,
            (Phase::Slow { back, .. }, Way::Back) => back,
            _ => Duration::ZERO,
        }
    }
}

/// The direction of octets: to the server, or back.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    There,
    Back,
}

fn socket(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = socket(address);
    socket.listen(1024).unwrap();
    TcpListener::from_std(socket.into()).unwrap()
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    match listener {
        Some(listener) => listener.accept().await.unwrap().0,
        None => std::future::pending().await,
    }
}

async fn through(mut client: TcpStream, target: SocketAddr, mut phase: watch::Receiver<Phase>) {
    let _ = client.set_nodelay(true);
    let mut server = loop {
        let present = *phase.borrow_and_update();
        match present {
            Phase::Refuse | Phase::Absent => return,
            Phase::Reset => return reset(client),
            Phase::Garbage => drop(client.write_all(GARBAGE).await),
            Phase::HalfOpen => return silence(&mut phase).await,
            Phase::BlackHole => {}
            _ => match TcpStream::connect(target).await {
                Ok(connected) => break connected,
                Err(_) => return,
            },
        }
        if phase.changed().await.is_err() {
            return;
        }
    };
    let _ = server.set_nodelay(true);
    let is_reset = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            () = pump(from_client, to_server, Way::There, phase.clone()) => false,
            () = pump(from_server, to_client, Way::Back, phase.clone()) => false,
            last = phase.wait_for(|phase| matches!(phase, Phase::Refuse | Phase::Absent | Phase::Reset)) => {
                last.is_ok_and(|last| *last == Phase::Reset)
            }
        }
    };
    if is_reset {
        reset(client);
    }
}

/// Ends a connection with a reset: what was not sent is thrown away, and the other end is told so.
fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// Says nothing any more for as long as there is a relay.
async fn silence(phase: &mut watch::Receiver<Phase>) {
    while phase.changed().await.is_ok() {}
}

/// Takes octets one way, until one of the ends is gone.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, way: Way, mut phase: watch::Receiver<Phase>) {
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut buffer, mut passed, mut has_ended) = (vec![0; 16 << 10], 0, false);
    while !(has_ended && under_way.is_empty()) {
        let present = *phase.borrow_and_update();
        match present {
            Phase::Garbage if way == Way::Back => drop(to.write_all(GARBAGE).await),
            Phase::HalfOpen => return silence(&mut phase).await,
            Phase::Cut { .. } => {}
            _ => passed = 0,
        }
        let due = under_way.front().map(|(due, _)| *due);
        if present.passes() && due.is_some_and(|due| due <= Instant::now()) {
            let (_, mut octets) = under_way.pop_front().expect("there is one that is due");
            passed += octets.len();
            let is_cut = matches!(present, Phase::Cut { after } if way == Way::Back && passed > after);
            if is_cut {
                octets.truncate(octets.len() / 2);
            }
            let step = if present == Phase::Drip && way == Way::Back { 1 } else { octets.len().max(1) };
            for part in octets.chunks(step) {
                if to.write_all(part).await.is_err() {
                    return;
                }
                if step < octets.len() && *phase.borrow() == Phase::Drip {
                    tokio::time::sleep(millis(1)).await;
                }
            }
            if is_cut {
                return;
            }
            continue;
        }
        tokio::select! {
            changed = phase.changed() => if changed.is_err() { return },
            read = from.read(&mut buffer), if present.passes() && !has_ended && under_way.len() < UNDER_WAY_MAX => match read {
                Ok(length @ 1..) => under_way.push_back((Instant::now() + present.delay(way), buffer[..length].to_vec())),
                _ => has_ended = true,
            },
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() && present.passes() => {}
        }
    }
}

const GARBAGE: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";

/// So many pieces are under way in one direction of a slow connection; more wait at the sender.
const UNDER_WAY_MAX: usize = 4096;
