//! How many instructions of the process a request costs, as valgrind counts them: `cargo bench --bench instructions`.
//!
//! A real sidecar answers over a real socket, once so many requests and once so many more; what the second run took beyond the first
//! is divided by the difference. Unlike time, this is the same whatever else the machine does. It fails where a figure is more than 3 %
//! above the recorded one, in `benches/instructions.toml`; `-- --record` records what was counted. Valgrind knows no SHA instructions, so
//! that the hash of a key counts for more than it costs on a machine that has them. Other compilers, and other processors, give other
//! figures: record them anew then.
//!
//! `cargo test --bench instructions` does the same with the build that the tests use, for which nothing has to be built: `tests/run` does so
//! for each change. Its figures are some ten times larger, and no measure of speed; but what makes a request do more makes them grow as well.

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// What is asked for, again and again.
struct Work {
    name: &'static str,
    /// The target of the request with this number.
    target: fn(u32) -> String,
    /// What `Cache-Status` says of each response but the first.
    status: &'static str,
    /// Redis keeps what is stored, and memory nothing.
    in_redis: bool,
    over_http2: bool,
}

const WORKS: [Work; 5] = [HIT, HIT_IN_REDIS, HIT_OVER_HTTP2, MISS, FORWARDED];

const HIT: Work = Work { name: "hit", target: |_| "/customers/42".to_owned(), status: "hit", in_redis: false, over_http2: false };
const HIT_IN_REDIS: Work = Work { name: "hit-in-redis", in_redis: true, ..HIT };
const HIT_OVER_HTTP2: Work = Work { name: "hit-over-http2", over_http2: true, ..HIT };
const MISS: Work = Work { name: "miss", target: |number| format!("/customers/{number}"), status: "fwd=uri-miss", ..HIT };
const FORWARDED: Work = Work { name: "forwarded", target: |number| format!("/elsewhere/{number}"), status: "fwd=bypass", ..HIT };

/// A figure may be so much above the recorded one.
const TOLERANCE: f64 = 0.03;

/// The build whose figures these are.
const BUILD: &str = if cfg!(debug_assertions) { "dev" } else { "release" };

/// Requests of the two runs.
const REQUESTS: [u32; 2] = if cfg!(debug_assertions) { [100, 500] } else { [500, 4_500] };

/// Figures by the build and what is counted.
type Figures = BTreeMap<String, BTreeMap<String, u64>>;

