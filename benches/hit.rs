//! What a hit costs, step by step, without the network: `cargo bench --bench hit`.

mod parts;

use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use parts::{held, key, request, rules, store, stored};
use sidecache::rules::CacheKey;
use sidecache::semantics::cache_status::CacheStatus;
use sidecache::semantics::vary::Selection;
use sidecache::semantics::{age, directives};
use sidecache::server::read_in_pieces;
use sidecache::stats::{Ending, Stats};
use sidecache::store::{EncryptionKey, Lookup, RedisOptions, StoredResponse, Trial};
use std::time::{Duration, SystemTime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// The octets of a request, looked at on their way to hyper.
#[divan::bench]
fn read_framing(bencher: divan::Bencher<'_, '_>) {
    let octets = b"GET /api/mcp/customer/42 HTTP/1.1\r\nHost: backend.example:8080\r\nUser-Agent: python-httpx/0.28.1\r\n\
        Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\r\n";
    bencher.bench(|| assert!(read_in_pieces(divan::black_box(octets), octets.len()).is_some()));
}

/// Route match, normal form, kinds of fields, key.
#[divan::bench]
fn admit(bencher: divan::Bencher<'_, '_>) {
    let (rules, request) = (rules(), request(42));
    bencher.bench(|| key(&rules, divan::black_box(&request)));
}

/// Look-up in memory, among ten thousand keys, with the key's parts compared, and the generations checked.
#[divan::bench]
fn look_up(bencher: divan::Bencher<'_, '_>) {
    let (rules, store) = (rules(), store());
    let requests: Vec<Parts> = (0..10_000).map(request).collect();
    let keys: Vec<CacheKey> = requests.iter().map(|request| key(&rules, request)).collect();
    for (key, request) in keys.iter().zip(&requests) {
        let held = held(&store, &rules, request);
        store.insert(stored(key.clone(), held), None);
    }
    let (now, mut next) = (SystemTime::now(), 0);
    bencher.bench_local(|| {
        next = (next + 7_919) % keys.len();
        let found = store.lookup_memory(&keys[next], &requests[next].headers, now);
        assert!(matches!(found, Lookup::Found(..)));
    });
}

/// What the request asks, whether the stored response is fresh, for how long, and whether it is to be refreshed early.
#[divan::bench(args = ["", "max-age=600, min-fresh=10"])]
fn decide(bencher: divan::Bencher<'_, '_>, cache_control: &str) {
    let (rules, mut request) = (rules(), request(42));
    let stored = stored(key(&rules, &request), held(&store(), &rules, &request));
    if !cache_control.is_empty() {
        request.headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_str(cache_control).expect("it is visible ASCII"));
    }
    let now = SystemTime::now();
    bencher.bench(|| {
        let asked = directives::request(divan::black_box(&request.headers));
        let head = &stored.head;
        let is_too_old = asked.max_age.is_some_and(|limit| age::current(head, now) > limit);
        let is_too_brief = asked.min_fresh.is_some_and(|wanted| head.remaining(now) < wanted);
        let is_due = head.is_due_early(now, || 0.5);
        !(asked.no_cache || is_too_old || is_too_brief || is_due) && head.is_fresh(now) && head.ttl(now) > 0
    });
}

/// Whether a request selects the stored response, by the fields that browsers send: as they were stored, or written otherwise.
#[divan::bench(args = ["gzip, deflate, br, zstd", "zstd,br;q=1.0, gzip , deflate"])]
fn select(bencher: divan::Bencher<'_, '_>, accept_encoding: &str) {
    let names = [http::header::ACCEPT_ENCODING, http::header::ACCEPT_LANGUAGE];
    let fields = |accept_encoding: &str| -> HeaderMap {
        let values =
            [accept_encoding, "en-GB,en;q=0.9,de;q=0.8"].map(|value| HeaderValue::from_str(value).expect("it is visible ASCII"));
        names.iter().cloned().zip(values).collect()
    };
    let selection = Selection::of(&names, &fields("gzip, deflate, br, zstd"));
    let request = fields(accept_encoding);
    bencher.bench(|| assert!(selection.matches(divan::black_box(&request))));
}

/// The fields of the response: the stored ones, `Age`, `Cache-Status`. As a response is kept, and as it came.
#[divan::bench(args = ["kept", "came"])]
fn fields(bencher: divan::Bencher<'_, '_>, way: &str) {
    let (rules, request) = (rules(), request(42));
    let mut stored = stored(key(&rules, &request), held(&store(), &rules, &request));
    if way == "kept" {
        stored.head = stored.head.compact();
    }
    bencher.bench(|| {
        let mut fields = divan::black_box(&stored).head.fields().into_owned();
        fields.insert(http::header::AGE, HeaderValue::from(17u64));
        fields.append(http::HeaderName::from_static("cache-status"), CacheStatus::hit(3583).detail("memory").render());
        fields
    });
}

/// `Cache-Status` alone.
#[divan::bench]
fn explain(bencher: divan::Bencher<'_, '_>) {
    bencher.bench(|| CacheStatus::hit(divan::black_box(3583)).detail("memory").render());
}

/// The counters of a hit.
#[divan::bench]
fn count(bencher: divan::Bencher<'_, '_>) {
    let counters = Stats::new().counters(["customer"]);
    bencher.bench(|| {
        let route = counters.of(Some(0));
        route.hits_memory.inc();
        route.ended(Ending::HitMemory, Duration::from_micros(12));
    });
}

/// The ways in which a value in Redis is protected: without a secret, with one, and with keys.
const WAYS: [&str; 3] = ["checksum", "code", "sealed"];

fn trial(way: &str) -> Trial {
    let mut options = RedisOptions::new("redis://h");
    options.secret = (way != "checksum").then(|| "0123456789abcdef".to_owned());
    if way == "sealed" {
        options.encryption = vec![EncryptionKey { name: "2026-11".to_owned(), octets: [7; 32] }];
    }
    Trial::new(&options)
}

const NAME: &str = "sidecache:2:{00112233445566778899aabbccddeeff}";

fn response() -> StoredResponse {
    let (rules, request) = (rules(), request(1));
    let held = held(&store(), &rules, &request);
    stored(key(&rules, &request), held)
}

/// A value of Redis read into a response of 2 KiB, and nothing of the network.
#[divan::bench(args = WAYS)]
fn read_from_redis(bencher: divan::Bencher<'_, '_>, way: &str) {
    let (trial, now) = (trial(way), SystemTime::now());
    let ends = now + Duration::from_secs(60);
    let value = trial.write(NAME, &response(), ends);
    assert!(trial.read(NAME, value.clone(), now));
    bencher.with_inputs(|| value.clone()).bench_values(|value| trial.read(NAME, value, now));
}

/// A response of 2 KiB made into a value of Redis.
#[divan::bench(args = WAYS)]
fn write_to_redis(bencher: divan::Bencher<'_, '_>, way: &str) {
    let (trial, now, response) = (trial(way), SystemTime::now(), response());
    bencher.bench(|| trial.write(NAME, &response, now));
}
