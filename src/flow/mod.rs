//! One request, from arrival to response.
//!
//! [`Proxy::serve`] is the whole story; the files are its steps.
//!
//! | file | step |
//! |---|---|
//! | `arrival` | read the request, or refuse it |
//! | `plan` | what may we do with what we have? |
//! | `fetch` | ask the origin for something that may be stored, once for all who want it |
//! | `fill` | the fetch itself, a task of its own |
//! | `collapse`, `spool` | who leads and who follows; the body that they share |
//! | `settle` | what may we keep of what we got? |
//! | `pass` | relay a request and its response past the cache |
//! | `outgoing` | the fields that a proxy changes |
//! | `respond`, `body`, `stall` | the response to the client, who may stall |
//! | `outcome`, `access` | how it ended: header, counters, log |
//! | `tunnel` | WebSockets |

mod access;
mod arrival;
mod body;
mod collapse;
mod fetch;
mod fill;
mod outcome;
mod outgoing;
mod pass;
mod plan;
mod respond;
mod settle;
mod spool;
mod stall;
mod tunnel;

pub use arrival::Client;
pub use body::{Body, ClientBodyError};

use crate::clock::Clock;
use crate::origin::Origin;
use crate::rules::{Admission, Admitted, Bypass, RuleSet};
use crate::semantics::Forward;
use crate::semantics::directives::{self, RequestDirectives};
use crate::stats::{Ending, Stats};
use crate::store::{Lookup, Store};
use crate::tasks::Tasks;
use access::{AccessRecord, End};
use arrival::Arrival;
use collapse::Collapser;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use ipnet::IpNet;
use outcome::Outcome;
use plan::{Plan, Wanted};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tracing::debug;

/// All that a request needs; shared by all requests.
pub struct Proxy {
    rules: RuleSet,
    store: Arc<Store>,
    origin: Origin,
    collapser: Arc<Collapser>,
    stats: Arc<Stats>,
    tasks: Tasks,
    clock: Clock,
    options: Options,
}

/// What one request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `false` forwards everything and stores nothing.
    pub enabled: bool,
    /// The largest body that is stored.
    pub body_bytes_max: usize,
    /// Requests that may follow one fetch; more fetch for themselves.
    pub followers_max: usize,
    /// How long a key is remembered whose response could not be stored; its requests don't wait for each other meanwhile.
    pub remember_unstorable: Duration,
    /// How long a client may send nothing of a request's body, or take nothing of a response's.
    pub client_idle_timeout: Duration,
    /// Peers whose `X-Forwarded-*` fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Keys the hash of credentials in cache keys. Replicas that share a Redis need the same one.
    pub secret: Option<String>,
    /// Writes a line to the log for each request.
    pub access_log: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            enabled: true,
            body_bytes_max: 8 << 20,
            followers_max: 10_000,
            remember_unstorable: Duration::from_secs(10),
            client_idle_timeout: Duration::from_secs(60),
            trusted_proxies: Vec::new(),
            secret: None,
            access_log: false,
        }
    }
}

/// What answers the requests of a listener.
pub trait Answer: Send + Sync + 'static {
    /// Answers a request.
    fn answer(self: Arc<Self>, request: Request<Incoming>, client: Client) -> impl Future<Output = Response<Body>> + Send;
}

impl Answer for Proxy {
    async fn answer(self: Arc<Proxy>, request: Request<Incoming>, client: Client) -> Response<Body> {
        self.serve(request, client).await
    }
}

impl Proxy {
    /// Puts the parts together.
    pub fn new(
        rules: RuleSet,
        store: Arc<Store>,
        origin: Origin,
        stats: Arc<Stats>,
        tasks: Tasks,
        clock: Clock,
        options: Options,
    ) -> Arc<Proxy> {
        let collapser = Collapser::new(options.followers_max, options.remember_unstorable, clock.clone());
        Arc::new(Proxy { rules, store, origin, collapser, stats, tasks, clock, options })
    }

