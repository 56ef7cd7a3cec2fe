//! What memory costs: `cargo bench --bench memory`. Each scenario has a sidecache of its own, a process with so many MiB for what is
//! stored, and says what that process takes, and how much of it the gauge `sidecache_memory_bytes` explains.
//!
//! `cargo bench --bench memory -- keys` runs one scenario alone; they are named in `SCENARIOS`. These are named beside them:
//!
//! - `hit-ratio`: how often the memory tier has what is asked for;
//! - `contention`: how many look-ups one thread makes, and several;
//! - `start`: how long a process takes until it answers, and how much memory it then has.
//!
//! `cargo bench --bench memory -- fill 250000` stores so many responses of 1 KiB, and says how many octets each took.
//! `cargo bench --bench memory -- soak 30` runs a mixture at half of what it can take, for so many minutes, and says by how much
//! memory, descriptors and pieces of work grow an hour.

mod tier;

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

type Running<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

type Scenario = (&'static str, u64, for<'a> fn(&'a Sidecar) -> Running<'a>);

/// How many MiB each has for what is stored, and what it does to a sidecache.
const SCENARIOS: &[Scenario] = &[
    ("keys", 64, |sidecar| Box::pin(keys(sidecar, 1_000_000, "?size=300"))),
    ("large", 64, |sidecar| Box::pin(keys(sidecar, 20_000, "?size=20000"))),
    ("variants", 64, |sidecar| Box::pin(variants(sidecar))),
    ("announced", 64, |sidecar| Box::pin(streams(sidecar, "size=2147483648"))),
    ("chunked", 64, |sidecar| Box::pin(streams(sidecar, "size=2147483648&chunked"))),
    ("million", 8192, |sidecar| Box::pin(keys(sidecar, 1_000_000, ""))),
];

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if is_wanted("hit-ratio") {
        tier::hit_ratio();
    }
    if is_wanted("contention") {
        tier::contention();
    }
    if is_wanted("start") {
        start();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let origin = origin().await;
        if let [name, minutes] = &wanted[..]
            && name == "soak"
        {
            let minutes: f64 = minutes.parse().expect("minutes are a number");
            return soak(&Sidecar::start(origin, 64).await, Duration::from_secs_f64(60.0 * minutes)).await;
        }
        println!(
            "{:<10} {:>8} {:>8} {:>10} {:>8} {:>9} {:>9} {:>10} {:>6} {:>6}",
            "MiB", "idle", "at most", "in the end", "gauge", "explained", "keys", "evictions", "s", "B/key"
        );
        if let [name, number] = &wanted[..]
            && name == "fill"
        {
            let number: u64 = number.parse().expect("it is a number of keys");
            let sidecar = Sidecar::start(origin, 8192).await;
            return measure(name, &sidecar, keys(&sidecar, number, "")).await;
        }
        for (name, memory_mib, run) in SCENARIOS.iter().filter(|(name, ..)| is_wanted(name)) {
            let sidecar = Sidecar::start(origin, *memory_mib).await;
            measure(name, &sidecar, run(&sidecar)).await;
        }
    });
}

/// Says what a sidecache takes after this has been done to it.
async fn measure(name: &str, sidecar: &Sidecar, running: impl Future<Output = ()>) {
    // The pools and threads that any load makes.
    keys(sidecar, 200, "?size=1").await;
    let (idle, begun) = (sidecar.resident(), Instant::now());
    running.await;
    let (most, resident) = (sidecar.memory("VmHWM:"), sidecar.resident());
    let gauge = sidecar.metric("sidecache_memory_bytes{kind=\"used\"}").await;
    let keys = sidecar.metric("sidecache_memory_keys").await;
    let explained = match resident - idle {
        // Too little to be explained.
        ..1_000_000.0 => String::new(),
        grown => format!("{:.0}%", 100.0 * gauge / grown),
    };
    println!(
        "{name:<10} {:>8.1} {:>8.1} {:>10.1} {:>8.1} {explained:>9} {keys:>9} {:>10} {:>6.0} {:>6.0}",
        mebi(idle),
        mebi(most),
        mebi(resident),
        mebi(gauge),
        sidecar.metric("sidecache_memory_evictions_total").await,
        begun.elapsed().as_secs_f64(),
        (resident - idle) / keys,
    );
}

