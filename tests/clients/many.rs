//! Clients in great numbers: some that send their heads octet by octet, some that send their bodies so, and some that are idle. Who
//! asks for what is stored hardly notices, and each of them costs little.
//!
//! The normal run has a few hundred of each. The whole of it, with what it measured:
//!
//! ```text
//! MANY=1000 IDLE=10000 cargo test --release --test clients many -- --nocapture
//! ```

use super::alone;
use super::program::Program;
use super::world::{Origin, RawClient, Reply, eventually, soon};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_slow_and_idle_clients_cost_little_and_hardly_slow_the_others() {
    let _alone = alone().await;
    let (many, idle) = (number("MANY", 200), number("IDLE", 1000));
    let origin = Origin::start().await;
    origin.reply("/hit", Reply::new("x".repeat(1000)));
    origin.reply("/past/upload", "taken");
    let toml = "[server]\nheader_read_timeout = \"5s\"\nconnections_max = 15000\n[origin]\nrequests_max = 2000\n[memory]\nmax_size = \"64MiB\"";
    let program = Program::start(&origin.address, toml).await;
    hits(&program, HITS).await;
    let alone = hits(&program, HITS).await;
    let (resident, descriptors) = (program.resident(), program.descriptors());

    let mut idle_ones = Vec::new();
    for _ in 0..idle {
        let mut client = RawClient::connect(program.address).await;
        client.ask(request(&program, "GET /hit", "")).await;
        client.octets(1000).await;
        idle_ones.push(client);
    }
    let each = || program.resident().saturating_sub(resident) / idle;
    println!("{idle} connections that were in use just now: {} octets each", each());
    eventually("idle connections are put aside", async || {
        // The allocator gives back what it has while it is at work.
        hits(&program, 10).await;
        each() < EACH_BYTES_MAX
    })
    .await;
    println!("{idle} idle connections: {} octets each", each());
    let beside_idle = hits(&program, HITS).await;

    // The first of these begin before the last are there, so their number counts from when all are.
    let mut slow = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..many {
        let mut client = RawClient::connect(program.address).await;
        let head = request(&program, "GET /hit", "");
        slow.spawn(async move {
            drip(&mut client, head.as_bytes()).await;
            begun.elapsed()
        });
    }
    let mut uploads = JoinSet::new();
    for _ in 0..many {
        let mut client = RawClient::connect(program.address).await;
        client.send(request(&program, "POST /past/upload", "Content-Length: 100000\r\n")).await;
        uploads.spawn(async move { drip(&mut client, &[b'x'; 100_000]).await });
    }
    let beside_all = hits(&program, HITS).await;
    let took = program.resident().saturating_sub(resident);
    println!("p99 of hits: {alone:?} alone, {beside_idle:?} beside idle ones, {beside_all:?} beside all");
    println!("all of them take {} MiB", took >> 20);
    for beside in [beside_idle, beside_all] {
        assert!(beside < alone * 2 + NOISE, "{beside:?} instead of {alone:?}");
    }
    assert!(took < 200 << 20, "all of them take {took} octets");

    // A head has its time, whether or not it goes on.
    while let Some(lived) = soon("the end of a slow head", slow.join_next()).await {
        let lived = lived.unwrap();
        assert!(lived > Duration::from_secs(4) && lived < Duration::from_secs(12), "it lived for {lived:?}");
    }
    uploads.shutdown().await;
    drop(idle_ones);
    eventually("nothing is left of them", async || program.descriptors() <= descriptors + 2).await;
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(otherwise)
}

fn request(program: &Program, what: &str, fields: &str) -> String {
    format!("{what} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", program.address)
}

/// Sends octet by octet, until the other side closes.
async fn drip(client: &mut RawClient, octets: &[u8]) {
    for octet in octets {
        client.send([*octet]).await;
        // Ends early when there is something to read: an end, or an answer that there will be none.
        if tokio::time::timeout(DRIP_EVERY, client.try_head()).await.is_ok() {
            return;
        }
    }
}

/// Asks for what is stored, so many times, and gives the time that one in a hundred takes longer than.
async fn hits(program: &Program, number: usize) -> Duration {
    let mut client = RawClient::connect(program.address).await;
    let mut times = Vec::new();
    for _ in 0..number {
        let begun = Instant::now();
        let head = client.ask(request(program, "GET /hit", "")).await;
        client.octets(1000).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        times.push(begun.elapsed());
    }
    times.sort();
    times[number * 99 / 100]
}

const HITS: usize = 1000;

/// How often a slow client sends an octet.
const DRIP_EVERY: Duration = Duration::from_millis(500);

/// What a loaded machine adds to a p99, that none of these clients has caused.
const NOISE: Duration = Duration::from_millis(25);

/// What an idle connection may take.
const EACH_BYTES_MAX: usize = 32 << 10;