    /// Answers a request.
    pub async fn serve(self: &Arc<Proxy>, request: Request<Incoming>, client: Client) -> Response<Body> {
        let (now, started) = (self.clock.now(), Instant::now());
        let arrival = match Arrival::read(request, client, &self.options) {
            Ok(arrival) => arrival,
            Err(why) => {
                self.stats.bad_requests.inc();
                return respond::refused(why);
            }
        };
        let is_http2 = arrival.parts.version == Version::HTTP_2;
        let line = self.options.access_log.then(|| (arrival.parts.method.clone(), arrival.parts.uri.to_string()));
        let (mut response, outcome, route) = match self.admit(&arrival) {
            Admission::Past { route, why } => {
                let (response, outcome) = self.pass(arrival, forward_of(&why), why.as_str()).await;
                outcome.count(&self.stats, route, None, started.elapsed());
                (response, outcome, route)
            }
            Admission::Keyed(admitted) => {
                let route = Some(admitted.index);
                let fields = &arrival.parts.headers;
                let asked = directives::request(fields);
                let found = self.store.lookup(&admitted.key, fields, now).await;
                let redis_was_asked = self.store.has_redis() && !matches!(found, Lookup::Unavailable);
                let (response, outcome) = match self.plan(&arrival, &asked, &admitted, found, now) {
                    Plan::Serve(tier, stored) => {
                        let response = respond::from_store(&arrival.parts.method, fields, &stored, now);
                        (response, Outcome::hit(tier, stored.head.ttl(now)))
                    }
                    Plan::Validate(stored, why) => self.fetch(&arrival, admitted, &asked, why, Some(stored), now).await,
                    Plan::Fetch(why) => self.fetch(&arrival, admitted, &asked, why, None, now).await,
                    Plan::Pass(why, detail) => self.pass(arrival, why, detail).await,
                    Plan::Refuse => {
                        let outcome = Outcome::forwarded(Ending::Error, Forward::Request, "only-if-cached");
                        (respond::only_if_cached(), outcome)
                    }
                };
                outcome.count(&self.stats, route, Some(redis_was_asked), started.elapsed());
                (response, outcome, route)
            }
        };
        outcome.annotate(&mut response);
        if is_http2 {
            response = response.map(|body| body.watched(self.options.client_idle_timeout));
        }
        self.log(&outcome, route);
        match line {
            None => response,
            Some((method, target)) => self.recorded(response, &outcome, route, client, started, method, target),
        }
    }

    /// The state of the tiers and the counters, for those who operate them.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The counters.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Fetches under way that others may follow.
    pub fn fetches_under_way(&self) -> usize {
        self.collapser.under_way()
    }

    fn plan(
        &self,
        arrival: &Arrival,
        asked: &RequestDirectives,
        admitted: &Admitted<'_>,
        found: Lookup,
        now: SystemTime,
    ) -> Plan {
        let wanted = Wanted { method: &arrival.parts.method, fields: &arrival.parts.headers, asked, admitted };
        plan::plan(&wanted, found, || self.collapser.is_unstorable(&admitted.key, now), now)
    }

    fn admit(&self, arrival: &Arrival) -> Admission<'_> {
        match (self.options.enabled, &arrival.upgrade) {
            (true, None) => self.rules.admit(&arrival.parts, &arrival.forwarding(), arrival.has_body),
            (true, Some(_)) => Admission::Past { route: None, why: Bypass::Upgrade },
            (false, _) => Admission::Past { route: None, why: Bypass::Disabled },
        }
    }

    fn log(&self, outcome: &Outcome, route: Option<usize>) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let route = &self.stats.route(route).name;
        match outcome.is_hit() {
            true => debug!(route, tier = outcome.detail(), "cache_hit"),
            false => debug!(route, cache_status = outcome.words(), "cache_miss"),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one line of the log has so many facts, and each has another owner")]
    fn recorded(
        &self,
        response: Response<Body>,
        outcome: &Outcome,
        route: Option<usize>,
        client: Client,
        started: Instant,
        method: http::Method,
        target: String,
    ) -> Response<Body> {
        let record = AccessRecord {
            client: client.address,
            method,
            target,
            route: self.stats.route(route).name.clone(),
            status: response.status(),
            cache: outcome.words(),
            started,
            octets: 0,
            end: End::ClientLeft,
            length: None,
        };
        response.map(|body| body.recorded(record))
    }
}

/// RFC 9211 §2.2 has words for two kinds of going past the cache.
fn forward_of(why: &Bypass) -> Forward {
    match why {
        Bypass::Method => Forward::Method,
        _ => Forward::Bypass,
    }
}
