//! Clients that read slowly, or not at all: the others do not wait for them, and they cost little.

use super::alone;
use super::program::Program;
use super::world::{Client, Origin, RawClient, Reply, Sending, Streaming, World, eventually};
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The body of these tests; several times of what the system's buffers between two processes hold.
const BODY_BYTES: usize = 32 << 20;

/// It comes in pieces of this size, one each so often.
const PIECE_BYTES: usize = 128 << 10;
const PIECE_EVERY: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_what_is_stored_slows_nobody() {
    let _alone = alone().await;
    let world = World::with(|config| config.cache.body_bytes_max = 64 << 20).await;
    let (path, slow_ones) = share_with_slow_ones(&world).await;
    assert!(slow_ones.iter().all(|octets| *octets == BODY_BYTES), "{slow_ones:?}");
    world.get(&path).await.hit("memory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_of_what_outgrows_the_store_is_cut_off_rather_than_waited_for() {
    let _alone = alone().await;
    let world = World::with(|config| config.cache.body_bytes_max = 1 << 20).await;
    let (path, slow_ones) = share_with_slow_ones(&world).await;
    assert!(slow_ones.iter().all(|octets| *octets < BODY_BYTES), "{slow_ones:?}");

    // When it comes again, it is nobody's follower.
    let (reply, sending) = Reply::sending();
    world.origin.reply(&path, reply);
    sending.send("one");
    let mut first = world.get(&path).streaming().await;
    assert_eq!(first.next().await, "one");
    world.origin.reply(&path, "another");
    world.get(&path).await.is("another").does_not_say("collapsed");
    drop(sending);
    first.whole().await;
}

/// Has clients share fetches without slow ones and with three of them, and sees to it that the others take at most a fifth longer. A
/// loaded machine may need several attempts to show it. Gives the path of the last fetch, and what came to its slow ones.
async fn share_with_slow_ones(world: &World) -> (String, Vec<usize>) {
    let mut times = Vec::new();
    for attempt in 0..5 {
        let without = share(world, &format!("/without-{attempt}"), 0).await;
        let path = format!("/with-{attempt}");
        let with = share(world, &path, 3).await;
        if with.time < without.time * 6 / 5 {
            return (path, with.slow_ones);
        }
        times.push((without.time, with.time));
    }
    panic!("each time it took longer with slow ones: {times:?}");
}

/// How it went for those who share a fetch.
struct Shared {
    /// How long those took who read as it came.
    time: Duration,
    /// How many octets came to those who read nothing until the others had everything.
    slow_ones: Vec<usize>,
}

/// Has three clients share a fetch with so many slow ones, one of which leads.
async fn share(world: &World, path: &str, slow_ones: usize) -> Shared {
    let (reply, sending) = Reply::sending();
    world.origin.reply(path, reply);
    sending.send(vec![b'x'; PIECE_BYTES]);
    let mut slow = Vec::new();
    for _ in 0..slow_ones {
        let mut streaming = Client::of(world.sidecar.address).get(path).streaming().await;
        let first = streaming.piece().await.expect("the body goes on").len();
        slow.push((streaming, first));
    }
    let mut fast = Vec::new();
    for _ in 0..3 {
        let mut streaming = Client::of(world.sidecar.address).get(path).streaming().await;
        let first = streaming.piece().await.expect("the body goes on").len();
        fast.push((streaming, first));
    }
    let begun = Instant::now();
    let sending = tokio::spawn(send(sending));
    let fast: Vec<_> = fast.into_iter().map(|reading| tokio::spawn(rest(reading))).collect();
    for reading in fast {
        assert_eq!(reading.await.unwrap(), BODY_BYTES);
    }
    let time = begun.elapsed();
    sending.await.unwrap();
    assert_eq!(world.origin.count(path), 1);
    let mut slow_ones = Vec::new();
    for reading in slow {
        slow_ones.push(rest(reading).await);
    }
    Shared { time, slow_ones }
}

async fn send(sending: Sending) {
    let piece = Bytes::from(vec![b'x'; PIECE_BYTES]);
    for _ in 1..BODY_BYTES / PIECE_BYTES {
        sending.send(piece.clone());
        tokio::time::sleep(PIECE_EVERY).await;
    }
}

/// Reads to the end, and says how many octets there were.
async fn rest((mut streaming, mut octets): (Streaming, usize)) -> usize {
    while let Some(piece) = streaming.piece().await {
        octets += piece.len();
    }
    octets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_nobody_reads_do_not_pile_up() {
    let _alone = alone().await;
    let world = World::with(|config| config.store.memory.bytes_max = 32 << 20).await;
    let proxy = world.sidecar.proxy();
    let ledger = proxy.store().ledger();
    let body = Bytes::from(vec![b'x'; 3 << 20]);
    let mut slow = Vec::new();
    for number in 0..40 {
        let path = format!("/{number}");
        world.origin.reply(&path, Reply::new(body.clone()));
        slow.push(world.get(&path).streaming().await);
        assert!(ledger.octets() <= 64 << 20, "{} octets are held", ledger.octets());
    }
    eventually("much is held", async || ledger.octets() >= 16 << 20).await;
    // What goes beyond that waits at the origin, and comes as it is read.
    for streaming in slow {
        assert_eq!(rest((streaming, 0)).await, body.len());
    }
    eventually("nothing is held", async || ledger.octets() == 0).await;
    world.origin.reply("/another", Reply::new(body));
    world.get("/another").await;
    world.get("/another").await.hit("memory");
}

/// So many that read nothing are measured at once, half of them over HTTP/2.
const SLOW_ONES: usize = 40;

/// What one of them may cost.
const COST_BYTES_MAX: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_cost_little_and_are_cut_off_after_a_while() {
    let _alone = alone().await;
    let origin = Origin::start().await;
    let toml = "[server]\nbody_idle_timeout = \"2s\"\n[memory]\nmax_size = \"64MiB\"";
    let program = Program::start(&origin.address, toml).await;
    let whole = || Reply::new(vec![b'x'; 7 << 20]);
    // What is stored; what is being fetched, and is stored in the end; and what outgrows the store.
    for (path, reply) in [("/hit", Some(whole())), ("/stored", None), ("/large", None)] {
        let mut sending = None;
        origin.reply(
            path,
            reply.unwrap_or_else(|| {
                let (reply, sender) = Reply::sending();
                sender.send("begins");
                sending = Some(sender);
                reply
            }),
        );
        if sending.is_none() {
            Client::of(program.address).get(path).await.says("stored");
        }
        let mut fast = Client::of(program.address).get(path).streaming().await;
        fast.piece().await;
        let (resident, descriptors) = (program.resident(), program.descriptors());
        let slow = SlowOnes::ask(program.address, path).await;
        if let Some(sending) = sending {
            let pieces = if path == "/large" { 320 } else { 70 };
            let piece = Bytes::from(vec![b'x'; 100_000]);
            for _ in 0..pieces {
                sending.send(piece.clone());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            drop(sending);
            assert_eq!(rest((fast, 6)).await, 6 + pieces * 100_000);
        }
        let cost = program.resident().saturating_sub(resident) / SLOW_ONES;
        println!("{path}: {cost} octets each");
        assert!(cost < COST_BYTES_MAX, "{path}: each costs {cost} octets");
        let left = SLOW_ONES / 2;
        // Those of HTTP/1.1; a connection of HTTP/2 lives on, without what it did not take.
        eventually("those who read nothing are cut off", async || program.descriptors() <= descriptors + left).await;
        drop(slow);
        eventually("nothing is left of them", async || program.descriptors() <= descriptors).await;
    }
}

/// Clients that read nothing of what they asked for.
struct SlowOnes {
    _http1: Vec<RawClient>,
    _http2: Vec<(http2::SendRequest<Empty<Bytes>>, http::Response<Incoming>, Driving)>,
}

struct Driving(JoinHandle<()>);

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SlowOnes {
    async fn ask(address: SocketAddr, path: &str) -> SlowOnes {
        let (mut http1, mut http2) = (Vec::new(), Vec::new());
        for _ in 0..SLOW_ONES / 2 {
            let mut client = RawClient::connect(address).await;
            client.ask(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
            http1.push(client);

            let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
            let (mut sender, connection) = http2::Builder::new(TokioExecutor::new()).handshake(stream).await.unwrap();
            let driving = Driving(tokio::spawn(async move { drop(connection.await) }));
            let request = Request::get(format!("http://{address}{path}")).body(Empty::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            http2.push((sender, response, driving));
        }
        SlowOnes { _http1: http1, _http2: http2 }
    }
}