/// Starts the process with the configuration that is shipped, several times, and asks until it answers; there is no origin.
fn start() {
    println!("{:<10} {:>10} {:>10} {:>8}", "start", "fastest ms", "median ms", "MiB");
    let runs = 11;
    let mut took: Vec<(Duration, f64)> = (0..runs).map(|_| answers_after()).collect();
    took.sort_by_key(|(took, _)| *took);
    let millis = |run: usize| took[run].0.as_secs_f64() * 1000.0;
    println!("{:<10} {:>10.1} {:>10.1} {:>8.1}", "", millis(0), millis(runs / 2), mebi(took[runs / 2].1));
}

/// How long a process took until it had answered, and how much memory it then had.
fn answers_after() -> (Duration, f64) {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let (listen, admin, origin) = (free(), free(), free());
    let begun = Instant::now();
    let mut process = Command::new(env!("CARGO_BIN_EXE_sidecache"))
        .env_clear()
        .args(["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/proxy.toml")])
        .args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string(), "--origin", &format!("http://{origin}")])
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let answer = loop {
        let answered = std::net::TcpStream::connect(listen).and_then(|mut stream| {
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n").as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        match answered {
            Ok(answer) => break answer,
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    };
    let took = begun.elapsed();
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("the process lives");
    let _ = process.kill();
    let _ = process.wait();
    (took, of_status(&status, "VmRSS:").trim_end_matches(" kB").parse::<f64>().expect("a number of kB") * 1024.0)
}

fn of_status<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so").trim()
}

fn mebi(octets: f64) -> f64 {
    octets / f64::from(1 << 20)
}

/// Asks once for each of so many keys.
async fn keys(sidecar: &Sidecar, number: u64, query: &'static str) {
    let (next, address) = (Arc::new(AtomicU64::new(0)), sidecar.address);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let next = next.clone();
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            loop {
                let key = next.fetch_add(1, Ordering::Relaxed);
                if key >= number {
                    return;
                }
                client.get(&format!("/api/mcp/customer/{key}{query}"), "").await;
            }
        });
    }
    clients.join_all().await;
}

/// Asks for a thousand variants of one URL, several times over.
async fn variants(sidecar: &Sidecar) {
    let mut client = Client::connect(sidecar.address).await;
    for _ in 0..5 {
        for variant in 0..1000 {
            client.get("/varied?size=2000&vary", &format!("Accept-Language: x-{variant}\r\n")).await;
        }
    }
}

/// Has four clients at a time read a body that is too large to be stored.
async fn streams(sidecar: &Sidecar, query: &'static str) {
    let mut clients = JoinSet::new();
    for client in 0..4 {
        let address = sidecar.address;
        clients.spawn(async move {
            let path = format!("/large/{client}?{query}");
            Client::connect(address).await.get(&path, "").await;
        });
    }
    clients.join_all().await;
}

/// A mixture of hits, misses, clients that leave and bodies that are not stored, at about half of what the machine can do.
async fn soak(sidecar: &Sidecar, time: Duration) {
    let (begun, count) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let address = sidecar.address;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let count = count.clone();
        clients.spawn(async move {
            let mut random = fastrand::Rng::with_seed(number as u64);
            let mut client = Client::connect(address).await;
            while begun.elapsed() < time {
                let asked = Instant::now();
                match random.u8(0..100) {
                    0 => {
                        client.leave().await;
                        client = Client::connect(address).await;
                    }
                    1..=5 => client.get(&format!("/unstored/{}?size=300000&chunked&unstored", random.u32(0..100)), "").await,
                    // A few are asked for often, most of them seldom.
                    _ => {
                        let key = random.f64().powi(4) * 300_000.0;
                        client.get(&format!("/api/mcp/customer/{}?size=1500", key as u64), "").await;
                    }
                }
                count.fetch_add(1, Ordering::Relaxed);
                // As long as it took.
                tokio::time::sleep(asked.elapsed()).await;
            }
        });
    }
    let mut measured = Vec::new();
    println!("{:>8} {:>12} {:>10} {:>12} {:>10}", "s", "requests/s", "MiB", "descriptors", "threads");
    let every = (time / 20).max(Duration::from_secs(1));
    while begun.elapsed() + every <= time {
        let (before, since) = (count.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(every).await;
        let rate = (count.load(Ordering::Relaxed) - before) as f64 / since.elapsed().as_secs_f64();
        let (at, resident, descriptors) = (begun.elapsed().as_secs_f64(), sidecar.resident(), sidecar.descriptors());
        println!("{at:>8.0} {rate:>12.0} {:>10.1} {descriptors:>12} {:>10}", mebi(resident), sidecar.threads());
        measured.push((at, resident));
    }
    clients.join_all().await;
    // The first half fills what there is to fill.
    let settled = &measured[measured.len() / 2..];
    println!("in the second half, memory grew by {:.1} MiB an hour", mebi(slope(settled)) * 3600.0);
    let (descriptors, work) = sidecar.left().await;
    println!("when all clients had left: {descriptors} descriptors, {work} fetches under way");
}

