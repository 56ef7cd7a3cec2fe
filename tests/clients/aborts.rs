//! Clients that leave: nobody else notices, and nothing is left of them.
//!
//! Ten thousand requests come in groups, each group for a key of its own. Most of them leave at a random moment: in the middle of
//! their head, while the origin is asked, behind the response's head, within its body; with a reset, or politely; over HTTP/1.1, or
//! as a stream of HTTP/2. Whoever stays gets everything.

use super::alone;
use super::program::resident;
use super::world::{Client, RedisServer, Sending, World, eventually, redis_options, soon};
use bytes::Bytes;
use fastrand::Rng;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sidecache::origin::Address;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_clients_that_left() {
    trial(Protocol::Http1, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_streams_that_were_reset() {
    trial(Protocol::Http2, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_clients_that_left_where_there_is_redis() {
    trial(Protocol::Http1, Some(RedisServer::start().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_streams_that_were_reset_where_there_is_redis() {
    trial(Protocol::Http2, Some(RedisServer::start().await)).await;
}

/// So many requests are a trial; there are four.
const REQUESTS: usize = 3200;

/// Requests for one key at about the same time.
const TOGETHER: usize = 8;

/// Groups at a time.
const GROUPS_AT_ONCE: usize = 24;

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Http1,
    Http2,
}

/// What the origin has for a key, which the first letter of its path says: of a length that it tells, or not; not to be stored; more than
/// is stored.
const KINDS: [char; 4] = ['l', 'c', 'n', 'o'];

/// When a client leaves.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    Never,
    /// In the middle of its head.
    Asking,
    /// So long after it has asked.
    Waiting(Duration),
    /// When so many octets of the response's body have come.
    Reading(usize),
}

impl Leaves {
    fn at_random(random: &mut Rng) -> Leaves {
        match random.u8(0..10) {
            0 | 1 => Leaves::Never,
            2 => Leaves::Asking,
            3..=6 => Leaves::Waiting(Duration::from_micros(random.u64(0..6000))),
            _ => Leaves::Reading(random.usize(0..40_000)),
        }
    }
}

async fn trial(protocol: Protocol, redis: Option<RedisServer>) {
    let _alone = alone().await;
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed);
    let requests = std::env::var("ABORTS").ok().and_then(|number| number.parse().ok()).unwrap_or(REQUESTS);
    // Shown when the test fails.
    println!("SEED={seed}");
    let origin = Restless::start().await;
    let world = World::at(&origin.address, |config| {
        config.store.redis = redis.as_ref().map(|redis| redis_options(&redis.url()));
        config.store.memory.bytes_max = 4 << 20;
        config.cache.body_bytes_max = 64 << 10;
    })
    .await;
    let world = if redis.is_some() { world.connected().await } else { world };
    let address = world.sidecar.address;
    let descriptors_before = origin.descriptors_but_its_own();
    let connections: Arc<[Client]> = (0..4).map(|_| Client::http2(address)).collect();
    // Whoever makes a connection and leaves takes those with it that wait for the same.
    for connection in connections.iter().filter(|_| protocol == Protocol::Http2) {
        connection.get("/n-first").await;
    }
    let (groups, left) = (requests / TOGETHER, Arc::new(AtomicUsize::new(0)));
    let mut running = JoinSet::new();
    let mut resident_after_half = 0;
    for group in 0..groups {
        if running.len() >= GROUPS_AT_ONCE {
            running.join_next().await.unwrap().unwrap();
        }
        if group == groups / 2 {
            resident_after_half = resident("self");
        }
        let (connections, left) = (connections.clone(), left.clone());
        running.spawn(async move {
            let mut random = Rng::with_seed(seed.wrapping_add(group as u64));
            let path = format!("/{}{group}", random.choice(KINDS).unwrap());
            let mut clients = JoinSet::new();
            for number in 0..TOGETHER {
                let (path, leaves, hard) = (path.clone(), Leaves::at_random(&mut random), random.bool());
                let (connection, comes_after) = (connections[number % 4].clone(), Duration::from_micros(random.u64(0..4000)));
                clients.spawn(async move {
                    tokio::time::sleep(comes_after).await;
                    match protocol {
                        Protocol::Http1 => by_http1(address, &path, leaves, hard).await,
                        Protocol::Http2 => by_http2(&connection, &path, leaves).await,
                    }
                });
            }
            while let Some(has_left) = clients.join_next().await {
                left.fetch_add(usize::from(has_left.unwrap()), Ordering::Relaxed);
            }
            // The next one for the key gets all of it.
            let got = Client::of(address).get(&path).await;
            assert!(got.body() == content(&path), "{path}: {} octets", got.body().len());
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    assert!(left.load(Ordering::Relaxed) > requests / 2, "only {left:?} left");
    drop(connections);

    let proxy = world.sidecar.proxy();
    eventually("no fetch is under way", async || proxy.fetches_under_way() == 0 && proxy.followers() == 0).await;
    let connections = &proxy.stats().client_connections;
    eventually("nothing is under way", async || world.sidecar.work_under_way() == 0 && connections.get() == 0).await;
    eventually("no descriptor is left", async || origin.descriptors_but_its_own() <= descriptors_before).await;
    assert_eq!(world.metric("sidecache_origin_requests_in_flight").await, 0.0);
    let grown = resident("self").saturating_sub(resident_after_half);
    assert!(grown < 16 << 20, "the second half took {grown} octets");
    drop(redis);
}

/// Asks with octets, and leaves. Says whether it left; who stays checks what came.
async fn by_http1(address: SocketAddr, path: &str, leaves: Leaves, hard: bool) -> bool {
    let mut stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let sent = if matches!(leaves, Leaves::Asking) { request.len() / 2 } else { request.len() };
    stream.write_all(&request.as_bytes()[..sent]).await.unwrap();
    let enough = match leaves {
        Leaves::Never => usize::MAX,
        Leaves::Reading(octets) => octets,
        Leaves::Asking => 0,
        Leaves::Waiting(time) => {
            tokio::time::sleep(time).await;
            0
        }
    };
    let mut came = Vec::new();
    while came.len() < enough {
        // A reset is an end as well.
        match soon("the response", stream.read_buf(&mut came)).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    if enough < usize::MAX {
        if hard {
            let _ = stream.set_zero_linger();
        }
        return true;
    }
    let (head, body) = parted(&came);
    match head.contains("transfer-encoding: chunked") {
        true => is_right(path, unchunked(body)),
        false => is_right(path, Some(body.to_vec())),
    }
    false
}

async fn by_http2(client: &Client, path: &str, leaves: Leaves) -> bool {
    let enough = match leaves {
        Leaves::Never => {
            let got = client.get(path).await;
            is_right(path, got.came_whole().then(|| got.body().to_vec()));
            return false;
        }
        Leaves::Reading(octets) => octets,
        Leaves::Asking => 0,
        Leaves::Waiting(time) => {
            let _ = tokio::time::timeout(time, client.get(path).streaming()).await;
            return true;
        }
    };
    let mut streaming = client.get(path).streaming().await;
    let mut octets = 0;
    while octets < enough {
        match streaming.piece().await {
            Some(piece) => octets += piece.len(),
            None => return false,
        }
    }
    true
}

/// What came to one who stayed is what the origin has; `None` is a body that broke off, which its client can tell.
#[track_caller]
fn is_right(path: &str, body: Option<Vec<u8>>) {
    match body {
        Some(body) => assert!(body == content(path), "{path}: {} octets came as if they were all", body.len()),
        // Who is slower than others may lose one that outgrows what is stored.
        None => assert!(path.starts_with("/o"), "{path} broke off"),
    }
}

fn parted(response: &[u8]) -> (String, &[u8]) {
    let head = response.windows(4).position(|four| four == b"\r\n\r\n").expect("there is a head") + 4;
    (String::from_utf8_lossy(&response[..head]).to_ascii_lowercase(), &response[head..])
}

/// The content of a chunked body (RFC 9112 §7.1); `None` if it broke off.
fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let line = body.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line]).ok()?, 16).ok()?;
        let chunk = body.get(line + 2..line + 2 + length)?;
        if length == 0 {
            return Some(content);
        }
        content.extend_from_slice(chunk);
        body = body.get(line + 2 + length + 2..)?;
    }
}

/// An origin whose answers come in pieces, with pauses.
struct Restless {
    address: Address,
    open: Arc<AtomicUsize>,
    listening: JoinHandle<()>,
}

impl Restless {
    async fn start() -> Restless {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Http(listener.local_addr().unwrap().to_string().parse().unwrap());
        let open = Arc::new(AtomicUsize::new(0));
        let connections = open.clone();
        let listening = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let open = connections.clone();
                open.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(&request).await) });
                    let _ = http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(stream), service).await;
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Restless { address, open, listening }
    }

    /// What this process has open, but for the connections between the sidecar and this origin, which are kept to be used again.
    fn descriptors_but_its_own(&self) -> usize {
        let all = std::fs::read_dir("/proc/self/fd").unwrap().count();
        all.saturating_sub(2 * self.open.load(Ordering::Relaxed))
    }
}

impl Drop for Restless {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn answer(request: &Request<Incoming>) -> Response<UnsyncBoxBody<Bytes, io::Error>> {
    let content = content(request.uri().path());
    let mut random = Rng::with_seed(content.len() as u64);
    tokio::time::sleep(Duration::from_micros(random.u64(0..3000))).await;
    let (sending, body) = Sending::new();
    let mut response = Response::new(body.boxed_unsync());
    let fields = response.headers_mut();
    match request.uri().path().as_bytes()[1] {
        b'l' => drop(fields.insert("content-length", content.len().into())),
        b'n' => drop(fields.insert("cache-control", "no-store".parse().unwrap())),
        _ => {}
    }
    tokio::spawn(async move {
        for piece in content.chunks(content.len() / 5 + 1) {
            sending.send(piece.to_vec());
            tokio::time::sleep(Duration::from_micros(random.u64(0..1500))).await;
        }
    });
    response
}

/// What there is under a path; the first letter says of which kind it is.
fn content(path: &str) -> Vec<u8> {
    let length = match path.as_bytes()[1] {
        // More than is stored.
        b'o' => 200_000,
        _ => 5000,
    };
    path.bytes().cycle().take(length + path.len() * 1000).collect()
}
