//! An origin that closes connections while requests are on their way to it.

use crate::world::{Gate, Origin, Reply, World};
use sidecache::origin::Address;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

/// An origin each of whose connections dies after a number of answers, in one of many ways.
struct Mortal {
    address: Address,
    seen: Arc<Mutex<HashMap<String, usize>>>,
    listening: AbortHandle,
}

impl Mortal {
    async fn start(answers: RangeInclusive<usize>) -> Mortal {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Http(listener.local_addr().unwrap().to_string().parse().unwrap());
        let seen = Arc::<Mutex<HashMap<String, usize>>>::default();
        let noted = seen.clone();
        let listening = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(live_and_die(stream, fastrand::usize(answers.clone()), noted.clone()));
            }
        });
        Mortal { address, seen, listening: listening.abort_handle() }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Answers so many requests, promises to go on, and does not.
async fn live_and_die(mut stream: TcpStream, answers: usize, seen: Arc<Mutex<HashMap<String, usize>>>) {
    for _ in 0..answers {
        if !take_request(&mut stream, &seen).await || stream.write_all(ANSWER).await.is_err() {
            return;
        }
    }
    match fastrand::usize(..6) {
        // At once: the next request is on its way already, or not yet.
        0 | 1 => {}
        // A moment later.
        2 => {
            for _ in 0..fastrand::usize(..50) {
                tokio::task::yield_now().await;
            }
        }
        // When the next request has come, read or unread: what is unread at the end makes a reset of it.
        3 => drop(stream.readable().await),
        _ => drop(take_request(&mut stream, &seen).await),
    }
    if fastrand::bool() {
        let _ = stream.set_zero_linger();
    }
}

/// Reads a request's head, and says whether one came.
async fn take_request(stream: &mut TcpStream, seen: &Mutex<HashMap<String, usize>>) -> bool {
    let (mut head, mut octets) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut octets).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => head.extend_from_slice(&octets[..read]),
        }
    }
    let line = head.split(|octet| *octet == b'\r').next().unwrap();
    *seen.lock().unwrap().entry(String::from_utf8_lossy(line).into_owned()).or_default() += 1;
    true
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none";

/// Sends so many requests, a few at once, each with a target of its own: half of them past the cache. How many were answered
/// with which status.
async fn statuses_of(world: &World, method: &'static str, requests: usize) -> HashMap<u16, usize> {
    let mut clients = JoinSet::new();
    for client in 0..AT_ONCE {
        // Octets, since so many requests of a library would take far longer.
        let mut asking = world.raw().await;
        clients.spawn(async move {
            let mut statuses = HashMap::<u16, usize>::new();
            for request in (client..requests).step_by(AT_ONCE) {
                let path = if request % 2 == 0 { format!("/{request}") } else { format!("/past/{request}") };
                let head = asking.ask(format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n")).await.to_lowercase();
                let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).expect("a length");
                let body = asking.octets(length.parse().unwrap()).await;
                assert!(status != 200 || body == "one", "{body:?} to {path}");
                *statuses.entry(status).or_default() += 1;
            }
            statuses
        });
    }
    let mut all = HashMap::<u16, usize>::new();
    for statuses in clients.join_all().await {
        statuses.into_iter().for_each(|(status, number)| *all.entry(status).or_default() += number);
    }
    all
}

const AT_ONCE: usize = 16;

async fn retried(world: &World) -> usize {
    world.metric("sidecache_origin_requests_total{result=\"retried\"}").await as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn connections_that_die_while_they_are_used_again_are_no_error_for_those_who_ask() {
    let origin = Mortal::start(5..=15).await;
    let world = World::at(&origin.address, |_| {}).await;
    assert_eq!(statuses_of(&world, "GET", 20_000).await, HashMap::from([(200, 20_000)]));
    let retried = retried(&world).await;
    // It happened often, and no request was sent for it beyond the budget.
    assert!((200..=20_000 / 5 + 256).contains(&retried), "{retried} were sent once more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_origin_that_closes_every_connection_costs_a_fifth_more_requests_and_no_error() {
    let origin = Mortal::start(1..=1).await;
    let world = World::at(&origin.address, |_| {}).await;
    assert_eq!(statuses_of(&world, "GET", 4_000).await, HashMap::from([(200, 4_000)]));
    let retried = retried(&world).await;
    assert!(retried <= 4_000 / 5 + 256, "{retried} were sent once more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_cannot_be_sent_twice_reaches_the_origin_at_most_once() {
    let origin = Mortal::start(5..=15).await;
    let world = World::at(&origin.address, |_| {}).await;
    let statuses = statuses_of(&world, "POST", 4_000).await;
    assert_eq!(statuses.values().sum::<usize>(), 4_000);
    assert!(statuses.keys().all(|status| [200, 502].contains(status)), "{statuses:?}");
    let seen = origin.seen.lock().unwrap();
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[tokio::test]
async fn a_request_whose_http_2_connection_dies_is_sent_once_more_if_it_may_be() {
    let mut origin = Origin::http2().await;
    let Address::Http(behind) = origin.address.clone() else { panic!("it listens on a port") };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    origin.address = Address::Http(listener.local_addr().unwrap().to_string().parse().unwrap());
    let cut = Arc::new(Notify::new());
    let cutting = cut.clone();
    let relaying = tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(behind.as_str()).await.unwrap();
            let cut = cutting.clone();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = cut.notified() => {}
                }
            });
        }
    });
    let world = World::before(origin, |config| config.origin.http2 = true).await;
    for (method, path, status, times) in [("GET", "/past/a", 200, 2), ("POST", "/past/b", 502, 1)] {
        world.origin.reply("/past/first", "first");
        world.get("/past/first").await.is("first");
        world.origin.reply(path, Reply::new("late").behind(&Gate::closed()));
        world.origin.reply(path, "one");
        let asked = world.ask(method, path).spawn();
        world.origin.arrived(path, 1).await;
        cut.notify_waiters();
        asked.await.unwrap().status(status);
        assert_eq!(world.origin.count(path), times);
    }
    assert_eq!(retried(&world).await, 1);
    relaying.abort();
}