/// The slope of the line that fits best.
fn slope(points: &[(f64, f64)]) -> f64 {
    let number = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / number;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    above / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>().max(f64::MIN_POSITIVE)
}

/// A running sidecache; killed when this value ends.
struct Sidecar {
    process: Child,
    address: SocketAddr,
    admin: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Sidecar {
    /// Starts one before an origin, with so many MiB for what it stores.
    async fn start(origin: SocketAddr, memory_mib: u64) -> Sidecar {
        let directory = tempfile::tempdir().expect("a directory");
        let toml = format!("[memory]\nmax_size = \"{memory_mib}MiB\"\n[[route]]\nmatch = \"/{{*rest}}\"\nttl = \"1h\"\n");
        std::fs::write(directory.path().join("proxy.toml"), toml).expect("the configuration is written");
        let mut process = Command::new(env!("CARGO_BIN_EXE_sidecache"))
            .env_clear()
            .current_dir(directory.path())
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--origin", &format!("http://{origin}")])
            .args(["--set", "log.format=json"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let started: serde_json::Value = lines
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str(&line).ok())
            .find(|line: &serde_json::Value| line["message"] == "started")
            .expect("it says that it has started");
        std::thread::spawn(move || lines.for_each(drop));
        let address = |name: &str| started[name].as_str().and_then(|address| address.parse().ok()).expect("an address");
        Sidecar { process, address: address("listen"), admin: address("admin"), _directory: directory }
    }

    fn resident(&self) -> f64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, name: &str) -> f64 {
        self.status(name).trim_end_matches(" kB").parse::<f64>().expect("a number of kB") * 1024.0
    }

    fn threads(&self) -> String {
        self.status("Threads:")
    }

    fn status(&self, name: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("the process lives");
        of_status(&status, name).to_owned()
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("the process lives").count()
    }

    async fn metric(&self, series: &str) -> f64 {
        let text = Client::connect(self.admin).await.text("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("there is no {series}"))
    }

    /// What is left when its clients have gone, and it had the time to notice: descriptors, and fetches.
    async fn left(&self) -> (usize, String) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let stats = Client::connect(self.admin).await.text("/admin/cache/stats").await;
        let stats: serde_json::Value = serde_json::from_str(&stats).expect("statistics are JSON");
        (self.descriptors(), stats["fetches_under_way"].to_string())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client that reads what it is sent, and keeps nothing.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    host: SocketAddr,
}

impl Client {
    async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.expect("it accepts");
        let _ = stream.set_nodelay(true);
        Client { stream, buffer: vec![0; 64 << 10], filled: 0, host: address }
    }

    async fn get(&mut self, target: &str, fields: &str) {
        let head = self.ask(target, fields).await;
        self.skip_body(&head).await;
    }

    async fn text(&mut self, target: &str) -> String {
        let head = self.ask(target, "").await;
        let length = length(&head).expect("it says its length");
        while self.filled < length {
            self.buffer.resize(length.max(self.buffer.len()), 0);
            self.read().await;
        }
        String::from_utf8_lossy(&self.buffer[..length]).into_owned()
    }

    /// Asks, and leaves in the middle of the answer.
    async fn leave(&mut self) {
        self.ask("/left?size=1000000", "").await;
        let _ = self.stream.set_zero_linger();
    }

    async fn ask(&mut self, target: &str, fields: &str) -> String {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", self.host);
        self.stream.write_all(request.as_bytes()).await.expect("it takes requests");
        loop {
            if let Some(end) = self.buffer[..self.filled].windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end + 2]).to_ascii_lowercase();
                assert!(head.starts_with("http/1.1 200 "), "{head}");
                self.let_go(end + 4);
                return head;
            }
            self.read().await;
        }
    }

    async fn skip_body(&mut self, head: &str) {
        if let Some(length) = length(head) {
            return self.skip(length).await;
        }
        loop {
            while !self.buffer[..self.filled].windows(2).any(|two| two == b"\r\n") {
                self.read().await;
            }
            let end = self.buffer[..self.filled].windows(2).position(|two| two == b"\r\n").expect("it was just found");
            let line = std::str::from_utf8(&self.buffer[..end]).expect("a chunk's length is text");
            let length = usize::from_str_radix(line, 16).expect("a chunk's length is a number");
            self.let_go(end + 2);
            self.skip(length + 2).await;
            if length == 0 {
                return;
            }
        }
    }

    async fn skip(&mut self, mut length: usize) {
        while length > 0 {
            if self.filled == 0 {
                self.read().await;
            }
            let skipped = length.min(self.filled);
            self.let_go(skipped);
            length -= skipped;
        }
    }

    async fn read(&mut self) {
        let read = self.stream.read(&mut self.buffer[self.filled..]).await.expect("it goes on");
        assert_ne!(read, 0, "the sidecar has closed a connection");
        self.filled += read;
    }

    fn let_go(&mut self, octets: usize) {
        self.buffer.copy_within(octets..self.filled, 0);
        self.filled -= octets;
    }
}

