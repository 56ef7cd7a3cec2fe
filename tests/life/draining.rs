//! The end of a program under load: nobody notices it.

use super::program::Program;
use super::world::{Client, Origin, RawClient, eventually, millis};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

const WAIT: &str = "[server]\ndrain_wait = \"400ms\"\n";

#[tokio::test]
async fn while_it_leaves_it_answers_and_says_that_the_connection_is_to_be_used_no_more() {
    let origin = Origin::start().await;
    origin.reply("/a", "one");
    let program = Program::start(&origin, "[server]\ndrain_wait = \"1m\"").await;
    let mut before = RawClient::connect(program.address).await;
    let head = before.ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(!head.contains("connection: close"), "{head}");
    before.octets("one".len()).await;
    program.signal("-TERM");
    eventually("it is unready", async || Client::of(program.admin_address).get("/readyz").await.status == 503).await;
    let mut new = RawClient::connect(program.address).await;
    for client in [&mut before, &mut new] {
        let head = client.ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("connection: close"), "{head}");
        assert_eq!(client.rest().await, "one");
    }
    // HTTP/2 has no such field, and goes on until it is told to go away.
    let http2 = Client::http2(program.address);
    for _ in 0..2 {
        http2.get("/a").await.is("one");
    }
}

#[tokio::test]
async fn a_request_that_is_on_its_way_when_it_closes_is_answered() {
    let origin = Origin::start().await;
    origin.reply("/a", "one");
    let program = Program::start(&origin, "[server]\ndrain_wait = \"0s\"").await;
    let mut idle = RawClient::connect(program.address).await;
    idle.ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
    idle.octets("one".len()).await;
    let mut unused = RawClient::connect(program.address).await;
    eventually("both are accepted", async || {
        let metrics = Client::of(program.admin_address).get("/metrics").await.text();
        metrics.contains("sidecache_client_connections 3")
    })
    .await;
    program.signal("-TERM");
    eventually("nothing is accepted any more", async || tokio::net::TcpStream::connect(program.address).await.is_err()).await;
    for client in [&mut idle, &mut unused] {
        let head = client.ask("GET /a HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("connection: close"), "{head}");
        assert_eq!(client.rest().await, "one");
    }
    assert_eq!(program.code().await, Some(0));
}

/// A load balancer before two programs, one of which is told to end again and again, and started anew. The full form of this is
/// `DRAINS=20 cargo nextest run --test life -E 'test(sigterm_under_load)'`.
#[tokio::test]
async fn sigterm_under_load_fails_no_request() {
    let origin = Origin::start().await;
    (0..50).for_each(|number| origin.reply(&format!("/{number}"), "here"));
    let drains: usize = std::env::var("DRAINS").ok().map_or(2, |number| number.parse().expect("DRAINS is a number"));
    let mut programs = [Program::start(&origin, WAIT).await, Program::start(&origin, WAIT).await];
    let balancer = Balancer::new(&programs);
    let load = tokio::spawn(balancer.clone().load());
    for round in 0..drains {
        let number = round % 2;
        balancer.has_asked(250).await;
        programs[number].signal("-TERM");
        assert_eq!(programs[number].code().await, Some(0), "it had to cut something");
        programs[number] = Program::start(&origin, WAIT).await;
        balancer.exchange(number, &programs[number]);
        balancer.has_asked(1250).await;
    }
    load.abort();
    assert_eq!(balancer.failed.load(Ordering::Relaxed), 0, "of {}", balancer.asked.load(Ordering::Relaxed));
}

/// Sends 500 requests a second to those of two programs that say that they are ready.
struct Balancer {
    places: [Place; 2],
    client: legacy::Client<HttpConnector, Empty<Bytes>>,
    asked: AtomicUsize,
    failed: AtomicUsize,
}

/// The ports where a program answers requests and operators; 0 where it does not want to.
struct Place {
    ports: AtomicU64,
    ready: AtomicU64,
}

impl Balancer {
    fn new(programs: &[Program; 2]) -> Arc<Balancer> {
        let places = programs.each_ref().map(|program| {
            let place = Place { ports: AtomicU64::new(0), ready: AtomicU64::new(0) };
            place.ports.store(ports(program), Ordering::Relaxed);
            place
        });
        // A client that retries by itself would hide what this looks for.
        let client = legacy::Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        Arc::new(Balancer { places, client, asked: AtomicUsize::new(0), failed: AtomicUsize::new(0) })
    }

    fn exchange(&self, number: usize, program: &Program) {
        self.places[number].ports.store(ports(program), Ordering::Relaxed);
    }

    /// Waits for so many requests more.
    async fn has_asked(&self, more: usize) {
        let before = self.asked.load(Ordering::Relaxed);
        eventually("the load goes on", async || self.asked.load(Ordering::Relaxed) >= before + more).await;
    }

    async fn load(self: Arc<Balancer>) {
        let mut every = tokio::time::interval(Duration::from_millis(2));
        every.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut looked = None;
        loop {
            every.tick().await;
            if looked.is_none_or(|looked: Instant| looked.elapsed() > millis(50)) {
                looked = Some(Instant::now());
                tokio::spawn(self.clone().look());
            }
            let number = self.asked.load(Ordering::Relaxed);
            let ready = |place: &Place| Some(place.ready.load(Ordering::Relaxed)).filter(|port| *port != 0);
            let Some(port) = ready(&self.places[number % 2]).or_else(|| ready(&self.places[(number + 1) % 2])) else {
                continue;
            };
            self.asked.fetch_add(1, Ordering::Relaxed);
            let balancer = self.clone();
            tokio::spawn(async move {
                if balancer.get(port, &format!("/{}", number % 50)).await != Some((200, Bytes::from_static(b"here"))) {
                    balancer.failed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }

    /// Finds out which programs are ready.
    async fn look(self: Arc<Balancer>) {
        for place in &self.places {
            let ports = place.ports.load(Ordering::Relaxed);
            let is_ready = matches!(self.get(ports & 0xffff, "/readyz").await, Some((200, _)));
            place.ready.store(if is_ready { ports >> 16 } else { 0 }, Ordering::Relaxed);
        }
    }

    async fn get(&self, port: u64, path: &str) -> Option<(u16, Bytes)> {
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).expect("a port")));
        let response = self.client.get(format!("http://{address}{path}").parse().expect("a URL")).await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.into_body().collect().await.ok()?.to_bytes()))
    }
}

fn ports(program: &Program) -> u64 {
    u64::from(program.address.port()) << 16 | u64::from(program.admin_address.port())
}
