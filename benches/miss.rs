//! What a miss costs, step by step, without the network, and whole exchanges over loopback beside it: `cargo bench --bench miss`.

mod parts;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use parts::{held, key, request, rules, store, stored};
use sidecache::Sidecar;
use sidecache::clock::Clock;
use sidecache::config::{self, Sources};
use sidecache::semantics::storage::{self, Policy, Sharing};
use sidecache::semantics::vary::{Selection, Vary};
use sidecache::semantics::{Staleness, StoredHead, Times, directives};
use sidecache::store::StoredResponse;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// The head of a response as an origin sends it.
fn fields() -> HeaderMap {
    [
        (DATE, "Mon, 30 Nov 2026 10:00:00 GMT"),
        (CONTENT_TYPE, "application/json"),
        (CONTENT_LENGTH, "2048"),
        (CACHE_CONTROL, "public, max-age=3600, stale-while-revalidate=60"),
        (ETAG, "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
        (VARY, "Accept-Encoding, Accept-Language"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
    .into_iter()
    .collect()
}

fn policy(ttl: Duration) -> Policy<'static> {
    Policy {
        rule_ttl: Some(ttl),
        ttl_by_status: &[],
        overrides: false,
        staleness: Staleness::default(),
        strip_set_cookie: false,
        shared: Sharing::NoCredentials,
        takes_parts: false,
        targets: &[],
    }
}

/// The generations that a response will depend on, held before the origin is asked.
#[divan::bench]
fn hold(bencher: divan::Bencher<'_, '_>) {
    let (rules, request, store) = (rules(), request(42), store());
    bencher.bench(|| held(&store, &rules, divan::black_box(&request)));
}

/// `Cache-Control` of a response, read.
#[divan::bench]
fn read_directives(bencher: divan::Bencher<'_, '_>) {
    let fields = fields();
    bencher.bench(|| directives::response(divan::black_box(&fields)));
}

/// Whether a response may be stored, and on which terms: the pure part of settling.
#[divan::bench]
fn settle(bencher: divan::Bencher<'_, '_>) {
    let (fields, now, ttl) = (fields(), SystemTime::now(), Duration::from_secs(300));
    bencher.bench(|| storage::decide(StatusCode::OK, divan::black_box(&fields), now, &policy(ttl)).expect("it may be stored"));
}

/// The head that is stored: its fields, and what hits need of them, parsed once.
#[divan::bench]
fn make_head(bencher: divan::Bencher<'_, '_>) {
    let (fields, request, now) = (fields(), request(42), SystemTime::now());
    let terms = storage::decide(StatusCode::OK, &fields, now, &policy(Duration::from_secs(300))).expect("it may be stored");
    bencher.bench(|| {
        let Vary::Fields(names) = Vary::of(divan::black_box(&fields)) else { panic!("it varies on fields") };
        let selection = Selection::of(&names, &request.headers);
        StoredHead::new(StatusCode::OK, fields.clone(), Times { requested: now, received: now }, terms, selection)
    });
}

/// A new response of 2 KiB into memory, which is full, so that another goes.
#[divan::bench]
fn keep(bencher: divan::Bencher<'_, '_>) {
    let (rules, store, first) = (rules(), store(), request(0));
    let held = held(&store, &rules, &first);
    let mut id = 0;
    let mut next = move || -> StoredResponse {
        id += 1;
        stored(key(&rules, &request(id)), held.clone())
    };
    // Twice what it holds.
    (0..200_000).for_each(|_| drop(store.insert(next(), None)));
    bencher.with_inputs(next).bench_local_values(|response| store.insert(response, None));
}

/// What the exchange over loopback is about.
const EXCHANGES: [&str; 3] = ["hit", "forwarded", "miss"];

/// A whole exchange over loopback: client, sidecache and origin take turns on one thread. What a forward or a miss costs more than a
/// hit has the origin in it.
#[divan::bench(args = EXCHANGES)]
fn exchange(bencher: divan::Bencher<'_, '_>, what: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
    let (sidecar, mut client) = runtime.block_on(async {
        let sidecar = start(origin().await).await;
        let client = TcpStream::connect(sidecar.address).await.expect("it accepts");
        client.set_nodelay(true).expect("a socket has this option");
        (sidecar, client)
    });
    let (mut id, mut buffer) = (0_u64, vec![0; 8 << 10]);
    bencher.bench_local(|| {
        id += 1;
        let target = match what {
            "hit" => "/stored/1".to_owned(),
            "miss" => format!("/stored/{id}"),
            _ => format!("/other/{id}"),
        };
        runtime.block_on(ask(&mut client, &target, &mut buffer));
    });
    drop((client, sidecar));
}

async fn start(origin: SocketAddr) -> Sidecar {
    let toml = format!("[origin]\nurl = \"http://{origin}\"\n[[route]]\nmatch = \"/stored/{{id}}\"\nttl = \"1h\"\n");
    let sources = Sources::new().text("proxy.toml", &toml).set("server.listen=127.0.0.1:0").set("admin.listen=off");
    let config = config::load(&sources).unwrap_or_else(|problems| panic!("the configuration is right: {problems}"));
    Sidecar::start(config, Clock::system()).await.expect("it starts")
}

/// An origin with nothing in it: as soon as a head has come, it answers 2 KiB.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port can be had");
    let address = listener.local_addr().expect("it has one");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=3600\r\nContent-Length: 2048\r\n\r\n";
    let response = [head.as_bytes(), &[b'x'; 2048]].concat();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let response = response.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 4 << 10];
                let mut filled = 0;
                while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]).await {
                    filled += read;
                    if buffer[..filled].ends_with(b"\r\n\r\n") {
                        filled = 0;
                        if stream.write_all(&response).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

async fn ask(client: &mut TcpStream, target: &str, buffer: &mut [u8]) {
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: backend.example:8080\r\nUser-Agent: python-httpx/0.28.1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await.expect("it takes requests");
    let mut filled = 0;
    loop {
        filled += client.read(&mut buffer[filled..]).await.expect("it answers");
        if let Some(head) = memchr::memmem::find(&buffer[..filled], b"\r\n\r\n")
            && filled >= head + 4 + 2048
        {
            assert!(buffer.starts_with(b"HTTP/1.1 200"));
            return;
        }
    }
}