fn length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
}

/// An origin whose responses are as large as the query says: `size`, `chunked`, `vary`, `unstored`.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

async fn answer(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let (mut head, filling) = (Vec::with_capacity(1024), vec![b'x'; 64 << 10]);
    loop {
        match stream.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&head);
        let target = text.split(' ').nth(1).unwrap_or_default();
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let has = |name: &str| query.split('&').any(|part| part == name);
        let size = query.split('&').find_map(|part| part.strip_prefix("size=")?.parse().ok()).unwrap_or(1024);
        let framing = if has("chunked") { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {size}") };
        let cache = if has("unstored") { "no-store" } else { "max-age=3600" };
        let vary = if has("vary") { "Vary: Accept-Language\r\n" } else { "" };
        // One for each target, as an application makes it from what it sends.
        let tag =
            target.bytes().fold(0xcbf2_9ce4_8422_2325u64, |tag, octet| (tag ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3));
        let date = httpdate::fmt_http_date(SystemTime::now());
        let response = format!(
            "HTTP/1.1 200 OK\r\nDate: {date}\r\nServer: uvicorn\r\nContent-Type: application/json\r\n\
             ETag: \"{tag:016x}\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nCache-Control: {cache}\r\n{vary}{framing}\r\n\r\n"
        );
        let is_chunked = has("chunked");
        head.clear();
        if send(&mut stream, &response, size, is_chunked, &filling).await.is_err() {
            return;
        }
    }
}

async fn send(stream: &mut TcpStream, head: &str, size: usize, is_chunked: bool, filling: &[u8]) -> std::io::Result<()> {
    if size < filling.len() && !is_chunked {
        return stream.write_all(&[head.as_bytes(), &filling[..size]].concat()).await;
    }
    stream.write_all(head.as_bytes()).await?;
    let mut left = size;
    while left > 0 {
        let piece = left.min(filling.len());
        if is_chunked {
            stream.write_all(format!("{piece:x}\r\n").as_bytes()).await?;
        }
        stream.write_all(&filling[..piece]).await?;
        if is_chunked {
            stream.write_all(b"\r\n").await?;
        }
        left -= piece;
    }
    if is_chunked { stream.write_all(b"0\r\n\r\n").await } else { Ok(()) }
}

/// Connections at once.
const CLIENTS: usize = 32;
