//! The same with real sidecars, a real Redis and an origin, for some seconds.

use crate::deployment::{Deployment, Load};
use crate::world::{RedisServer, World, redis_options};
use serde_json::json;
use sidecache::rules::{Pattern, Route};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What was counted, by the second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) load: Load,
    pub(crate) commands: f64,
    pub(crate) octets_out: f64,
    /// CPU seconds of Redis.
    pub(crate) busy: f64,
}

/// Runs a deployment: long enough for all to come to rest, and then for the measured time.
pub(crate) async fn run(deployment: &Deployment, seed: u64) -> Counted {
    let redis = RedisServer::start().await;
    let fetches = Arc::new(AtomicU64::new(0));
    let origin = origin(deployment, fetches.clone()).await;
    let address = format!("http://{origin}").parse().expect("this is an address");
    let mut worlds = Vec::new();
    for _ in 0..deployment.replicas {
        let ttl = Duration::from_secs_f64(deployment.ttl);
        let adjust = |config: &mut sidecache::config::Config| {
            config.store.redis = Some(redis_options(&redis.url()));
            let route = Route::new("r", Pattern::parse("/{id}").expect("this is a pattern"), ttl);
            config.routes = vec![Route { early_refresh: false, ..route }];
        };
        worlds.push(World::before(crate::world::Origin::elsewhere(&address), adjust).await.connected().await);
    }
    let end = Instant::now() + Duration::from_secs_f64(2.0 * deployment.ttl + MEASURED);
    let sent = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let address = worlds[client % worlds.len()].sidecar.address;
        clients.spawn(ask(*deployment, address, sent.clone(), seed + client as u64, end));
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let purging = async {
        let places = Places::of(deployment);
        let mut next = Instant::now();
        while deployment.purges > 0.0 && next < end {
            next += pause(deployment.purges, &mut random);
            tokio::time::sleep_until(next.min(end)).await;
            worlds[0].purge(json!({ "url": format!("/{}", places.choose(&mut random)) })).await;
        }
    };
    // The clocks of these sidecars do not move by themselves.
    let ticking = async {
        let mut shown = Instant::now();
        while shown < end {
            tokio::time::sleep(TICK).await;
            let now = Instant::now();
            worlds.iter().for_each(|world| world.clock.advance(now - shown));
            shown = now;
        }
    };
    let counting = async {
        tokio::time::sleep_until(end - Duration::from_secs_f64(MEASURED)).await;
        let before = count(&worlds, &redis, &fetches, &sent).await;
        tokio::time::sleep_until(end).await;
        let after = count(&worlds, &redis, &fetches, &sent).await;
        std::array::from_fn(|i| (after[i] - before[i]) / MEASURED)
    };
    let (counted, (), ()) = tokio::join!(counting, purging, ticking);
    clients.join_all().await;
    let [requests, fetches, lookups, purges, commands, octets_out, busy] = counted;
    Counted { load: Load { requests, fetches, lookups, purges, ..Load::default() }, commands, octets_out, busy }
}

/// Requests, fetches, requests that memory could not answer, purges; commands, octets and CPU seconds of Redis: all until now.
async fn count(worlds: &[World], redis: &RedisServer, fetches: &AtomicU64, sent: &AtomicU64) -> [f64; 7] {
    let info: String = redis.run("INFO").await;
    let of_redis = |name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("INFO says {name}"))
    };
    let (mut lookups, mut purges) = (0.0, 0.0);
    for world in worlds {
        lookups += world.metric("cache_misses_total{cache_type=\"memory\",route=\"r\"}").await;
        purges += world.metric("sidecache_purges_total{reach=\"everywhere\"}").await;
    }
    [
        sent.load(Ordering::Relaxed) as f64,
        fetches.load(Ordering::Relaxed) as f64,
        lookups,
        purges,
        of_redis("total_commands_processed"),
        of_redis("total_net_output_bytes"),
        of_redis("used_cpu_user") + of_redis("used_cpu_sys"),
    ]
}

/// One of the clients, who ask at random moments.
async fn ask(deployment: Deployment, address: SocketAddr, sent: Arc<AtomicU64>, seed: u64, end: Instant) {
    let (mut random, places) = (fastrand::Rng::with_seed(seed), Places::of(&deployment));
    let mut stream = BufReader::new(TcpStream::connect(address).await.expect("the sidecar listens"));
    let mut next = Instant::now();
    loop {
        next += pause(deployment.rate / CLIENTS as f64, &mut random);
        if next >= end {
            return;
        }
        tokio::time::sleep_until(next).await;
        let request = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", places.choose(&mut random));
        stream.get_mut().write_all(request.as_bytes()).await.expect("the sidecar reads");
        let head = read_head(&mut stream).await.expect("the sidecar answers");
        let mut body = vec![0; content_length(&head)];
        stream.read_exact(&mut body).await.expect("the body is whole");
        assert!(head.starts_with("http/1.1 200"), "{head}");
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// An origin that takes its time.
async fn origin(deployment: &Deployment, fetches: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (pause, body) = (Duration::from_secs_f64(deployment.fetch), "x".repeat(deployment.body as usize));
    let answer: Arc<str> = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, fetches) = (answer.clone(), fetches.clone());
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                while read_head(&mut stream).await.is_some() {
                    fetches.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(pause).await;
                    if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A head, in small letters; `None` where the connection ends.
async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    loop {
        let read = stream.read_line(&mut head).await.ok()?;
        match read {
            0 => return None,
            2 => return Some(head.to_ascii_lowercase()),
            _ => {}
        }
    }
}

fn content_length(head: &str) -> usize {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.unwrap_or_else(|| panic!("no length in {head}"))
}

/// The time until the next of so many events a second.
fn pause(rate: f64, random: &mut fastrand::Rng) -> Duration {
    Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate)
}

/// The places of the keys, by popularity.
struct Places(Vec<f64>);

impl Places {
    fn of(deployment: &Deployment) -> Places {
        let mut sum = 0.0;
        let sums = (1..=deployment.keys as u64).map(|place| {
            sum += (place as f64).powf(-deployment.skew);
            sum
        });
        Places(sums.collect())
    }

    fn choose(&self, random: &mut fastrand::Rng) -> usize {
        let drawn = random.f64() * self.0.last().copied().unwrap_or(0.0);
        self.0.partition_point(|sum| *sum <= drawn).min(self.0.len() - 1)
    }
}

const TICK: Duration = Duration::from_millis(5);

/// Seconds that are measured.
const MEASURED: f64 = 8.0;

/// Clients, so many that hardly one has to wait for its own request before.
const CLIENTS: usize = 48;
