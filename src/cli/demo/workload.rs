//! The demo's load: which requests, how fast, and what became of each.

use super::origin::Endpoint;
use super::random::{Random, Zipf};
use crate::semantics::cache_status::CACHE_STATUS;
use bytes::Bytes;
use http::header::{HOST, HeaderMap};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use indicatif::ProgressBar;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval_at, timeout};

/// One of the paths that are asked for, and what the origin answers there.
pub(super) struct Page {
    endpoint: Endpoint,
    path: String,
    body: Bytes,
}

/// How requests are sent.
pub(super) struct Load {
    /// Where to, in turn.
    pub(super) to: Vec<SocketAddr>,
    /// What they call the service: the same wherever they are sent, as behind a load balancer.
    pub(super) host: String,
    /// Requests that may be under way at once, each on a connection that is kept alive.
    pub(super) at_once: usize,
    /// Requests a second, at most; `None` for each as soon as the one before it was answered.
    pub(super) rate: Option<u32>,
}

/// Who answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Memory,
    Redis,
    /// The origin, asked on behalf of an earlier request.
    Collapsed,
    Origin,
}

/// A request that was answered as it should.
pub(super) struct Sample {
    pub(super) endpoint: Endpoint,
    pub(super) source: Source,
    pub(super) latency: Duration,
}

/// What became of the requests.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) samples: Vec<Sample>,
    /// Responses with another body than the origin's.
    pub(super) wrong: u64,
    /// Requests without a response, or with another status than 200.
    pub(super) failed: u64,
    /// The first of either, in words.
    pub(super) trouble: Option<String>,
}

struct Driver {
    client: Client<HttpConnector, Empty<Bytes>>,
    load: Load,
    pages: Arc<Vec<Page>>,
    calls: Vec<usize>,
    next: AtomicUsize,
    until: Instant,
    progress: ProgressBar,
}

/// The pages of so many customers.
pub(super) fn pages(customers: usize) -> Vec<Page> {
    let page = |endpoint: Endpoint, id: String| Page { endpoint, path: endpoint.path(&id), body: endpoint.body(&id) };
    (0..customers).flat_map(|rank| Endpoint::ALL.map(|endpoint| page(endpoint, id(rank)))).collect()
}

/// The id of a customer; that of rank 0 is asked for most often.
pub(super) fn id(rank: usize) -> String {
    (FIRST_ID + rank).to_string()
}

/// Chooses which pages to ask for, one after the other: few customers are asked for often, and one request in three is for a
/// prediction.
pub(super) fn calls(pages: &[Page], count: usize, seed: u64) -> Vec<usize> {
    let (zipf, mut random) = (Zipf::new(pages.len() / Endpoint::ALL.len(), SKEW), Random::new(seed));
    let mut call = || {
        let endpoint = if random.within(0, 3) == 0 { Endpoint::ChurnRisk } else { Endpoint::Customer };
        zipf.choose(&mut random) * Endpoint::ALL.len() + endpoint as usize
    };
    (0..count).map(|_| call()).collect()
}

/// Asks for pages, and ends when all were asked for or the time is up.
pub(super) async fn drive(pages: &Arc<Vec<Page>>, calls: Vec<usize>, load: Load, progress: ProgressBar) -> Measured {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(load.at_once).build(connector);
    let (workers, rate) = (load.at_once as u32, load.rate);
    let (next, until) = (AtomicUsize::new(0), Instant::now() + TIME_LIMIT);
    let driver = Arc::new(Driver { client, load, pages: pages.clone(), calls, next, until, progress });
    let start = tokio::time::Instant::now();
    let mut running = JoinSet::new();
    for worker in 0..workers {
        // The workers take turns, evenly; one that was kept waiting skips its turns instead of making a burst of them.
        let pace = rate.map(|rate| {
            let turn = Duration::from_secs(1) / rate;
            let mut pace = interval_at(start + turn * worker, turn * workers);
            pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
            pace
        });
        running.spawn(driver.clone().work(pace));
    }
    let mut all = Measured::default();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(measured) => all.add(measured),
            Err(error) => all.failed(format!("a part of the load broke off: {error}")),
        }
    }
    all
}

impl Driver {
    async fn work(self: Arc<Driver>, mut pace: Option<Interval>) -> Measured {
        let mut measured = Measured::default();
        loop {
            if let Some(pace) = &mut pace {
                pace.tick().await;
            }
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(call) = self.calls.get(turn).filter(|_| Instant::now() < self.until) else {
                return measured;
            };
            self.ask(&self.pages[*call], self.load.to[turn % self.load.to.len()], &mut measured).await;
            self.progress.inc(1);
        }
    }

