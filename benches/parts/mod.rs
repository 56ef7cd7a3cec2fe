//! What benches do to one request without the network: rules, requests, stored responses and a store.

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use sidecache::clock::Clock;
use sidecache::rules::{Admission, CacheKey, Content, Forwarding, Pattern, Route, RuleSet};
use sidecache::semantics::vary::Selection;
use sidecache::semantics::{Lifetime, Source, StoredHead, Terms, Times};
use sidecache::stats::Stats;
use sidecache::store::{Held, MemoryOptions, Options, Store, StoredResponse};
use sidecache::tasks::Tasks;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A hundred routes, and a request as a browser's library sends it.
pub(crate) fn rules() -> RuleSet {
    let mut routes: Vec<Route> = (0..98).map(|i| route(&format!("/api/v1/resource{i}/{{id}}/part/{{part}}"))).collect();
    routes.push(route("/api/mcp/customer/{id}"));
    routes.push(route("/api/mcp/customer/{id}/churn-risk"));
    RuleSet::new(routes).expect("the patterns differ")
}

fn route(pattern: &str) -> Route {
    Route::new(pattern, Pattern::parse(pattern).expect("the pattern is valid"), Duration::from_secs(3600))
}

pub(crate) fn request(id: u32) -> Parts {
    let request = Request::get(format!("/api/mcp/customer/{id}"))
        .header(HOST, "backend.example:8080")
        .header(USER_AGENT, "python-httpx/0.28.1")
        .header(ACCEPT, "*/*")
        .header(ACCEPT_ENCODING, "gzip, deflate");
    request.body(()).expect("the request is valid").into_parts().0
}

pub(crate) fn stored(key: CacheKey, held: Held) -> StoredResponse {
    let now = SystemTime::now();
    // The values are parts of one buffer, as they come from a connection.
    let mut buffer = Bytes::from("application/jsonmax-age=3600\"33a64df551425fcc55e4d42a148795d9f25f89d4\"".to_owned());
    let mut value = |length: usize| HeaderValue::from_maybe_shared(buffer.split_to(length)).expect("it is visible ASCII");
    let fields: HeaderMap = [(CONTENT_TYPE, value(16)), (CACHE_CONTROL, value(12)), (ETAG, value(42))].into_iter().collect();
    let lifetime = Lifetime { duration: Duration::from_secs(3600), source: Source::MaxAge };
    let times = Times { requested: now, received: now };
    let head = StoredHead::new(StatusCode::OK, fields, times, Terms::plain(lifetime), Selection::empty());
    StoredResponse { key, head, body: Bytes::from(vec![b'x'; 2048]), tags: Box::default(), held }
}

pub(crate) fn key(rules: &RuleSet, request: &Parts) -> CacheKey {
    match rules.admit(request, &FORWARDING, Content::None, SystemTime::UNIX_EPOCH, |_| None) {
        Admission::Keyed(admitted) => admitted.key,
        _ => panic!("the request uses the cache"),
    }
}

/// A memory tier, and the generations on which a response to a request depends.
pub(crate) fn store() -> Arc<Store> {
    let options = Options { memory: MemoryOptions { bytes_max: 256 << 20 }, ..Options::default() };
    Store::open(options, Arc::new(Stats::new()), Tasks::default(), Clock::system())
}

pub(crate) fn held(store: &Store, rules: &RuleSet, request: &Parts) -> Held {
    let Admission::Keyed(admitted) = rules.admit(request, &FORWARDING, Content::None, SystemTime::UNIX_EPOCH, |_| None) else {
        panic!("the request uses the cache")
    };
    runtime().block_on(store.hold(admitted.scopes(request), &mut store.budget()))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be had")
}

const FORWARDING: Forwarding<'_> = Forwarding { scheme: "http", host: None };