fn main() -> ExitCode {
    let records = std::env::args().any(|argument| argument == "--record");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml");
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("instructions: valgrind is missing; install the package of that name");
        return ExitCode::FAILURE;
    }
    let mut figures: Figures = match fs::read_to_string(&file) {
        Ok(text) => toml::from_str(&text).expect("the recorded figures are numbers with names"),
        Err(_) => Figures::new(),
    };
    let recorded = figures.remove(BUILD).unwrap_or_default();
    let mut counted = BTreeMap::new();
    let mut has_grown = false;
    for work in &WORKS {
        let instructions = count(work);
        counted.insert(work.name.to_owned(), instructions);
        let compared = match recorded.get(work.name) {
            None => "not recorded yet".to_owned(),
            Some(before) => {
                let growth = instructions as f64 / *before as f64 - 1.0;
                has_grown |= growth > TOLERANCE;
                format!("recorded {before}, {:+.1} %", growth * 100.0)
            }
        };
        println!("{:<14} {instructions:>8} instructions a request, {BUILD} ({compared})", work.name);
    }
    if records {
        figures.insert(BUILD.to_owned(), counted);
        let head = "# Instructions a request, as `cargo bench --bench instructions -- --record` counted them, and `cargo test` in its stead.\n";
        let figures = toml::to_string(&figures).expect("names and numbers can be written");
        fs::write(&file, format!("{head}{figures}")).expect("the figures can be recorded");
        return ExitCode::SUCCESS;
    }
    let is_complete = WORKS.iter().all(|work| recorded.contains_key(work.name));
    if has_grown || !is_complete {
        eprintln!(
            "instructions: more than 3 % above the recorded figures, or not recorded; if that is meant, record them: -- --record"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Counts the instructions of a request.
fn count(work: &Work) -> u64 {
    let [fewer, more] = REQUESTS.map(|requests| run(work, requests));
    (more - fewer) / u64::from(REQUESTS[1] - REQUESTS[0])
}

/// Counts the instructions of a sidecar's whole life, in which it answers so many requests.
fn run(work: &Work, requests: u32) -> u64 {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let origin = origin();
    let (config, counts) = (directory.path().join("proxy.toml"), directory.path().join("counts"));
    fs::write(&config, "[[route]]\nmatch = \"/customers/{id}\"\nttl = \"1h\"\ntags = [\"customer:{id}\"]\n")
        .expect("it can be written");
    let address = free_address();
    let redis = work.in_redis.then(|| Redis::start(directory.path()));
    let memory = if work.in_redis { "0" } else { "64MiB" };
    let redis_url = redis.as_ref().map(|redis| format!("redis.url=redis://{}", redis.address));
    let mut sidecar = Ended(
        Command::new("valgrind")
            .args(["--tool=callgrind", &format!("--callgrind-out-file={}", counts.display()), env!("CARGO_BIN_EXE_sidecache")])
            .args(["serve", "--config", &config.display().to_string()])
            .args(["--set", &format!("server.listen={address}"), "--set", "server.workers=1", "--set", "server.drain_wait=0s"])
            .args([
                "--set",
                &format!("origin.url=http://{origin}"),
                "--set",
                "admin.listen=off",
                "--set",
                &format!("memory.max_size={memory}"),
            ])
            .args(redis_url.iter().flat_map(|url| ["--set", url]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("valgrind starts"),
    );
    let mut client = match work.over_http2 {
        false => Client::Http1(BufReader::new(connect(address))),
        true => Client::over_http2(connect(address)),
    };
    if work.in_redis {
        // It is forwarded until Redis is there, and until what was stored is in it.
        let begun = Instant::now();
        while !client.get(&(work.target)(0)).contains("detail=redis") {
            assert!(begun.elapsed() < Duration::from_secs(60), "Redis has nothing");
            thread::sleep(Duration::from_millis(20));
        }
        // How many requests that took is chance.
        sidecar.count_from_now_on();
    }
    for number in 0..requests {
        let status = client.get(&(work.target)(number));
        assert!(number == 0 || status.contains(work.status), "request {number} of {}: {status}", work.name);
    }
    sidecar.end();
    let counts = fs::read_to_string(counts).expect("valgrind has counted");
    let total = counts.lines().find_map(|line| line.strip_prefix("totals: ")).expect("there is a total");
    total.trim().parse().expect("it is a number")
}

/// A Redis of its own.
struct Redis {
    _server: Ended,
    address: SocketAddr,
}

impl Redis {
    fn start(directory: &Path) -> Redis {
        let address = free_address();
        let server = Command::new("redis-server")
            .args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        Redis { _server: Ended(server), address }
    }
}

/// A process that ends with this.
struct Ended(Child);

impl Ended {
    /// Has callgrind forget what it has counted.
    fn count_from_now_on(&self) {
        let control = Command::new("callgrind_control").args(["--zero", &self.0.id().to_string()]).output();
        let said = control.expect("callgrind_control comes with valgrind");
        let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        assert!(said.status.success() && out.contains("OK"), "callgrind_control: {out}{err}");
    }

    /// Asks it to end, and waits until it has.
    fn end(&mut self) {
        let process = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("it is running");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who asks, over one connection.
enum Client {
    Http1(BufReader<TcpStream>),
    Http2(Runtime, SendRequest<Bytes>),
}

impl Client {
    fn over_http2(stream: TcpStream) -> Client {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("there is a runtime");
        let sender = runtime.block_on(async {
            stream.set_nonblocking(true).expect("it is a socket");
            let stream = tokio::net::TcpStream::from_std(stream).expect("it is a socket");
            // Windows so wide that frames which open them are seldom.
            let (wide, stream_wide) = (1 << 30, 1 << 20);
            let opening = h2::client::Builder::new()
                .initial_connection_window_size(wide)
                .initial_window_size(stream_wide)
                .handshake::<_, Bytes>(stream);
            let (sender, connection) = opening.await.expect("the sidecar speaks HTTP/2");
            tokio::spawn(connection);
            sender
        });
        Client::Http2(runtime, sender)
    }

    /// Asks for a target, reads all of the response, and gives its `Cache-Status`.
    fn get(&mut self, target: &str) -> String {
        let (status, length) = match self {
            Client::Http1(stream) => get_over_http1(stream, target),
            Client::Http2(runtime, sender) => runtime.block_on(get_over_http2(sender, target)),
        };
        assert_eq!(length, BODY_BYTES, "{status}");
        status
    }
}

/// The `Cache-Status` of a response, and how long it is.
fn get_over_http1(stream: &mut BufReader<TcpStream>, target: &str) -> (String, usize) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).expect("the sidecar reads");
    let (mut status, mut length, mut line) = (String::new(), 0, String::new());
    while stream.read_line(&mut line).expect("the sidecar answers") > 2 {
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            match name {
                "cache-status" => status = value.to_owned(),
                "content-length" => length = value.parse().expect("it is a number"),
                _ => {}
            }
        }
        line.clear();
    }
    stream.read_exact(&mut vec![0; length]).expect("the body is whole");
    (status, length)
}

async fn get_over_http2(sender: &mut SendRequest<Bytes>, target: &str) -> (String, usize) {
    let request = Request::get(format!("http://localhost{target}")).header("user-agent", "bench").header("accept", "*/*");
    let (response, _) = sender.send_request(request.body(()).expect("it is one"), true).expect("the connection is open");
    let (head, mut body) = response.await.expect("the sidecar answers").into_parts();
    let status = head.headers.get("cache-status").and_then(|status| status.to_str().ok()).unwrap_or_default();
    let mut length = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.expect("the body is whole");
        length += piece.len();
        body.flow_control().release_capacity(piece.len()).expect("it was taken");
    }
    (status.to_owned(), length)
}

/// Connects to a process that takes its time to start.
fn connect(address: SocketAddr) -> TcpStream {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true).expect("it is a socket");
                stream.set_read_timeout(Some(Duration::from_secs(30))).expect("it is a socket");
                return stream;
            }
            Err(error) if begun.elapsed() > Duration::from_secs(60) => panic!("the sidecar does not listen: {error}"),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// An address that nobody listens on.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    listener.local_addr().expect("it has an address")
}

/// Starts an origin that has the same to say to everybody.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    let address = listener.local_addr().expect("it has an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(stream: TcpStream) -> io::Result<()> {
    let fields =
        "Content-Type: application/json\r\nCache-Control: max-age=3600\r\nETag: \"33a64df551425fcc\"\r\nServer: bench\r\n";
    let response = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {BODY_BYTES}\r\n\r\n{}", "x".repeat(BODY_BYTES));
    let (mut reader, mut writer, mut line) = (BufReader::new(stream.try_clone()?), stream, String::new());
    writer.set_nodelay(true)?;
    while reader.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            writer.write_all(response.as_bytes())?;
        }
        line.clear();
    }
    Ok(())
}

const BODY_BYTES: usize = 2048;