    async fn ask(&self, page: &Page, to: SocketAddr, measured: &mut Measured) {
        let url = format!("http://{to}{}", page.path);
        let request = Request::get(&url).header(HOST, &self.load.host).body(Empty::new()).expect("the parts are well-formed");
        let exchange = async {
            let (head, body) = self.client.request(request).await.map_err(in_words)?.into_parts();
            let body = body.collect().await.map_err(in_words)?.to_bytes();
            Ok::<_, String>((head, body))
        };
        // From before the request is sent until after its last octet was read.
        let sent = Instant::now();
        let answered = timeout(PATIENCE, exchange).await;
        let latency = sent.elapsed();
        match answered {
            Ok(Ok((head, _))) if head.status != StatusCode::OK => measured.failed(format!("{url}: {}", head.status)),
            Ok(Ok((_, body))) if body != page.body => measured.wrong(format!("{url}: the body is not the origin's")),
            Ok(Ok((head, _))) => {
                measured.samples.push(Sample { endpoint: page.endpoint, source: Source::of(&head.headers), latency });
            }
            Ok(Err(error)) => measured.failed(format!("{url}: {error}")),
            Err(_) => measured.failed(format!("{url}: no response within {} s", PATIENCE.as_secs())),
        }
    }
}

impl Source {
    /// Reads it from the `Cache-Status` of the cache nearest to us (RFC 9211 §2).
    fn of(fields: &HeaderMap) -> Source {
        let member = fields.get_all(CACHE_STATUS).iter().next_back().and_then(|value| value.to_str().ok()).unwrap_or_default();
        let says = |parameter: &str| member.split(';').skip(1).any(|part| part.trim() == parameter);
        match () {
            () if says("hit") && says("detail=redis") => Source::Redis,
            () if says("hit") => Source::Memory,
            () if says("collapsed") => Source::Collapsed,
            () => Source::Origin,
        }
    }

    pub(super) fn is_hit(self) -> bool {
        matches!(self, Source::Memory | Source::Redis)
    }
}

impl Measured {
    /// Requests that were sent.
    pub(super) fn requests(&self) -> u64 {
        self.samples.len() as u64 + self.wrong + self.failed
    }

    fn wrong(&mut self, trouble: String) {
        self.wrong += 1;
        self.trouble.get_or_insert(trouble);
    }

    fn failed(&mut self, trouble: String) {
        self.failed += 1;
        self.trouble.get_or_insert(trouble);
    }

    fn add(&mut self, other: Measured) {
        self.samples.extend(other.samples);
        self.wrong += other.wrong;
        self.failed += other.failed;
        self.trouble = self.trouble.take().or(other.trouble);
    }
}

/// An error with what caused it, which is often what says something.
fn in_words(error: impl Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(&format!(": {error}"));
        cause = error.source();
    }
    words
}

/// How much the workload prefers some customers: 0.99 is usual for caches (YCSB).
const SKEW: f64 = 0.99;

/// Looks like a customer number.
const FIRST_ID: usize = 1001;

/// A part of the load that takes longer is cut off: the machine is too slow for it, and the demo should end all the same.
const TIME_LIMIT: Duration = Duration::from_secs(18);

/// Many times what the slowest answer takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_source_is_read_from_cache_status() {
        let check = |members: &[&'static str], expected: Source| {
            let mut fields = HeaderMap::new();
            for member in members {
                fields.append(CACHE_STATUS, HeaderValue::from_static(member));
            }
            assert_eq!(Source::of(&fields), expected, "{members:?}");
        };
        check(&[], Source::Origin);
        check(&["sidecache; hit; ttl=3600; detail=memory"], Source::Memory);
        check(&["sidecache; hit; ttl=3600; detail=redis"], Source::Redis);
        check(&["sidecache; fwd=uri-miss; ttl=3600; stored"], Source::Origin);
        check(&["sidecache; fwd=uri-miss; ttl=3600; collapsed"], Source::Collapsed);
        check(&["sidecache; fwd=bypass; detail=no-route"], Source::Origin);
        check(&["other; hit", "sidecache; fwd=uri-miss"], Source::Origin);
    }

    #[test]
    fn calls_are_the_same_in_every_run_and_reach_both_endpoints() {
        let pages = pages(20);
        assert_eq!(calls(&pages, 100, 1), calls(&pages, 100, 1));
        assert_ne!(calls(&pages, 100, 1), calls(&pages, 100, 2));
        let calls = calls(&pages, 3000, 1);
        let predictions = calls.iter().filter(|call| pages[**call].endpoint == Endpoint::ChurnRisk).count();
        assert!((900..1100).contains(&predictions), "{predictions}");
        assert_eq!(pages[0].path, "/api/mcp/customer/1001");
        assert_eq!(pages[39].path, "/api/mcp/customer/1020/churn-risk");
    }
}
